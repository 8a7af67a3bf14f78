"""The fleet: many targets through /probe, each at its moment, whether earlier answers are there or not.

python -m bench.fleet [--quick] [--targets 10000] [--interval 15] [--seconds 60] [--workers 2]
"""

import argparse
import asyncio
import contextlib
import socket
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from bench.__main__ import Row
from bench.load import whole_body
from bench.processes import BenchError, Served, cpu_seconds, exporter, pss_mib, running, upstream

#: What every answer must hold to count as a probe of a living target, or of a dead one.
UP, DOWN = b"patroni_up 1.0\n", b"patroni_up 0.0\n"

MODULES = "modules: {patroni: {collector: patroni, timeout: 5s, targets: [127.0.0.0/8]}}\n"


@dataclass
class Probes:
    """What became of the probes of one kind of target: seconds from the moment that each was due, and failures."""

    seconds: list[float] = field(default_factory=list)
    failures: Counter[str] = field(default_factory=Counter)

    def told(self) -> str:
        """Returns the middle and the slow end of the seconds."""
        return f"p50 {self.quantile(0.5) * 1000:.0f} ms, p99 {self.quantile(0.99) * 1000:.0f} ms"

    def quantile(self, share: float) -> float:
        """Returns the seconds that this share of the probes did not exceed."""
        ordered = sorted(self.seconds) or [0.0]
        return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


class _Connection(asyncio.Protocol):
    """A connection that is kept and used again, as Prometheus keeps those to one host for all of its targets."""

    def __init__(self, idle: list["_Connection"]):
        self._idle = idle
        self._received = b""
        self._over: asyncio.Future[bytes] | None = None
        self.transport: asyncio.WriteTransport | None = None

    def ask(self, request: bytes) -> asyncio.Future[bytes]:
        """Sends a request; the answer is empty where the connection ends before it is whole."""
        assert self.transport is not None  # noqa: S101 - it is connected
        self._over = asyncio.get_running_loop().create_future()
        self.transport.write(request)
        return self._over

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.WriteTransport)  # noqa: S101 - what a protocol of a stream gets
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self._received += data
        if whole_body(self._received, ended=False) is not None:
            self._answer(self._received)
            self._idle.append(self)

    def connection_lost(self, _: Exception | None) -> None:
        self.transport = None
        self._answer(b"")

    def _answer(self, answer: bytes) -> None:
        self._received = b""
        if self._over is not None and not self._over.done():
            self._over.set_result(answer)


async def probe(served: Served, target: str, holds: bytes, due: float, probes: Probes, idle: list[_Connection]) -> None:
    """Probes one target and counts what became of it."""
    url = urlsplit(served.url)
    head = f"Host: {url.netloc}\r\nX-Prometheus-Scrape-Timeout-Seconds: 10\r\n\r\n"
    request = f"GET /probe?module=patroni&target={target} HTTP/1.1\r\n{head}".encode()
    try:
        answer = b""
        while idle and not answer:  # one that was kept may have been closed meanwhile
            kept = idle.pop()
            answer = await asyncio.wait_for(kept.ask(request), 15) if kept.transport else b""
        if not answer:
            loop = asyncio.get_running_loop()
            _, fresh = await loop.create_connection(lambda: _Connection(idle), url.hostname or "", url.port)
            answer = await asyncio.wait_for(fresh.ask(request), 15)
    except OSError as error:
        probes.failures[f"no answer: {error.strerror or type(error).__name__}"] += 1
        return
    body = whole_body(answer, ended=False)
    if b" 200 " not in answer[:16] or body is None or holds not in body:
        probes.failures[answer[:40].decode("latin-1").partition("\r")[0] or "nothing"] += 1
    else:
        probes.seconds.append(time.perf_counter() - due)


async def drive(served: Served, targets: list[tuple[str, bytes, Probes]], interval: float, seconds: float) -> None:
    """Probes the targets in turn, evenly over each interval, for so many seconds, and waits for the last answers."""
    start, gap = time.perf_counter(), interval / len(targets)
    under_way: set[asyncio.Task[None]] = set()
    idle: list[_Connection] = []
    for number in range(int(seconds / gap)):
        due = start + number * gap
        if (early := due - time.perf_counter()) > 0:
            await asyncio.sleep(early)
        target, holds, probes = targets[number % len(targets)]
        task = asyncio.create_task(probe(served, target, holds, due, probes, idle))
        under_way.add(task)
        task.add_done_callback(under_way.discard)
    await asyncio.gather(*under_way)


def addresses(count: int, port: int) -> list[str]:
    """Returns so many different targets on this machine."""
    return [f"127.{1 + number // 62500}.{number // 250 % 250}.{1 + number % 250}:{port}" for number in range(count)]


@contextlib.contextmanager
def dead() -> Iterator[int]:
    """Gives the port of a server that never takes a connection out of its queue, which the kernel fills."""
    with socket.create_server(("0.0.0.0", 0), backlog=4096) as listener:  # noqa: S104 - every address is a target
        yield listener.getsockname()[1]


def fleet(count: int, interval: float, seconds: float, workers: int) -> Iterator[Row]:
    """All targets are alive, and each of their documents takes from 5 to 50 ms."""
    with (
        tempfile.TemporaryDirectory() as folder,
        upstream(0.005, 0.05, "0.0.0.0") as server,  # noqa: S104 - every address is a target
        exporter(server, workers, more=_modules(folder)) as served,
    ):
        port = urlsplit(server.patroni).port or 0
        probes, warm = Probes(), Probes()
        targets = [(target, UP, probes) for target in addresses(count, port)]
        asyncio.run(drive(served, [(target, UP, warm) for target, *_ in targets], interval, min(3.0, seconds)))
        cpu, start = cpu_seconds(served.pid), time.perf_counter()
        asyncio.run(drive(served, targets, interval, seconds))
        took, cpu = time.perf_counter() - start, cpu_seconds(served.pid) - cpu
        memory = pss_mib(served.pid)
        one = f"{served.url}/probe?module=patroni&target={targets[0][0]}"
        with running("bench.bare_loop", server.patroni, one, "--probe", "--count", "50") as process:
            bare = float(process.communicate(timeout=600)[0])
    answered, failed = len(probes.seconds), probes.failures.total()
    goal = count / interval
    yield Row(
        f"{count} targets each {interval:g} s: probes per second, of {goal:.0f} that are due",
        f"{answered / took:.0f}",
        "all",
        answered / took > 0.97 * goal,
    )
    yield Row("p50 and p99 of a probe", probes.told(), "p99 below 1 s", probes.quantile(0.99) < 1)
    yield Row(f"failed of {answered + failed}", str(failed), "0", not failed)
    yield Row(f"PSS of all processes, {workers} workers", f"{memory:.0f} MiB", "below 150 MiB", memory < 150)
    per_probe = cpu / max(1, answered + failed)
    yield Row("CPU per probe", f"{per_probe * 1000:.2f} ms, {per_probe / bare:.2f} of the bare loop")
    for reason, times in probes.failures.items():
        sys.stderr.write(f"bench.fleet: {times} x {reason}\n")


def half_dead(count: int, interval: float, seconds: float, workers: int) -> Iterator[Row]:
    """The living ones among targets of which half accept nobody, against the same ones with nobody dead."""
    rounds: list[tuple[Probes, Probes]] = []
    with tempfile.TemporaryDirectory() as folder, upstream(0.005, 0.05, "0.0.0.0") as server, dead() as grave:  # noqa: S104
        port = urlsplit(server.patroni).port or 0
        for other in (port, grave):
            with exporter(server, workers, more=_modules(folder)) as served:
                living, others = Probes(), Probes()
                half = addresses(count // 2, port)
                holds = UP if other == port else DOWN
                pairs = zip(half, addresses(count // 2, other), strict=True)
                targets = [target for one, two in pairs for target in ((one, UP, living), (two, holds, others))]
                asyncio.run(drive(served, targets, interval, seconds))
                rounds.append((living, others))
    (well, _), (beside, lost) = rounds
    ratio = statistics.median(beside.seconds or [0.0]) / statistics.median(well.seconds or [1.0])
    yield Row(f"{count} targets, none dead: the living", well.told())
    yield Row(f"{count} targets, half dead: the living", beside.told(), "as fast", ratio < 1.25)
    yield Row("failed of the living", str(beside.failures.total()), "0", not beside.failures)
    answered = len(lost.seconds)
    yield Row(
        "dead ones that were told as such, of all that were asked", f"{answered} of {answered + lost.failures.total()}"
    )
    for reason, times in (beside.failures + lost.failures).items():
        sys.stderr.write(f"bench.fleet: {times} x {reason}\n")


def all_dead(count: int, interval: float, seconds: float, workers: int) -> Iterator[Row]:
    """All targets refuse the connection; the CPU of the first probe of each, and that of the last round."""
    with socket.socket() as closed, tempfile.TemporaryDirectory() as folder, upstream() as server:
        closed.bind(("0.0.0.0", 0))  # noqa: S104 - every address is a target; no connection is accepted
        port = closed.getsockname()[1]
        with exporter(server, workers, more=_modules(folder)) as served:
            cpus = []
            for probes in (first := Probes(), last := Probes()):
                targets = [(target, DOWN, probes) for target in addresses(count, port)]
                cpu = cpu_seconds(served.pid)
                asyncio.run(drive(served, targets, interval, max(seconds / 2, interval)))
                cpus.append((cpu_seconds(served.pid) - cpu) / max(1, len(probes.seconds)))
            memory = pss_mib(served.pid)
    failed = first.failures + last.failures
    yield Row(f"{count} targets, all dead: a probe", last.told(), "p99 below 1 s", last.quantile(0.99) < 1)
    yield Row("failed", str(failed.total()), "0", not failed)
    yield Row(
        "CPU per probe, in the first and in the last round",
        f"{cpus[0] * 1000:.2f} ms, {cpus[1] * 1000:.2f} ms",
        "no growth",
        cpus[1] < 1.25 * cpus[0],
    )
    yield Row(f"PSS of all processes, {workers} workers", f"{memory:.0f} MiB", "below 150 MiB", memory < 150)
    for reason, times in failed.items():
        sys.stderr.write(f"bench.fleet: {times} x {reason}\n")


def _modules(folder: str) -> dict[str, str]:
    file = Path(folder, "modules.yml")
    file.write_text(MODULES)
    return {"EXPORTER_CONFIG_FILE": str(file)}


def main() -> int:
    """Runs all parts and prints the table."""
    parser = argparse.ArgumentParser(prog="bench.fleet", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="few targets, which show that it works and no speed")
    parser.add_argument("--targets", type=int, default=10_000)
    parser.add_argument("--interval", type=float, default=15.0)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--workers", type=int, default=2)
    given = parser.parse_args()
    if given.quick:
        given.targets, given.interval, given.seconds = 100, 2.0, 2.0
    rows: list[Row] = []
    try:
        rows += fleet(given.targets, given.interval, given.seconds, given.workers)
        rows += half_dead(max(2, given.targets // 10), given.interval, given.seconds, given.workers)
        rows += all_dead(given.targets, given.interval, given.seconds, given.workers)
    except BenchError as error:
        sys.stderr.write(f"bench.fleet: {error}\n")
        return 1
    sys.stdout.write(
        "\n".join(["| figure | value | target | reached |", "| --- | --- | --- | --- |", *map(str, rows)]) + "\n"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
