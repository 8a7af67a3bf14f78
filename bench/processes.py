"""The processes of a run, and the CPU time and memory of a process tree."""

import contextlib
import io
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

from bench.upstream import COUNTS, PATRONI, STAYTUS, program, services

ROOT = Path(__file__).resolve().parent.parent
TICKS = os.sysconf("SC_CLK_TCK")
MIB = 1024

#: Seconds until a process must respond.
TIMEOUT = 20.0


class BenchError(Exception):
    """A process of the benchmark failed; the text is shown to the user."""


@contextlib.contextmanager
def running(*command: str, environ: Mapping[str, str] | None = None) -> Iterator[subprocess.Popen[str]]:
    """Runs a program or a Python module in a new session, without Ctrl-C, and kills the session at the end.

    Of this process's environment it gets only PATH, so that settings of the exporter do not affect the results.
    """
    base = {"PATH": os.environ.get("PATH", ""), "PYTHONPATH": str(ROOT), "EXPORTER_ENV_FILE": os.devnull}
    with tempfile.TemporaryFile("w+") as errors:
        python = [] if command[0].startswith("/") else [sys.executable, "-m"]
        process = subprocess.Popen(  # noqa: S603 - our own modules
            [*python, *command],
            cwd=ROOT,
            env={**base, **(environ or {})},
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


@dataclass(frozen=True)
class Upstream:
    """The base URLs of the fake Patroni and Staytus, without a trailing slash."""

    patroni: str
    staytus: str

    def counts(self) -> dict[str, int]:
        """Returns the number of requests so far, by path."""
        counts: dict[str, int] = {}
        for base in (self.patroni, self.staytus):
            with urlopen(base + COUNTS, timeout=TIMEOUT) as response:  # noqa: S310 - of our own process
                counts |= json.load(response)
        return counts

    def requests(self) -> int:
        """Returns the number of requests so far."""
        return sum(self.counts().values())


@contextlib.contextmanager
def upstream(min_delay: float = 0.0, max_delay: float | None = None, address: str = "127.0.0.1") -> Iterator[Upstream]:
    """Runs the fake upstream; each response is delayed by a random time between the two, in seconds."""
    delays = [str(round(seconds * 1000)) for seconds in (min_delay, min_delay if max_delay is None else max_delay)]
    with running(program(), address, *delays) as process:
        assert isinstance(process.stdin, io.TextIOWrapper)  # noqa: S101 - a pipe
        process.stdin.buffer.write(services())
        process.stdin.flush()
        ports = process.stdout.readline().split() if process.stdout else []
        if len(ports) != 2:
            raise BenchError(f"{process.args!r} exited without output")
        patroni, staytus = ports
        yield Upstream(f"http://127.0.0.1:{patroni}", f"http://127.0.0.1:{staytus}")


@dataclass(frozen=True)
class Served:
    """A running exporter: its base URL, process, first scrape, and the seconds from its start to the end of that."""

    url: str
    pid: int
    text: str
    first_scrape: float


@contextlib.contextmanager
def served(port: int, *command: str, environ: Mapping[str, str] | None = None) -> Iterator[Served]:
    """Runs an exporter that listens on this port, and scrapes it once."""
    start = time.perf_counter()
    with running(*command, environ=environ) as process:
        url = f"http://127.0.0.1:{port}"
        text = _first_scrape(f"{url}/metrics", process)
        yield Served(url, process.pid, text, time.perf_counter() - start)


@contextlib.contextmanager
def exporter(
    server: Upstream,
    workers: int,
    *,
    staytus: bool = False,
    only_node: bool = False,
    settings: Mapping[str, str] | None = None,
) -> Iterator[Served]:
    """Runs the exporter for this upstream, with the Patroni module or with both; `only_node` requests only /patroni."""
    port = free_port()
    environ = {
        "PATRONI_EXPORTER_URL": f"{server.patroni}/patroni",
        "PATRONI_EXPORTER_BIND": "127.0.0.1",
        "PATRONI_EXPORTER_PORT": str(port),
    }
    if staytus:
        environ |= {"STAYTUS_API_URL": server.staytus, "STAYTUS_API_TOKEN": "token", "STAYTUS_API_SECRET": "secret"}
    if only_node:
        environ["PATRONI_EXPORTER_COLLECT"] = "node"
    environ |= settings or {}
    with served(port, "exporter", "--workers", str(workers), environ=environ) as running_exporter:
        successes = [line for line in running_exporter.text.splitlines() if "_collector_success{" in line]
        documents = (1 if only_node else len(PATRONI)) + (len(STAYTUS) if staytus else 0)
        if len(successes) != documents or not all(line.endswith(" 1.0") for line in successes):
            raise BenchError("a scrape of the fake upstream failed:\n" + "\n".join(successes))
        yield running_exporter


def simple_exporter(server: Upstream, *paths: str) -> contextlib.AbstractContextManager[Served]:
    """Runs the single-threaded exporter for these documents of Patroni."""
    port = free_port()
    return served(port, "bench.simple_exporter", str(port), server.patroni, *(path.lstrip("/") for path in paths))


def showmax(checkout: Path, server: Upstream) -> contextlib.AbstractContextManager[Served]:
    """Runs Showmax's exporter from a checkout that has its requirements in .venv."""
    port, checkout = free_port(), checkout.resolve()
    program = (f"{checkout}/.venv/bin/python", f"{checkout}/patroni_exporter.py")
    return served(port, *program, "-b", "127.0.0.1", "-p", str(port), "-u", f"{server.patroni}/patroni")


def gopaytech(program: Path, server: Upstream) -> contextlib.AbstractContextManager[Served]:
    """Runs gopaytech's exporter."""
    port = free_port()
    host, _, upstream_port = server.patroni.rpartition(":")
    listen = f"--web.listen-address=127.0.0.1:{port}"
    return served(port, str(program.resolve()), listen, f"--patroni.host={host}", f"--patroni.port={upstream_port}")


def free_port() -> int:
    """Returns a port on which no process listens."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def _first_scrape(url: str, process: subprocess.Popen[str]) -> str:
    deadline = time.monotonic() + TIMEOUT
    while process.poll() is None and time.monotonic() < deadline:
        try:
            with urlopen(url, timeout=TIMEOUT) as response:  # noqa: S310 - of our own process
                return str(response.read().decode())
        except (URLError, ConnectionError):
            time.sleep(0.005)
    raise BenchError(f"no scrape within {TIMEOUT:g} s; exit status {process.poll()}")


def tree(pid: int) -> list[int]:
    """Returns a process and its descendants."""
    found = [pid]
    for parent in found:
        for children in Path(f"/proc/{parent}/task").glob("*/children"):
            with contextlib.suppress(OSError):
                found += map(int, children.read_text().split())
    return found


def cpu_seconds(pid: int) -> float:
    """Returns the user and system CPU time of a process, its descendants and its waited-for children."""
    ticks = 0
    for member in tree(pid):
        fields = Path(f"/proc/{member}/stat").read_text().rpartition(")")[2].split()
        ticks += sum(map(int, fields[11:15]))  # utime, stime, cutime, cstime
    return ticks / TICKS


def pss_mib(pid: int) -> float:
    """Returns the proportional set size of a process and its descendants in MiB."""
    return sum(_kilobytes(Path(f"/proc/{member}/smaps_rollup"), "Pss") for member in tree(pid)) / MIB


def resident_mib(pid: int) -> float:
    """Returns the resident memory of a process and its descendants in MiB; pages that they share count once.

    Unlike PSS, it is the same if other processes use the same files, for example the interpreter.
    """
    files: dict[str, int] = {}
    for member in tree(pid):
        kilobytes = 0
        for line in Path(f"/proc/{member}/smaps").read_text().splitlines():
            name, *fields = line.split()
            if not name.endswith(":"):
                mapped = " ".join(fields[:4])  # permissions, offset, device and inode
            elif name == "Rss:":
                kilobytes = int(fields[0])
            elif name == "Anonymous:":
                files[mapped] = max(files.get(mapped, 0), kilobytes - int(fields[0]))
    anonymous = sum(_kilobytes(Path(f"/proc/{member}/smaps_rollup"), "Pss_Anon") for member in tree(pid))
    return (anonymous + sum(files.values())) / MIB


def _kilobytes(file: Path, name: str) -> int:
    return sum(int(line.split()[1]) for line in file.read_text().splitlines() if line.startswith(f"{name}:"))
