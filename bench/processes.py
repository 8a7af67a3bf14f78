"""The processes of a run: how they start, how all of them end, and what a tree of them takes of CPU and memory."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

from bench.upstream import COUNTS, PATRONI, program, services

ROOT = Path(__file__).resolve().parent.parent
TICKS = os.sysconf("SC_CLK_TCK")
MIB = 1024

#: Seconds that a process has to come up.
PATIENCE = 20.0


class BenchError(Exception):
    """Something that is measured, or measures, did not run; the text is one that a person can use."""


@contextlib.contextmanager
def running(*command: str, given: Mapping[str, str] | None = None) -> Iterator[subprocess.Popen[str]]:
    """Runs a command, or a module of ours, in a session of its own, which Ctrl-C does not reach, and ends all of it.

    Nothing of this environment counts but PATH, so that no setting of ours is measured.
    """
    environ = {"PATH": os.environ.get("PATH", ""), "PYTHONPATH": str(ROOT), "EXPORTER_ENV_FILE": os.devnull}
    with tempfile.TemporaryFile("w+") as errors:
        python = [] if command[0].startswith("/") else [sys.executable, "-m"]
        process = subprocess.Popen(  # noqa: S603 - our own modules
            [*python, *command],
            cwd=ROOT,
            env={**environ, **(given or {})},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            start_new_session=True,
        )
        try:
            yield process
        except BenchError as error:
            errors.seek(0)
            raise BenchError(f"{error}\n{errors.read()[-2000:]}".rstrip()) from None
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            for pipe in (process.stdin, process.stdout):
                if pipe:
                    pipe.close()


def _first_line(process: subprocess.Popen[str]) -> str:
    line = process.stdout.readline() if process.stdout else ""
    if not line:
        raise BenchError(f"{process.args!r} ended before it said anything")
    return line.strip()


@dataclass(frozen=True)
class Upstream:
    """The stand-in for Patroni and Staytus, as base URLs without a slash at the end."""

    patroni: str
    staytus: str

    def requests(self) -> int:
        """Returns how many documents it was asked for by now."""
        total = 0
        for base in (self.patroni, self.staytus):
            with urlopen(base + COUNTS, timeout=PATIENCE) as answer:  # noqa: S310 - of our own process
                total += sum(json.load(answer).values())
        return total


@contextlib.contextmanager
def upstream(least: float = 0.0, most: float | None = None, address: str = "127.0.0.1") -> Iterator[Upstream]:
    """Runs the stand-in upstream with delays in seconds, each of them as long as any other one between."""
    delays = [str(round(seconds * 1000)) for seconds in (least, least if most is None else most)]
    with running(program(), address, *delays) as process:
        assert process.stdin is not None  # noqa: S101 - a pipe was asked for
        process.stdin.buffer.write(services())
        process.stdin.flush()
        patroni, staytus = _first_line(process).split()
        yield Upstream(f"http://127.0.0.1:{patroni}", f"http://127.0.0.1:{staytus}")


@contextlib.contextmanager
def old_kind(server: Upstream, *paths: str) -> Iterator[str]:
    """Runs the exporter of the old kind for these documents, all of Patroni's without any; gives its base URL."""
    documents = paths or tuple(path.lstrip("/") for path in PATRONI)
    with running("bench.old_kind", server.patroni, *documents) as process:
        yield f"http://127.0.0.1:{_first_line(process)}"


@dataclass(frozen=True)
class Served:
    """An exporter under gunicorn: its base URL, its master process, and how long its first scrape took from start."""

    url: str
    pid: int
    first_scrape: float


@contextlib.contextmanager
def exporter(
    server: Upstream, workers: int, *, staytus: bool = False, more: Mapping[str, str] | None = None
) -> Iterator[Served]:
    """Runs the exporter before this upstream, with Patroni's module alone or with both, and scrapes it once."""
    with socket.socket() as trial:
        trial.bind(("127.0.0.1", 0))
        port = trial.getsockname()[1]
    given = {
        "PATRONI_EXPORTER_URL": f"{server.patroni}/patroni",
        "PATRONI_EXPORTER_BIND": "127.0.0.1",
        "PATRONI_EXPORTER_PORT": str(port),
    }
    if staytus:
        given |= {"STAYTUS_API_URL": server.staytus, "STAYTUS_API_TOKEN": "token", "STAYTUS_API_SECRET": "secret"}
    given |= more or {}
    start = time.perf_counter()
    with running("exporter", "--workers", str(workers), given=given) as process:
        url = f"http://127.0.0.1:{port}"
        text = _first_scrape(f"{url}/metrics", process)
        took = time.perf_counter() - start
        if text.count("_collector_success{") != 5 + 2 * staytus or '"} 0.0\n' in _successes(text):
            raise BenchError(f"the exporter does not understand the stand-in upstream:\n{_successes(text)}")
        yield Served(url, process.pid, took)


def _first_scrape(url: str, process: subprocess.Popen[str]) -> str:
    deadline = time.monotonic() + PATIENCE
    while process.poll() is None and time.monotonic() < deadline:
        try:
            with urlopen(url, timeout=PATIENCE) as answer:  # noqa: S310 - of our own process
                return str(answer.read().decode())
        except (URLError, ConnectionError):
            time.sleep(0.005)
    raise BenchError(f"no scrape within {PATIENCE:g} s; exit status {process.poll()}")


def _successes(text: str) -> str:
    return "".join(line for line in text.splitlines(keepends=True) if "_collector_success{" in line)


# What a tree of processes takes ---------------------------------------------------------------------------------------


def tree(pid: int) -> list[int]:
    """Returns a process and all that descend from it."""
    found = [pid]
    for parent in found:
        for children in Path(f"/proc/{parent}/task").glob("*/children"):
            with contextlib.suppress(OSError):
                found += map(int, children.read_text().split())
    return found


def cpu_seconds(pid: int) -> float:
    """Returns the CPU that a process, its descendants and its dead children have used, in user and system time."""
    ticks = 0
    for member in tree(pid):
        fields = Path(f"/proc/{member}/stat").read_text().rpartition(")")[2].split()
        ticks += sum(map(int, fields[11:15]))  # utime, stime, and both of the children that were waited for
    return ticks / TICKS


def pss_mib(pid: int) -> float:
    """Returns the proportional set size of a process and its descendants in MiB."""
    return sum(_kilobytes(Path(f"/proc/{member}/smaps_rollup"), "Pss") for member in tree(pid)) / MIB


def _kilobytes(file: Path, name: str) -> int:
    return sum(int(line.split()[1]) for line in file.read_text().splitlines() if line.startswith(f"{name}:"))
