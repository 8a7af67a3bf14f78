"""The exporter as a process."""

import contextlib
import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import sysconfig
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

from tests.conftest import Upstream
from tests.recorded import moment

T = TypeVar("T")

ROOT = Path(__file__).parents[2]
MODULE = (sys.executable, "-m", "exporter")

#: The packages of this Python.
PACKAGES = sysconfig.get_path("purelib")

#: The user nobody of Linux.
NOBODY = 65534


@dataclass(frozen=True)
class Response:
    status: int
    headers: http.client.HTTPMessage
    body: bytes


@dataclass(frozen=True)
class Served:
    """A running server; `log` has its standard output and standard error."""

    process: subprocess.Popen[bytes]
    port: int
    log: Path

    def request(
        self, path: str, method: str = "GET", host: str = "127.0.0.1", seconds: float = 20, **headers: str
    ) -> Response:
        """Sends a request; `_` in the name of a header is `-`."""
        with contextlib.closing(http.client.HTTPConnection(host, self.port, timeout=seconds)) as connection:
            connection.request(method, path, headers={name.replace("_", "-"): text for name, text in headers.items()})
            response = connection.getresponse()
            return Response(response.status, response.headers, response.read())

    def get(self, path: str = "/metrics", host: str = "127.0.0.1", seconds: float = 10) -> tuple[int, str]:
        """The status and the body of a response."""
        response = self.request(path, host=host, seconds=seconds)
        return response.status, response.body.decode()

    def up(self) -> str:
        """The value of patroni_up."""
        return dict(line.rsplit(" ", 1) for line in self.get()[1].splitlines() if line[0] != "#")["patroni_up"]

    def lines(self) -> list[str]:
        """The level and the msg of each event in the log, without process ids."""
        return [re.sub(r"(pid: |\()\d+", r"\1N", f"{event['level']} {event['msg']}") for event in self.events()]

    def events(self, logger: str = "") -> list[dict[str, str]]:
        """The events in the log, which must be logfmt."""
        events = [event(line) for line in self.log.read_text().split("\n")[:-1]]
        return [event for event in events if event["logger"].startswith(logger)]

    def logs(self, text: str, times: int = 1) -> Callable[[], bool]:
        """For `until`: whether the text is in the log so many times."""
        return lambda: self.log.read_text().count(text) == times

    def workers(self) -> set[int]:
        """Its child processes; gunicorn creates the first after its socket."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        return set(map(int, until(lambda: children.read_text().split())))

    def files(self) -> set[str]:
        """The open files of its processes, and the folders of deleted ones."""
        paths = set()
        for process in (self.process.pid, *self.workers()):
            for descriptor in Path(f"/proc/{process}/fd").iterdir():
                with contextlib.suppress(FileNotFoundError):  # it was closed
                    paths.add(str(descriptor.readlink()))
        files = {path for path in paths if path.startswith("/") and path != os.devnull}
        return {str(Path(path).parent) if path.endswith(" (deleted)") else path for path in files}

    def end(self, sig: signal.Signals = signal.SIGTERM, seconds: float = 10) -> int:
        """Sends the signal and returns the exit status."""
        self.process.send_signal(sig)
        return self.process.wait(seconds)


def event(line: str) -> dict[str, str]:
    """The keys and values of a line of logfmt."""
    pair = r'([a-z_]+)=("(?:[^"\\]|\\.)*"|[^\s"=\\]+)'
    assert re.fullmatch(f"{pair}(?: {pair})*", line), line
    return {key: json.loads(text) if text[0] == '"' else text for key, text in re.findall(pair, line)}


@contextlib.contextmanager
def serving(
    folder: Path,
    port: int,
    command: Sequence[str] = MODULE,
    *,
    cwd: Path | None = None,
    user: int | None = None,
    environ: Mapping[str, str] = {},
) -> Iterator[Served]:
    """Starts a server, waits for its port, and kills it at the end; its log is in the folder."""
    log = folder / f"exporter-{port}.log"
    with log.open("wb") as output:
        process = start(command, output, cwd=cwd or folder, user=user, environ=environ)
    served = Served(process, port, log)
    try:
        until(lambda: process.poll() is not None or _answers(port))
        assert process.poll() is None, log.read_text()
        yield served
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(10)


@contextlib.contextmanager
def running_exporter(
    folder: Path, *arguments: str, before: str = "", environ: Mapping[str, str] = {}
) -> Iterator[Served]:
    """An exporter on a free port, which starts after this code."""
    code = f"{before}; import sys, exporter.__main__ as command; sys.exit(command.main())"
    command = (MODULE[0], "-c", code) if before else MODULE
    with (
        free_port() as port,
        serving(folder, port, (*command, "--port", str(port), *arguments), environ=environ) as served,
    ):
        yield served


def start(
    command: Sequence[str], output: Any, *, cwd: Path, user: int | None = None, environ: Mapping[str, str] = {}
) -> subprocess.Popen[bytes]:
    """Starts a command in a new session, as another user if there is one. Its environment has no other variables."""
    least = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "EXPORTER_ENV_FILE": os.devnull}
    if user is None:  # another user cannot write to the folder of coverage
        least |= {name: value for name, value in os.environ.items() if name.startswith("COVERAGE_")}
    return subprocess.Popen(
        command,
        cwd=cwd,
        env={**least, **environ},
        user=user,
        group=user,
        extra_groups=None if user is None else [],
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )


def run(
    command: Sequence[str], *, cwd: Path, user: int | None = None, environ: Mapping[str, str] = {}
) -> tuple[int, str]:
    """Runs a command as `start` does; returns its exit status and output."""
    with start(command, subprocess.PIPE, cwd=cwd, user=user, environ=environ) as process:
        output, _ = process.communicate(timeout=60)
    return process.returncode, output.decode()


def packager() -> dict[str, str]:
    """The environment for pip and make, with the variables of proxies and without this checkout."""
    return {name: value for name, value in os.environ.items() if "MAKE" not in name} | {"PYTHONPATH": ""}


def until(true: Callable[[], T], seconds: float = 20) -> T:
    """Waits until the result is true, and returns it."""
    deadline = time.monotonic() + seconds
    while not (answer := true()):
        assert time.monotonic() < deadline, "timeout"
        time.sleep(0.02)
    return answer


def _answers(port: int) -> bool:
    for host in ("127.0.0.1", "::1"):
        with contextlib.suppress(OSError), socket.create_connection((host, port), 1):
            return True
    return False


@contextlib.contextmanager
def free_port(host: str = "127.0.0.1") -> Iterator[int]:
    """A port that is reserved: it stays bound, and SO_REUSEADDR lets a server bind it too."""
    with socket.socket() as reserved:
        reserved.bind((host, 0))
        reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        yield reserved.getsockname()[1]


def recorded(upstream: Upstream) -> Upstream:
    """The upstream with the recorded responses of Patroni."""
    upstream.serve(moment("4.1.5", "healthy-async", "n1").answers)
    return upstream


def cpu_seconds(process: int) -> float:
    """The seconds of CPU that a process has used."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def families(exposition: str) -> list[str]:
    """The names of the families, in their order."""
    return [line.split()[2] for line in exposition.splitlines() if line.startswith("# TYPE ")]


def listing(folder: Path) -> dict[str, tuple[int, int]]:
    """The files and folders below a folder, with their sizes and times."""
    return {str(path): (path.lstat().st_size, path.lstat().st_mtime_ns) for path in sorted(folder.rglob("*"))}


@dataclass(frozen=True)
class Unprivileged:
    """A user for root to switch to, or None, and a Python that this user can run."""

    user: int | None
    python: str


@cache
def unprivileged() -> Unprivileged:
    """The user nobody, if we are root and nobody can run a Python with the packages."""
    if os.geteuid() != 0:
        return Unprivileged(None, sys.executable)
    code = f"import sys, flask, gunicorn, pycurl; assert sys.version_info[:2] == {sys.version_info[:2]}"
    for python in (sys.executable, "/usr/local/bin/python3", "/usr/bin/python3"):
        with contextlib.suppress(OSError):
            if run([python, "-c", code], cwd=Path("/"), user=NOBODY, environ={"PYTHONPATH": PACKAGES})[0] == 0:
                return Unprivileged(NOBODY, python)
    return Unprivileged(None, sys.executable)
