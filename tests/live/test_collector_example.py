"""The collector of CONTRIBUTING.md, made as the paper says in a copy of the checkout: tested, documented, scraped."""

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

#: The packages of this Python are in the copy's .venv, where make has nothing to install.
MAKE = 'make() { command make -o .venv/.ready "$@"; }\n'


def steps() -> Iterator[tuple[str, str, str]]:
    """Each example of the section with its language and the file that was named last before it."""
    file = ""
    for text, language, example in re.findall(r"(?ms)(.*?)^```(\w+)\n(.*?)^```$", SECTION):
        file = [file, *re.findall(r"`([\w/]+\.py)`", text)][-1]
        yield language, file, example


def change(file: Path, example: str) -> None:
    """Makes the change that a diff without line numbers shows, at the one place where it fits."""
    old, new = (
        "".join(line[1:] for line in example.splitlines(keepends=True) if line[0] in signs) for signs in (" -", " +")
    )
    text = file.read_text()
    assert text.count(old) == 1
    file.write_text(text.replace(old, new))


def shell(folder: Path, example: str) -> str:
    """What the commands of a console write, which are those lines after a $, with what they read."""
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


def test_collector_of_the_paper_is_tested_documented_and_scraped(checkout: Path, upstream: Upstream) -> None:
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
    rows = [line for line in (checkout / "METRICS.md").read_text().splitlines() if "watchdog" in line]
    assert rows == [
        "## Patroni: `GET /watchdog`",
        "| `patroni_watchdog_timeout_seconds` | `scope`, `name` | 5.0.0 | "
        "Seconds after which the watchdog resets this node; absent when no watchdog is active. |",
    ]
    assert "failsafe,watchdog" in (checkout / "docs" / "settings.md").read_text()
