"""The examples in the documentation that start the exporter: what they serve, and on which port."""

import re
from itertools import chain
from pathlib import Path

import pytest

from tests.conftest import Upstream
from tests.limits.scrapes import RECORDED
from tests.live.examples import PROGRAM, activated, blocks, commands
from tests.live.processes import ROOT, run, serving
from tests.test_docs import PAGES

pytestmark = pytest.mark.timeout(60)

#: The modules and the port of each example.
SERVED = {
    ("README.md", 0): (["patroni"], 9547),
    ("README.md", 1): (["staytus"], 9877),
    ("docs/install.md", 0): (["patroni"], 9547),
    ("docs/install.md", 1): (["patroni", "staytus"], 9547),
}


def examples() -> dict[tuple[str, int], list[str]]:
    """The commands of each block that ends with starting the exporter, by page and number."""
    found = {}
    for page in PAGES:
        blocks_of_page = map(commands, blocks(page.read_text()))
        starts = [block for block in blocks_of_page if re.fullmatch(rf"{PROGRAM}( --(?!web)[\w.-]+ \S+)*", block[-1])]
        found.update({(str(page.relative_to(ROOT)), number): block for number, block in enumerate(starts)})
    return found


EXAMPLES = examples()


def test_every_example_is_known() -> None:
    assert EXAMPLES.keys() == SERVED.keys()


@pytest.mark.parametrize("example", SERVED, ids=str)
def test_example(example: tuple[str, int], upstream: Upstream, tmp_path: Path, port: int) -> None:
    modules, default_port = SERVED[example]
    upstream.serve(RECORDED)
    *before, start = [re.sub(r"http://localhost:\d+", upstream.url, line) for line in EXAMPLES[example]]
    installs = [line for line in before if re.match(r"python3 -m venv|pip install", line)]
    exports = "\n".join(line for line in before if line not in installs)
    path = activated(tmp_path / "bin")

    status, output = run(["bash", "-euc", f"{exports}\n{start} check"], cwd=tmp_path, environ=path)
    assert (status, re.findall(r"^listens on .*", output, re.MULTILINE)) == (0, [f"listens on 0.0.0.0:{default_port}"])

    variable = "PATRONI_EXPORTER_PORT" if "patroni" in modules else "EXPORTER_PORT"
    command = ["bash", "-euc", f"{exports}\nexec {start}"]
    with serving(tmp_path, port, command, environ={**path, variable: str(port)}) as exporter:
        assert re.findall(r"^(\w+)_up (\S+)$", exporter.get()[1], re.MULTILINE) == [(name, "1.0") for name in modules]


def test_stated_ports() -> None:
    """The URLs of /metrics in the text are those of the examples."""
    urls = chain(*(re.findall(r"<http://localhost:(\d+)/metrics>", (ROOT / page).read_text()) for page, _ in SERVED))
    assert {int(number) for number in urls} == {number for _, number in SERVED.values()}


#: /etc/default/patroni-exporter, as Showmax/patroni-exporter has it, without its address and port.
SHOWMAX = {"BIND": "localhost", "ADDRESS_FAMILY": "AF_INET", "DEBUG": "", "TIMEOUT": "5", "VERIFY": "true"}


def test_unit(upstream: Upstream, tmp_path: Path, port: int) -> None:
    """The changed ExecStart in docs/upgrading.md, with the variables of the old unit."""
    upstream.serve(RECORDED)
    diff = blocks((ROOT / "docs" / "upgrading.md").read_text(), "diff")[0]
    unit = "".join(line[1:] for line in diff.splitlines(keepends=True) if line[0] != "-").replace("\\\n", "")
    (command,) = re.findall(rf"^ExecStart=\S+/({PROGRAM} .*)$", unit, re.MULTILINE)
    quoted = re.sub(r"(\$\{\w+\})", r'"\1"', command)  # systemd passes each variable as one argument
    environ = {**activated(tmp_path / "bin"), **SHOWMAX, "PORT": str(port), "PATRONI_URL": f"{upstream.url}/patroni"}
    with serving(tmp_path, port, ["bash", "-euc", f"exec {quoted}"], environ=environ) as exporter:
        assert exporter.up() == "1.0"
