"""The documentation names only files, headings, make targets, settings, arguments and families that exist."""

import re
from collections import Counter
from pathlib import Path

import pytest

from exporter.config.environment import ENV_FILE
from exporter.config.options import OPTIONS
from exporter.web.self_metrics import OWN_FAMILIES
from tests.live.examples import blocks
from tests.live.processes import ROOT
from tests.recorded import FAMILIES, VERSIONS

PAGES = sorted(path for folder in (".", "docs", "bench", "tests/recordings") for path in (ROOT / folder).glob("*.md"))
RULES = sorted((ROOT / "monitoring").glob("**/*.y*ml"))

TARGETS = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
VARIABLES = {option.variable for option in OPTIONS} | {ENV_FILE}
VARIABLES |= {f"{option.variable}_FILE" for option in OPTIONS if option.secret}
FLAGS = {flag for option in OPTIONS for flag in option.flags} | {"--help", "--version"}

#: Arguments of other programs in the text.
OTHERS = {
    *("--build", "--volumes"),  # docker compose
    *("--upgrade",),  # uv
    *("--ini", "--set"),  # uwsgi
    *("--quick", "--showmax", "--gopaytech"),  # the benchmark
    *("--seconds", "--seed"),  # the soak test
    *("--cert", "--key", "--cacert", "--user"),  # curl
    *("--since", "--no-pager"),  # journalctl
    *("--patroni.host", "--patroni.port", "--web.listen-address", "--web.telemetry-path"),  # gopaytech's exporter
}

#: The names of families and labels of other exporters, by page.
FOREIGN = {
    "docs/from-gopaytech.md": {
        "patroni_cluster_node_role",
        "patroni_cluster_node_state",
        "patroni_cluster_node_static",
        "patroni_node_up",
    },
    "docs/from-pgscv.md": {
        "patroni_last_timeline_change_seconds",
        "patroni_loop_wait",
        "patroni_maximum_lag_on_failover",
        "patroni_node_name",
        "patroni_retry_timeout",
        "patroni_ttl",
        "service_id",
        "service_type",
    },
}

#: The files that the example in CONTRIBUTING.md creates.
EXAMPLE = {"exporter/collectors/patroni_watchdog.py", "tests/collectors/test_patroni_watchdog.py"}


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


each_page = pytest.mark.parametrize("page", PAGES, ids=name)


def without_code(text: str) -> str:
    return re.sub(r"(?ms)^```.*?^```$", "", text)


def commands(text: str) -> list[str]:
    """The commands in the console blocks, without comments."""
    return [line.partition(" #")[0] for line in re.findall(r"(?m)^\$ (.*)$", "".join(blocks(text)))]


def anchors(text: str) -> set[str]:
    """The anchors that GitHub gives the headings of a page."""
    seen: Counter[str] = Counter()
    found = set()
    for heading in re.findall(r"^#+ (.+)$", without_code(text), re.MULTILINE):
        anchor = re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
        found.add(f"{anchor}-{seen[anchor]}" if seen[anchor] else anchor)
        seen[anchor] += 1
    return found


@each_page
def test_links_exist(page: Path) -> None:
    for link in re.findall(r"\]\(([^)\s]+)\)", without_code(page.read_text())):
        if "://" not in link:
            path, _, anchor = link.partition("#")
            target = (page.parent / path).resolve() if path else page
            assert target.exists(), link
            assert not anchor or anchor in anchors(target.read_text()), link


@each_page
def test_names_exist(page: Path) -> None:
    """Files, make targets, variables and arguments."""
    text = page.read_text()
    files = r"`((?:exporter|tests|deploy|monitoring|demo|docs|bench)/[\w./-]+)`"
    missing = {file for file in re.findall(files, without_code(text)) if not (ROOT / file).exists()}
    assert missing == (EXAMPLE if page.name == "CONTRIBUTING.md" else set())
    console = "\n".join(commands(text))
    targets = [*re.findall(r"`make ([^`]+)`", without_code(text)), *re.findall(r"(?m)^make (.*)", console)]
    assert {word for words in targets for word in words.split() if "=" not in word} - TARGETS == set()
    assert set(re.findall(r"\b(?:PATRONI_EXPORTER|STAYTUS|EXPORTER)_[A-Z_]*[A-Z]\b", text)) - VARIABLES == set()
    assert set(re.findall(r"`(--[a-z][\w.-]*)", without_code(text))) - FLAGS - OTHERS == set()
    program = r"(?m)^(?:.*-m exporter|docker run .*?patroni-staytus-exporter|patroni-staytus-exporter) (.*)"
    ours = " ".join(re.findall(program, console))
    assert set(re.findall(r"(?<!\S)--[a-z][\w.-]*", ours)) - FLAGS == set()


@pytest.mark.parametrize("page", [*PAGES, *RULES], ids=name)
def test_families_exist(page: Path) -> None:
    text = page.read_text()
    if page.name == "CONTRIBUTING.md":
        text = text.partition("\n## A collector in ten minutes\n")[0] + text.partition("\n## A setting\n")[2]
    named = set(re.findall(r"(?<![\w/.*…])(?:patroni|staytus|service|exporter)_[a-z_]+[a-z](?![\w*…(/])", text))
    labels = {label for family in FAMILIES for label in family.labels}
    names = {family.name for family in (*FAMILIES, *OWN_FAMILIES)}
    assert named - names - labels == FOREIGN.get(name(page), set())


def test_readme_lists_the_tested_versions() -> None:
    (listed,) = re.findall(r"^\| Patroni \| ([\d., ]+) \|", (ROOT / "README.md").read_text(), re.MULTILINE)
    assert listed.split(", ") == VERSIONS
