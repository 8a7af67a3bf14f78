"""The steps of the Dockerfile for real, one by one, in an empty folder and environment, without a container engine."""

import json
import os
import re
import shlex
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.conftest import Upstream
from tests.live.processes import ROOT, free_port, listing, packager, recorded, run, serving, unprivileged

pytestmark = pytest.mark.timeout(120)


@dataclass
class Image:
    """What the Dockerfile makes: a folder in the place of /, and how a container of it is started."""

    root: Path
    environ: dict[str, str] = field(default_factory=dict)
    workdir: Path = Path("/")
    user: str = ""
    ports: list[str] = field(default_factory=list)
    healthcheck: list[str] = field(default_factory=list)
    entrypoint: list[str] = field(default_factory=list)

    @property
    def container(self) -> dict[str, str]:
        """The environment of a process in a container."""
        path = f"{self.root}/usr/local/bin:{os.environ['PATH']}"
        return {"PATH": path, "PYTHONPATH": "", **self.environ}

    def step(self, instruction: str, rest: str) -> None:
        """Does one instruction; one that is not known here is an error."""
        match instruction:
            case "FROM":
                self._python(rest)
            case "ENV":
                self.environ |= dict(pair.split("=", 1) for pair in shlex.split(rest))
            case "WORKDIR":
                self.workdir = self.root / rest.lstrip("/")
                self.workdir.mkdir(parents=True)
            case "COPY":
                self._copy(*rest.split())
            case "RUN":
                line = ["/bin/sh", "-ec", rest]
                status, output = run(line, cwd=self.workdir, environ={**packager(), **self.container})
                assert status == 0, output
            case "USER":
                self.user = rest
            case "EXPOSE":
                self.ports = rest.split()
            case "HEALTHCHECK":
                self.healthcheck = json.loads(rest.partition(" CMD ")[2])
            case "ENTRYPOINT":
                self.entrypoint = json.loads(rest)
            case _:
                raise AssertionError(f"no test knows {instruction}")

    def _python(self, base: str) -> None:
        """The base image: `python` and `pip`, here of a Python that nobody can start."""
        assert re.fullmatch(r"python:3\.\d+-slim", base)
        local = self.root / "usr" / "local"
        line = [unprivileged().python, "-m", "venv", "--without-pip", str(local)]
        assert run(line, cwd=self.root, environ={"PYTHONPATH": ""}) == (0, "")
        pip = local / "bin" / "pip"
        pip.write_text(f'#!/bin/sh\nexec {sys.executable} -m pip --python {local}/bin/python "$@"\n')
        pip.chmod(0o755)

    def _copy(self, *places: str) -> None:
        """Copies as if whoever builds had a umask that keeps everybody else out."""
        *sources, target = places
        for source in sources:
            assert f"!{source}" in ignored()
            place = self.workdir / target / ("" if (ROOT / source).is_dir() else Path(source).name)
            if (ROOT / source).is_dir():
                shutil.copytree(ROOT / source, place, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(ROOT / source, place)
            for path in (place, *place.rglob("*")):
                path.chmod(0o700 if path.is_dir() else 0o600)


def ignored() -> list[str]:
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    return [line for line in lines if not line.startswith("#")]


def instructions() -> Iterator[tuple[str, str]]:
    text = re.sub(r"(?m)^#.*\n", "", (ROOT / "Dockerfile").read_text()).replace("\\\n", " ")
    for line in filter(None, text.splitlines()):
        instruction, _, rest = line.partition(" ")
        yield instruction, " ".join(rest.split())


@pytest.fixture(scope="module")
def image() -> Iterator[Image]:
    with tempfile.TemporaryDirectory() as name:
        made = Image(Path(name))
        made.root.chmod(0o755)
        for instruction, rest in instructions():
            made.step(instruction, rest)
        yield made


def who(image: Image, user: int) -> int | None:
    """The user to run a container as: only root can choose."""
    return None if unprivileged().user is None else user


def healthy(image: Image, command_line: Path, user: int | None, environ: Mapping[str, str] = {}) -> tuple[int, str]:
    """Runs the HEALTHCHECK with this file in the place of that of process 1."""
    line = [str(command_line) if word == "/proc/1/cmdline" else word for word in image.healthcheck]
    assert line != image.healthcheck
    return run(line, cwd=image.workdir, user=user, environ={**image.container, **environ})


def test_image_is_for_a_user_without_rights_and_both_ports(image: Image) -> None:
    assert (image.user, image.ports) == ("65532:65532", ["9547", "9877"])


def test_build_context_is_what_is_copied_and_nothing_else() -> None:
    copied = [source for instruction, rest in instructions() if instruction == "COPY" for source in rest.split()[:-1]]
    assert ignored() == ["*", *(f"!{source}" for source in copied), "**/__pycache__"]


def test_bytecode_is_there_before_the_first_start(image: Image) -> None:
    code = list(image.root.rglob("*.py"))
    assert {"app", "exporter", "flask", "gunicorn"} <= {path.parent.name for path in code}
    assert [path for path in code if not list((path.parent / "__pycache__").glob(f"{path.stem}.*.pyc"))] == []


@pytest.mark.parametrize("user", [65532, 54321])
def test_container_serves_as_any_user_is_healthy_and_writes_nothing(
    image: Image, upstream: Upstream, tmp_path: Path, user: int
) -> None:
    before = listing(image.root)
    with free_port() as port:
        arguments = f"--port {port} --patroni-url {recorded(upstream).url}/patroni --timeout 5 --debug"
        line = [*image.entrypoint, *arguments.split()]
        with serving(
            tmp_path, port, line, cwd=image.workdir, user=who(image, user), environ=image.container
        ) as exporter:
            command_line = Path(f"/proc/{exporter.process.pid}/cmdline")
            assert exporter.up() == "1.0"
            assert healthy(image, command_line, who(image, user)) == (0, "")
            init = tmp_path / "init"
            init.write_text("/sbin/docker-init\0--\0" + command_line.read_text())
            assert healthy(image, init, None) == (0, "")
            assert exporter.end() == 0
        assert healthy(image, init, None) == (1, f"0.0.0.0:{port}: [Errno 111] Connection refused\n")
    assert "Traceback" not in exporter.log.read_text()
    assert listing(image.root) == before


def test_healthcheck_finds_the_port_of_the_environment(image: Image, upstream: Upstream, tmp_path: Path) -> None:
    staytus = {"STAYTUS_API_URL": upstream.url, "STAYTUS_API_TOKEN": "t", "STAYTUS_API_SECRET": "s"}
    with free_port() as port:
        environ = {**image.container, **staytus, "EXPORTER_PORT": str(port)}
        with serving(tmp_path, port, image.entrypoint, cwd=image.workdir, environ=environ) as exporter:
            assert healthy(image, Path(f"/proc/{exporter.process.pid}/cmdline"), None, environ) == (0, "")


@pytest.mark.parametrize(
    ("started", "environ"),
    [
        ("python -m exporter --bind 255.255.255.255", {}),
        ("gunicorn -c gunicorn.conf.py wsgi:app", {"PATRONI_EXPORTER_BIND": "255.255.255.255"}),
    ],
)
def test_healthcheck_asks_at_the_default_port_and_says_where_nobody_answers(
    image: Image, tmp_path: Path, started: str, environ: dict[str, str]
) -> None:
    (tmp_path / "cmdline").write_text(started.replace(" ", "\0") + "\0")
    unhealthy = (
        1,
        "255.255.255.255:9547: [Errno 101] Network is unreachable\n",
    )  # TCP cannot reach a broadcast address
    assert healthy(image, tmp_path / "cmdline", None, environ) == unhealthy
