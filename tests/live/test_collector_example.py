"""The collector of CONTRIBUTING.md, added to a copy of the checkout as described there."""

import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from exporter.collectors.document import Answer
from tests.conftest import Upstream
from tests.live.processes import ROOT, run
from tests.live.test_dist import NOT_OURS
from tests.recorded import moment

pytestmark = pytest.mark.timeout(300)

SECTION = (ROOT / "CONTRIBUTING.md").read_text().partition("\n## A collector in ten minutes\n")[2].partition("\n## ")[0]

#: The .venv of the copy is a link to this environment, so make must not install anything.
MAKE = 'make() { command make -o .venv/.ready "$@"; }\n'


def steps() -> Iterator[tuple[str, str, str]]:
    """Each example of the section with its language and the last file named before it."""
    file = ""
    for text, language, example in re.findall(r"(?ms)(.*?)^```(\w+)\n(.*?)^```$", SECTION):
        file = [file, *re.findall(r"`([\w/]+\.py)`", text)][-1]
        yield language, file, example


def change(file: Path, example: str) -> None:
    """Applies a diff without line numbers, which must fit in one place."""
    old, new = (
        "".join(line[1:] for line in example.splitlines(keepends=True) if line[0] in signs) for signs in (" -", " +")
    )
    text = file.read_text()
    assert text.count(old) == 1
    file.write_text(text.replace(old, new))


def shell(folder: Path, example: str) -> str:
    """The output of the commands of a console example, which are the lines after a $, with their here documents."""
    commands = re.findall(r"(?ms)^\$ (.*?<<'END'\n.*?^END\n|.*?\n)", example)
    status, output = run(
        ["bash", "-euo", "pipefail", "-c", MAKE + "".join(commands)], cwd=folder, environ={"PYTHONPATH": str(folder)}
    )
    assert status == 0, output
    return output


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    folder = tmp_path / "checkout"
    shutil.copytree(ROOT, folder, ignore=NOT_OURS)
    (folder / ".venv").symlink_to(sys.prefix)
    return folder


def test_collector_in_ten_minutes(checkout: Path, upstream: Upstream) -> None:
    upstream.serve(moment("4.1.5", "failsafe-enabled", "n1").answers)
    upstream.serve({"/watchdog": Answer(200, b'{"device": "/dev/watchdog", "timeout": 15}')})
    *before, (language, _, last) = steps()
    for kind, name, example in before:
        file = checkout / name
        match kind:
            case "python":
                assert not file.exists()
                file.write_text(example)
            case "diff":
                change(file, example)
            case "console":
                shell(checkout, example)
    assert language == "console"
    output = shell(checkout, last.replace("http://localhost:8008", upstream.url))
    assert output == "".join(line for line in last.splitlines(keepends=True) if not line.startswith("$ "))
    rows = [
        line
        for line in (checkout / "METRICS.md").read_text().splitlines()
        if "GET /watchdog" in line or "patroni_watchdog_timeout" in line
    ]
    assert rows == [
        "## Patroni: `GET /watchdog`",
        "| `patroni_watchdog_timeout_seconds` | `scope`, `name` | 5.0.0 | "
        "Seconds after which the watchdog resets this node; absent if no watchdog is active. |",
    ]
    assert "failsafe,watchdog" in (checkout / "docs" / "settings.md").read_text()
