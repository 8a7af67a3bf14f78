"""The papers are true: links lead somewhere, and the targets, settings, arguments, files and families are there."""

import re
from collections import Counter
from itertools import chain
from pathlib import Path

import pytest

from exporter.collectors import COLLECTORS
from exporter.config.options import OPTIONS
from exporter.config.settings import ENV_FILE
from exporter.scrape.families import SCRAPE_FAMILIES
from tests.live.processes import ROOT
from tests.web.test_reload import RELOAD

PAPERS = sorted(path for folder in (".", "docs", "bench", "tests/recordings") for path in (ROOT / folder).glob("*.md"))

#: What others evaluate, beside what they read.
RULES = sorted((ROOT / "monitoring").glob("**/*.y*ml"))

TARGETS = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))

VARIABLES = {option.variable for option in OPTIONS} | {ENV_FILE}
VARIABLES |= {f"{option.variable}_FILE" for option in OPTIONS if option.secret}

FLAGS = {flag for option in OPTIONS for flag in option.flags} | {"--help", "--version"}

#: Arguments of other programs that papers name.
OTHERS = {
    *("--build", "--volumes"),  # docker compose
    *("--upgrade",),  # uv
    *("--ini", "--set"),  # uwsgi
    *("--quick",),  # the benchmark
    *("--seconds", "--seed"),  # the soak test
    *("--cert", "--key", "--cacert", "--user"),  # curl
    *("--since", "--no-pager"),  # journalctl
}

#: The files of the collector that CONTRIBUTING.md makes.
MADE = {"exporter/collectors/patroni_watchdog.py", "tests/collectors/test_patroni_watchdog.py"}

paper = pytest.mark.parametrize("paper", PAPERS, ids=lambda path: str(path.relative_to(ROOT)))


def anchors(text: str) -> set[str]:
    """The anchors that GitHub gives the headings of a page."""
    seen: Counter[str] = Counter()
    found = set()
    for heading in re.findall(r"^#+ (.+)$", re.sub(r"(?ms)^```.*?^```$", "", text), re.MULTILINE):
        anchor = re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
        found.add(f"{anchor}-{seen[anchor]}" if seen[anchor] else anchor)
        seen[anchor] += 1
    return found


def prose(text: str) -> str:
    """The text without its examples."""
    return re.sub(r"(?ms)^```.*?^```$", "", text)


def commands(text: str) -> list[str]:
    """The lines of the consoles in a text, without their comments."""
    consoles = "".join(re.findall(r"(?ms)^```console\n(.*?)^```$", text))
    return [line.partition(" #")[0] for line in re.findall(r"^\$ (.*)$", consoles, re.MULTILINE)]


def test_papers_are_all_there() -> None:
    names = {str(path.relative_to(ROOT)) for path in PAPERS}
    assert names >= {
        *("README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md", "METRICS.md", "RUNBOOK.md"),
        *("docs/settings.md", "docs/fleet.md", "docs/security.md", "docs/upgrading.md", "bench/README.md"),
    }


def test_readme_leads_to_every_paper() -> None:
    linked = set(re.findall(r"\]\(([\w/.]+\.md)\)", (ROOT / "README.md").read_text()))
    assert {str(path.relative_to(ROOT)) for path in PAPERS} - linked == {"README.md", "tests/recordings/README.md"}


def test_readme_tells_the_two_commands_within_the_first_screen() -> None:
    first = (ROOT / "README.md").read_text().splitlines()[:16]
    assert [line.partition(" #")[0].strip() for line in first if line.startswith("$ ")] == [
        "$ make demo",
        "$ make test",
    ]


@paper
def test_links_lead_to_files_and_headings_that_there_are(paper: Path) -> None:
    for link in re.findall(r"\]\(([^)\s]+)\)", prose(paper.read_text())):
        if "://" in link:
            continue
        path, _, anchor = link.partition("#")
        target = (paper.parent / path).resolve() if path else paper
        assert target.exists(), link
        assert not anchor or anchor in anchors(target.read_text()), link


@paper
def test_files_that_are_named_are_there(paper: Path) -> None:
    text = paper.read_text()
    named = set(re.findall(r"`((?:exporter|tests|deploy|monitoring|demo|docs|bench)/[\w./-]+)`", prose(text)))
    assert {name for name in named if not (ROOT / name).exists()} == (
        MADE if paper.name == "CONTRIBUTING.md" else set()
    )


@paper
def test_targets_of_make_that_are_named_are_in_the_makefile(paper: Path) -> None:
    text = paper.read_text()
    spans = re.findall(r"`make ([^`]+)`", prose(text))
    named = chain.from_iterable(words.split() for words in spans)
    named = chain(named, *(line.split()[1:] for line in commands(text) if line.startswith("make ")))
    assert {word for word in named if "=" not in word} - TARGETS == set()


@paper
def test_variables_that_are_named_are_settings(paper: Path) -> None:
    named = re.findall(r"\b(?:PATRONI_EXPORTER|STAYTUS|EXPORTER)_[A-Z_]*[A-Z]\b", paper.read_text())
    assert set(named) - VARIABLES == set()


@paper
def test_arguments_that_are_named_are_settings_or_those_of_other_programs(paper: Path) -> None:
    text = paper.read_text()
    inline = set(re.findall(r"`(--[a-z][\w.-]*)", prose(text)))
    assert inline - FLAGS - OTHERS == set()
    program = r"(?:.*-m exporter|docker run .*?patroni-staytus-exporter|patroni-staytus-exporter) (.*)"
    ours = " ".join(match[1] for line in commands(text) if (match := re.match(program, line)))
    assert set(re.findall(r"(?<!\S)--[a-z][\w.-]*", ours)) - FLAGS == set()


@pytest.mark.parametrize("paper", [*PAPERS, *RULES], ids=lambda path: str(path.relative_to(ROOT)))
def test_papers_and_rules_name_only_families_that_there_are(paper: Path) -> None:
    text = paper.read_text()
    if paper.name == "CONTRIBUTING.md":  # its example is one that there is not; a test of its own makes it
        text = text.partition("\n## A collector in ten minutes\n")[0] + text.partition("\n## A setting\n")[2]
    named = set(re.findall(r"(?<![\w/.*…])(?:patroni|staytus|service|exporter)_[a-z_]+[a-z](?![\w*…(/])", text))
    declared = {family.name for collectors in COLLECTORS.values() for c in collectors for family in c.families}
    declared |= {family.name for families in SCRAPE_FAMILIES.values() for family in families}
    labels = {label for families in COLLECTORS.values() for c in families for f in c.families for label in f.labels}
    own = {"exporter_build_info", *RELOAD}
    assert named - declared - labels - own == set()
