"""Many targets through /probe, each scraped on schedule, even if earlier responses are late.

python -m bench.fleet [--quick] [--targets 10000] [--interval 15] [--seconds 60] [--workers 2]
"""

import argparse
import asyncio
import contextlib
import json
import socket
import statistics
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import urlopen

from bench.__main__ import Row
from bench.load import complete_body
from bench.processes import BenchError, Served, Upstream, cpu_seconds, exporter, pss_mib, running, upstream

#: The response of a probe contains this line: for a target that is up, and for one that is down.
UP, DOWN = b"patroni_up 1.0\n", b"patroni_up 0.0\n"


@dataclass
class Probes:
    """The results of the probes of a group of targets: seconds since each was due, and failures."""

    seconds: list[float] = field(default_factory=list)
    failures: Counter[str] = field(default_factory=Counter)

    def __str__(self) -> str:
        """Returns the quantiles 0.5 and 0.99."""
        return f"p50 {self.quantile(0.5) * 1000:.0f} ms, p99 {self.quantile(0.99) * 1000:.0f} ms"

    def quantile(self, q: float) -> float:
        """Returns the duration in seconds at this quantile."""
        ordered = sorted(self.seconds) or [0.0]
        return ordered[min(len(ordered) - 1, int(len(ordered) * q))]


class _Connection(asyncio.Protocol):
    """A persistent connection, which serves several targets, as in Prometheus."""

    def __init__(self, idle: list["_Connection"]):
        self._idle = idle
        self._received = b""
        self._done: asyncio.Future[bytes] | None = None
        self.transport: asyncio.WriteTransport | None = None

    def send(self, request: bytes) -> asyncio.Future[bytes]:
        """Sends a request; the response is empty if the connection closes before it is complete."""
        assert self.transport is not None  # noqa: S101 - connected
        self._done = asyncio.get_running_loop().create_future()
        self.transport.write(request)
        return self._done

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.WriteTransport)  # noqa: S101 - of a stream
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self._received += data
        if complete_body(self._received, closed=False) is not None:
            self._finish(self._received)
            self._idle.append(self)

    def connection_lost(self, _: Exception | None) -> None:
        self.transport = None
        self._finish(b"")

    def _finish(self, response: bytes) -> None:
        self._received = b""
        if self._done is not None and not self._done.done():
            self._done.set_result(response)


async def probe(
    served: Served, target: str, contains: bytes, due: float, probes: Probes, idle: list[_Connection]
) -> None:
    """Probes one target and records the result."""
    url = urlsplit(served.url)
    head = f"Host: {url.netloc}\r\nX-Prometheus-Scrape-Timeout-Seconds: 10\r\n\r\n"
    request = f"GET /probe?module=patroni&target={target} HTTP/1.1\r\n{head}".encode()
    try:
        response = b""
        while idle and not response:  # the server may have closed an idle connection
            connection = idle.pop()
            response = await asyncio.wait_for(connection.send(request), 15) if connection.transport else b""
        if not response:
            loop = asyncio.get_running_loop()
            _, connection = await loop.create_connection(lambda: _Connection(idle), url.hostname or "", url.port)
            response = await asyncio.wait_for(connection.send(request), 15)
    except OSError as error:
        probes.failures[f"no response: {error.strerror or type(error).__name__}"] += 1
        return
    body = complete_body(response, closed=False)
    if b" 200 " not in response[:16] or body is None or contains not in body:
        probes.failures[response[:40].decode("latin-1").partition("\r")[0] or "empty response"] += 1
    else:
        probes.seconds.append(time.perf_counter() - due)


async def run_probes(served: Served, targets: list[tuple[str, bytes, Probes]], interval: float, seconds: float) -> None:
    """Probes each target once per interval, evenly spread, for some seconds, and waits for the last responses."""
    start, gap = time.perf_counter(), interval / len(targets)
    pending: set[asyncio.Task[None]] = set()
    idle: list[_Connection] = []
    for number in range(int(seconds / gap)):
        due = start + number * gap
        if (early := due - time.perf_counter()) > 0:
            await asyncio.sleep(early)
        target, contains, probes = targets[number % len(targets)]
        task = asyncio.create_task(probe(served, target, contains, due, probes, idle))
        pending.add(task)
        task.add_done_callback(pending.discard)
    await asyncio.gather(*pending)


def addresses(count: int, port: int) -> list[str]:
    """Returns a number of different loopback targets."""
    return [f"127.{1 + number // 62500}.{number // 250 % 250}.{1 + number % 250}:{port}" for number in range(count)]


@contextlib.contextmanager
def hanging_server() -> Iterator[int]:
    """Yields the port of a server that never calls accept(): clients connect but get no response."""
    with socket.create_server(("0.0.0.0", 0), backlog=4096) as listener:  # noqa: S104 - every address is a target
        yield listener.getsockname()[1]


def fleet(count: int, interval: float, seconds: float, workers: int, *, view: bool) -> Iterator[Row]:
    """All targets are up; each document takes 5 to 50 ms.

    With `view` the targets are those of /sd, which is requested once a minute, and of each cluster only its view is
    requested for all documents.
    """
    with (
        tempfile.TemporaryDirectory() as folder,
        upstream(0.005, 0.05, "0.0.0.0") as server,  # noqa: S104 - every address is a target
        exporter(server, workers, settings=_modules(folder, server, count if view else 0)) as served,
    ):
        port = urlsplit(server.patroni).port or 0
        probes, warmup = Probes(), Probes()
        if view:
            started = time.perf_counter()
            discovered(served)
            yield Row(
                f"/sd of {count // 3} clusters: seconds for the first time", f"{time.perf_counter() - started:.1f}"
            )
            started = time.perf_counter()
            targets = [(target, UP, probes) for target in discovered(served)]
            yield Row("seconds once they are known", f"{time.perf_counter() - started:.1f}")
            yield Row("targets", str(len(targets)), str(count // 3 * 3), len(targets) == count // 3 * 3)
        else:
            targets = [(target, UP, probes) for target in addresses(count, port)]
        asyncio.run(run_probes(served, [(target, UP, warmup) for target, *_ in targets], interval, min(3.0, seconds)))
        before, cpu, start = server.counts(), cpu_seconds(served.pid), time.perf_counter()
        with refreshing(served) if view else contextlib.nullcontext():
            asyncio.run(run_probes(served, targets, interval, seconds))
        elapsed, cpu = time.perf_counter() - start, cpu_seconds(served.pid) - cpu
        requests = {path: number - before[path] for path, number in server.counts().items()}
        memory = pss_mib(served.pid)
        series = sum(len(samples_of(served, target)) for target, *_ in targets[:3])
        one = f"{served.url}/probe?module=patroni&target={addresses(1, port)[0]}"
        with running("bench.bare_loop", server.patroni, one, "--probe", "--count", "50") as process:
            bare = float(process.communicate(timeout=600)[0])
    succeeded, failed = len(probes.seconds), probes.failures.total()
    due = len(targets) / interval
    what = "the view of each cluster for all documents" if view else "every member for all documents"
    yield Row(
        f"{len(targets)} targets every {interval:.3g} s, {what}: probes per second, of {due:.0f} that are due",
        f"{succeeded / elapsed:.0f}",
        "all",
        succeeded / elapsed > 0.97 * due,
    )
    yield Row("p50 and p99 of a probe", str(probes), "p99 below 0.5 s", probes.quantile(0.99) < 0.5)
    yield Row(f"failed of {succeeded + failed}", str(failed), "0", not failed)
    yield Row("CPUs used", f"{cpu / elapsed:.2f}", "below 1", cpu / elapsed < 1)
    yield Row("requests to Patroni per second", f"{sum(requests.values()) / elapsed:.0f}")
    yield Row("of these, /cluster, for which Patroni reads its DCS", f"{requests['/cluster'] / elapsed:.0f}")
    yield Row("series of a cluster", str(series))
    yield Row(f"PSS of all processes, {workers} workers", f"{memory:.0f} MiB", "below 150 MiB", memory < 150)
    per_probe = cpu / max(1, succeeded + failed)
    yield Row("CPU per probe", f"{per_probe * 1000:.2f} ms, {per_probe / bare:.2f} of the bare loop")
    for reason, times in probes.failures.items():
        sys.stderr.write(f"bench.fleet: {times} x {reason}\n")


def discovered(served: Served) -> list[str]:
    """Returns the targets that /sd finds, with the parameter `collect` that the job of Prometheus adds to them."""
    with urlopen(f"{served.url}/sd?module=patroni", timeout=30) as response:  # noqa: S310 - of our own process
        groups = json.load(response)
    return [
        group["targets"][0] + "&collect[]=node" * (group["labels"].get("__meta_patroni_cluster_view") == "false")
        for group in groups
    ]


@contextlib.contextmanager
def refreshing(served: Served) -> Iterator[None]:
    """Requests /sd once a minute, as Prometheus does."""
    end = threading.Event()

    def refresh() -> None:
        while not end.wait(20):
            discovered(served)
            end.wait(40)

    thread = threading.Thread(target=refresh)
    thread.start()
    try:
        yield
    finally:
        end.set()
        thread.join()


def samples_of(served: Served, target: str) -> list[str]:
    """Returns the lines with a sample."""
    with urlopen(f"{served.url}/probe?module=patroni&target={target}", timeout=30) as response:  # noqa: S310 - own
        return [line for line in response.read().decode().splitlines() if not line.startswith("#")]


def half_hang(count: int, interval: float, seconds: float, workers: int) -> Iterator[Row]:
    """Half of the targets hang; compares the other half with a run in which all targets are up."""
    rounds: list[tuple[Probes, Probes]] = []
    with (
        tempfile.TemporaryDirectory() as folder,
        upstream(0.005, 0.05, "0.0.0.0") as server,  # noqa: S104 - every address is a target
        hanging_server() as hanging,
    ):
        port = urlsplit(server.patroni).port or 0
        for other in (port, hanging):
            with exporter(server, workers, settings=_modules(folder)) as served:
                up, others = Probes(), Probes()
                half = addresses(count // 2, port)
                contains = UP if other == port else DOWN
                pairs = zip(half, addresses(count // 2, other), strict=True)
                targets = [target for one, two in pairs for target in ((one, UP, up), (two, contains, others))]
                asyncio.run(run_probes(served, targets, interval, seconds))
                rounds.append((up, others))
    (all_up, _), (half_up, down) = rounds
    ratio = statistics.median(half_up.seconds or [0.0]) / statistics.median(all_up.seconds or [1.0])
    yield Row(f"{count} targets, all up: the first half", str(all_up))
    yield Row(f"{count} targets, half hang: the other half", str(half_up), "as fast", ratio < 1.25)
    yield Row("failed of those that are up", str(half_up.failures.total()), "0", not half_up.failures)
    reported = len(down.seconds)
    yield Row("hanging targets with `patroni_up 0`", f"{reported} of {reported + down.failures.total()}")
    for reason, times in (half_up.failures + down.failures).items():
        sys.stderr.write(f"bench.fleet: {times} x {reason}\n")


def all_refuse(count: int, interval: float, seconds: float, workers: int) -> Iterator[Row]:
    """All targets refuse the connection; the CPU per probe in the first and in the last round."""
    with socket.socket() as closed, tempfile.TemporaryDirectory() as folder, upstream() as server:
        closed.bind(("0.0.0.0", 0))  # noqa: S104 - every address is a target; no connection is accepted
        port = closed.getsockname()[1]
        with exporter(server, workers, settings=_modules(folder)) as served:
            cpus = []
            for probes in (first := Probes(), last := Probes()):
                targets = [(target, DOWN, probes) for target in addresses(count, port)]
                cpu = cpu_seconds(served.pid)
                asyncio.run(run_probes(served, targets, interval, max(seconds / 2, interval)))
                cpus.append((cpu_seconds(served.pid) - cpu) / max(1, len(probes.seconds)))
            memory = pss_mib(served.pid)
    failed = first.failures + last.failures
    yield Row(f"{count} targets, all refuse: p50 and p99", str(last), "p99 below 1 s", last.quantile(0.99) < 1)
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


def _modules(folder: str, server: Upstream | None = None, count: int = 0) -> dict[str, str]:
    """Returns the settings for a module which, with a count, discovers so many members from a seed of each cluster."""
    file = Path(folder, "modules.yml")
    module: dict[str, object] = {"collector": "patroni", "timeout": "5s", "targets": ["127.0.0.0/8"]}
    if server and count:
        port = urlsplit(server.patroni).port or 0
        module["discovery"] = {"seeds": addresses(count, port)[1 : count // 3 * 3 : 3]}
    file.write_text(json.dumps({"modules": {"patroni": module}}))
    return {"EXPORTER_CONFIG_FILE": str(file)}


def main() -> int:
    """Runs all parts and prints the table."""
    parser = argparse.ArgumentParser(prog="bench.fleet", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="few targets, to test the benchmark itself")
    parser.add_argument("--targets", type=int, default=10_000)
    parser.add_argument("--interval", type=float, default=15.0)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--workers", type=int, default=2)
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.targets, arguments.interval, arguments.seconds = 100, 2.0, 2.0
    rows: list[Row] = []
    try:
        for view in (False, True):
            rows += fleet(arguments.targets, arguments.interval, arguments.seconds, arguments.workers, view=view)
        faster = arguments.interval / 1.5
        rows += fleet(arguments.targets, faster, arguments.seconds / 2, arguments.workers, view=True)
        rows += half_hang(max(2, arguments.targets // 10), arguments.interval, arguments.seconds, arguments.workers)
        rows += all_refuse(arguments.targets, arguments.interval, arguments.seconds, arguments.workers)
    except BenchError as error:
        sys.stderr.write(f"bench.fleet: {error}\n")
        return 1
    sys.stdout.write(
        "\n".join(["| figure | value | target | reached |", "| --- | --- | --- | --- |", *map(str, rows)]) + "\n"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
