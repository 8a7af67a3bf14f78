"""The processes of a run, and the CPU time and memory of a process tree."""

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


def _first_line(process: subprocess.Popen[str]) -> str:
    line = process.stdout.readline() if process.stdout else ""
    if not line:
        raise BenchError(f"{process.args!r} exited without output")
    return line.strip()


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
        assert process.stdin is not None  # noqa: S101 - it is a pipe
        process.stdin.buffer.write(services())
        process.stdin.flush()
        patroni, staytus = _first_line(process).split()
        yield Upstream(f"http://127.0.0.1:{patroni}", f"http://127.0.0.1:{staytus}")


@contextlib.contextmanager
def simple_exporter(server: Upstream, *paths: str) -> Iterator[str]:
    """Runs the single-threaded exporter for these documents, by default all of Patroni; yields its base URL."""
    documents = paths or tuple(path.lstrip("/") for path in PATRONI)
    with running("bench.simple_exporter", server.patroni, *documents) as process:
        yield f"http://127.0.0.1:{_first_line(process)}"


#: The commands of other exporters, and a line of a successful scrape. Each of them requests only /patroni.
PEERS = {
    "showmax": (
        "{python} {path}/patroni_exporter.py -b 127.0.0.1 -p {port} -u {upstream}/patroni",
        "patroni_patroni_info{",
    ),
    "gopaytech": (
        "{path} --web.listen-address=127.0.0.1:{port} --patroni.host={host} --patroni.port={upstream_port}",
        "patroni_node_up 1\n",
    ),
}


@contextlib.contextmanager
def peer(name: str, path: Path, server: Upstream) -> Iterator[str]:
    """Runs another exporter for this upstream; yields the URL of its metrics. The path is its checkout or program."""
    port = _free_port()
    host, _, upstream_port = server.patroni.rpartition(":")
    values = {"python": sys.executable, "path": path.resolve(), "port": port, "upstream": server.patroni}
    command = PEERS[name][0].format(**values, host=host, upstream_port=upstream_port)
    with running(*command.split()) as process:
        url = f"http://127.0.0.1:{port}/metrics"
        _first_scrape(url, process)
        yield url


@dataclass(frozen=True)
class Served:
    """A running exporter: base URL, process id of gunicorn's master, seconds from start to first scrape."""

    url: str
    pid: int
    first_scrape: float


@contextlib.contextmanager
def exporter(
    server: Upstream, workers: int, *, staytus: bool = False, settings: Mapping[str, str] | None = None
) -> Iterator[Served]:
    """Runs the exporter for this upstream, with the Patroni module or with both, and scrapes it once."""
    port = _free_port()
    environ = {
        "PATRONI_EXPORTER_URL": f"{server.patroni}/patroni",
        "PATRONI_EXPORTER_BIND": "127.0.0.1",
        "PATRONI_EXPORTER_PORT": str(port),
    }
    if staytus:
        environ |= {"STAYTUS_API_URL": server.staytus, "STAYTUS_API_TOKEN": "token", "STAYTUS_API_SECRET": "secret"}
    environ |= settings or {}
    start = time.perf_counter()
    with running("exporter", "--workers", str(workers), environ=environ) as process:
        url = f"http://127.0.0.1:{port}"
        text = _first_scrape(f"{url}/metrics", process)
        elapsed = time.perf_counter() - start
        if text.count("_collector_success{") != 5 + 2 * staytus or '"} 0.0\n' in _successes(text):
            raise BenchError(f"a scrape of the fake upstream failed:\n{_successes(text)}")
        yield Served(url, process.pid, elapsed)


def _free_port() -> int:
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


def _successes(text: str) -> str:
    return "".join(line for line in text.splitlines(keepends=True) if "_collector_success{" in line)


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


def _kilobytes(file: Path, name: str) -> int:
    return sum(int(line.split()[1]) for line in file.read_text().splitlines() if line.startswith(f"{name}:"))
