"""The collector in CONTRIBUTING.md: its files and diffs apply to the current code, and its test passes."""

import re
import shutil
import sys
from pathlib import Path

import pytest

from exporter.collectors.document import Answer
from tests.conftest import Upstream
from tests.live.examples import section
from tests.live.processes import MODULE, ROOT, run
from tests.recorded import moment

SECTION = section("CONTRIBUTING.md", "A collector in ten minutes")


def patch(file: Path, diff: str) -> None:
    """Applies a diff without line numbers, which must match in one place."""
    old, new = (
        "".join(line[1:] for line in diff.splitlines(keepends=True) if line[0] in signs) for signs in (" -", " +")
    )
    text = file.read_text()
    assert text.count(old) == 1
    file.write_text(text.replace(old, new))


@pytest.mark.timeout(120)
def test_example_works(tmp_path: Path, upstream: Upstream) -> None:
    checkout = tmp_path / "checkout"
    for folder in ("exporter", "tests"):
        shutil.copytree(ROOT / folder, checkout / folder, ignore=shutil.ignore_patterns("__pycache__"))
    name = example = ""
    for text, language, example in re.findall(r"(?ms)(.*?)^```(\w+)\n(.*?)^```$", SECTION):
        name = [name, *re.findall(r"`([\w/]+\.py)`", text)][-1]
        if language == "python":
            (checkout / name).write_text(example)
        elif language == "diff":
            patch(checkout / name, example)
        elif example.startswith("$ cat"):
            assert run(["bash", "-ec", example.removeprefix("$ ")], cwd=checkout) == (0, "")
    environ = {"PYTHONPATH": str(checkout)}
    (test,) = checkout.glob("tests/collectors/test_patroni_watchdog.py")
    status, output = run([sys.executable, "-m", "pytest", "-q", str(test)], cwd=checkout, environ=environ)
    assert status == 0, output

    upstream.serve(moment("4.1.5", "failsafe-enabled", "n1").answers)
    upstream.serve({"/watchdog": Answer(200, b'{"device": "/dev/watchdog", "timeout": 15}')})
    _, output = run((*MODULE, "--patroni-url", upstream.url, "scrape"), cwd=checkout, environ=environ)
    assert example.splitlines()[-1] in output.splitlines()
