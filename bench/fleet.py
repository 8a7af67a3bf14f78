"""Many targets through /probe, each scraped on schedule, even if earlier responses are late."""

import asyncio
import contextlib
import json
import socket
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import urlopen

from bench.load import Connection, failure, get
from bench.parts import Bench, Size
from bench.processes import BenchError, Served, Upstream, cpu_seconds, exporter, pss_mib, upstream
from bench.report import GOALS, goal, table

WORKERS = 2

#: Seconds after which a probe has failed.
TIMEOUT = 15

#: The headers that Prometheus 3 sends with a scrape.
HEADERS = (
    "Accept: application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,"
    "application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,"
    "text/plain;version=0.0.4;q=0.3,*/*;q=0.2",
    "Accept-Encoding: gzip",
    "X-Prometheus-Scrape-Timeout-Seconds: 10",
)

#: The parameter of a probe for the document of the node alone.
NODE = "&collect[]=node"

#: The response of a probe contains this line: for a target that is up, and for one that is down.
UP, DOWN = b"patroni_up 1.0\n", b"patroni_up 0.0\n"


@dataclass
class Probes:
    """The results of the probes of a group of targets: seconds since each was due, and failures."""

    seconds: list[float] = field(default_factory=list)
    failures: Counter[str] = field(default_factory=Counter)

    def __str__(self) -> str:
        """Returns the quantiles 0.5 and 0.99."""
        return f"{self.quantile(0.5) * 1000:,.0f} ms, {self.quantile(0.99) * 1000:,.0f} ms"

    def quantile(self, q: float) -> float:
        """Returns the duration in seconds at this quantile."""
        ordered = sorted(self.seconds) or [0.0]
        return ordered[min(len(ordered) - 1, int(len(ordered) * q))]

    @property
    def count(self) -> int:
        return len(self.seconds) + self.failures.total()

    @property
    def failed(self) -> str:
        return ": ".join([f"{self.failures.total():,} of {self.count:,}", *self.failures])


#: A target, the line that its response contains, and the results that it counts for.
Target = tuple[str, bytes, Probes]


@dataclass(frozen=True)
class Run:
    """The results of a run in which all targets are up. Times are in seconds."""

    due: float  # probes per second
    probes: Probes
    elapsed: float
    cpu: float
    requests: Mapping[str, int]
    series: int
    pss: float
    discoveries: list[float]

    @property
    def rate(self) -> float:
        return len(self.probes.seconds) / self.elapsed


#: The rows of the table of runs: the figure, its value, its target and whether it is reached.
FIGURES: tuple[tuple[str, Callable[[Run], str], str, Callable[[Run], bool] | None], ...] = (
    ("probes per second", lambda run: f"{run.rate:,.0f} of {run.due:,.0f}", "all",
        lambda run: run.rate > 0.97 * run.due),
    ("p50 and p99 of a probe", lambda run: str(run.probes), "p99 below 500 ms",
        lambda run: run.probes.quantile(0.99) < 0.5),
    ("failed", lambda run: run.probes.failed, "none", lambda run: not run.probes.failures),
    ("CPUs used by the exporter", lambda run: f"{run.cpu / run.elapsed:.2f}", "below 1",
        lambda run: run.cpu < run.elapsed),
    ("PSS of all processes", lambda run: f"{run.pss:.0f} MiB", "below 150 MiB", lambda run: run.pss < 150),
    ("CPU time per probe", lambda run: f"{run.cpu / run.probes.count * 1000:.2f} ms", "", None),
    ("requests to Patroni per second", lambda run: f"{sum(run.requests.values()) / run.elapsed:,.0f}", "", None),
    ("of these `/cluster`, for which Patroni reads its DCS",
        lambda run: f"{run.requests['/cluster'] / run.elapsed:,.0f}", "", None),
    ("series of a cluster", lambda run: str(run.series), "", None),
    ("`/sd` the first and the second time", lambda run: ", ".join(f"{s:.1f} s" for s in run.discoveries), "", None),
)  # fmt: skip


def fleet(bench: Bench) -> str:
    """Two workers probe many targets on schedule, even if earlier responses are late. A document takes 5 to 50 ms.
    The load generator sends the headers of Prometheus, so the responses are in OpenMetrics and compressed.
    With one view, as in the scrape job of [http_sd.yml](../deploy/prometheus/http_sd.yml), the targets are those of
    `/sd`, which is requested once a minute, and only one member of each cluster is requested for all documents. The
    load generator and the upstream run on the same CPUs. A probe fails with status 503 while its worker serves 1,000
    others or its CPU is overloaded. Where half of the targets hang, there is one view of each cluster too.
    """
    size = bench.size
    runs = {
        f"{'one view' if view else 'every member'}, every {interval:.3g} s": run(
            size.targets, interval, seconds, view=view
        )
        for view, interval, seconds in (
            (False, size.interval, size.fleet_seconds),
            (True, size.interval, size.fleet_seconds),
            (True, size.interval / 1.5, size.fleet_seconds / 2),
        )
    }
    rows = [
        goal(
            figure, *map(value, runs.values()), target=target, reached=[*map(reached, runs.values())] if reached else ()
        )
        for figure, value, target, reached in FIGURES
    ]
    others = [*half_hang(size.targets, size), *all_refuse(size.targets, size)]
    return f"{table((GOALS[0], *runs, *GOALS[2:]), rows)}\n{table(GOALS, others)}"


def run(count: int, interval: float, seconds: float, *, view: bool) -> Run:
    """Returns the results of a run in which all targets are up."""
    with (
        tempfile.TemporaryDirectory() as folder,
        upstream(0.005, 0.05, "0.0.0.0") as server,  # noqa: S104 - every address is a target
        exporter(server, WORKERS, settings=_modules(folder, server, count if view else 0)) as served,
    ):
        targets = addresses(count, urlsplit(server.patroni).port or 0)
        discoveries = []
        for _ in range(2 if view else 0):
            start = time.perf_counter()
            targets = discovered(served)
            discoveries.append(time.perf_counter() - start)
        if view and len(targets) != count // 3 * 3:
            raise BenchError(f"/sd returned {len(targets)} targets: expected {count // 3 * 3}")
        probes, warmup = Probes(), Probes()
        asyncio.run(run_probes(served, [(target, UP, warmup) for target in targets], interval, min(3.0, seconds)))
        before, cpu, start = server.counts(), cpu_seconds(served.pid), time.perf_counter()
        with refreshing(served) if view else contextlib.nullcontext():
            asyncio.run(run_probes(served, [(target, UP, probes) for target in targets], interval, seconds))
        elapsed, cpu = time.perf_counter() - start, cpu_seconds(served.pid) - cpu
        requests = {path: number - before[path] for path, number in server.counts().items()}
        series = sum(series_of(served, target) for target in targets[:3])
        return Run(len(targets) / interval, probes, elapsed, cpu, requests, series, pss_mib(served.pid), discoveries)


def half_hang(count: int, size: Size) -> Iterator[tuple[str, ...]]:
    """Half of the targets hang; compares the other half with a run in which all targets are up."""
    rounds = []
    with (
        tempfile.TemporaryDirectory() as folder,
        upstream(0.005, 0.05, "0.0.0.0") as server,  # noqa: S104 - every address is a target
        hanging_server() as hanging,
    ):
        port = urlsplit(server.patroni).port or 0
        for other in (port, hanging):
            with exporter(server, WORKERS, settings=_modules(folder)) as served:
                up, others = Probes(), Probes()
                half, other_half = (one_view(addresses(count // 2, each)) for each in (port, other))
                contains = UP if other == port else DOWN
                pairs = zip(half, other_half, strict=True)
                targets = [target for one, two in pairs for target in ((one, UP, up), (two, contains, others))]
                asyncio.run(run_probes(served, targets, size.interval, size.fleet_seconds))
                rounds.append((up, others, pss_mib(served.pid)))
    (all_up, _, _), (half_up, down, pss) = rounds
    is_as_fast = half_up.quantile(0.5) < 1.25 * all_up.quantile(0.5) and not half_up.failures
    yield goal(f"{count:,} targets, all up: p50 and p99 of the first half", str(all_up))
    value = f"{half_up}; failed: {half_up.failed}"
    yield goal(f"{count:,} targets, half hang: the other half", value, target="as fast", reached=[is_as_fast])
    yield goal("hanging targets without `patroni_up 0`", down.failed, target="none", reached=[not down.failures])
    yield goal("PSS of all processes", f"{pss:.0f} MiB")


def all_refuse(count: int, size: Size) -> Iterator[tuple[str, ...]]:
    """All targets refuse the connection; compares the CPU time of the first and of the last round."""
    with socket.socket() as closed, tempfile.TemporaryDirectory() as folder, upstream() as server:
        closed.bind(("0.0.0.0", 0))  # noqa: S104 - every address is a target; no connection is accepted
        port = closed.getsockname()[1]
        with exporter(server, WORKERS, settings=_modules(folder)) as served:
            cpus = []
            for probes in (first := Probes(), last := Probes()):
                targets = [(target, DOWN, probes) for target in addresses(count, port)]
                cpu = cpu_seconds(served.pid)
                asyncio.run(run_probes(served, targets, size.interval, max(size.fleet_seconds / 2, size.interval)))
                cpus.append((cpu_seconds(served.pid) - cpu) / probes.count)
            pss = pss_mib(served.pid)
    value = f"{last}; failed: {last.failed}"
    is_reached = last.quantile(0.99) < 1 and not first.failures + last.failures
    yield goal(
        f"{count:,} targets, all refuse: p50 and p99", value, target="p99 below 1 s, none failed", reached=[is_reached]
    )
    value = ", ".join(f"{cpu * 1000:.2f} ms" for cpu in cpus)
    yield goal(
        "CPU time per probe, in the first and in the last round",
        value,
        target="no growth",
        reached=[cpus[1] < 1.25 * cpus[0]],
    )
    yield goal("PSS of all processes", f"{pss:.0f} MiB", target="below 150 MiB", reached=[pss < 150])


async def run_probes(served: Served, targets: list[Target], interval: float, seconds: float) -> None:
    """Probes each target once per interval, evenly spread, for some seconds, and waits for the last responses."""
    start, gap = time.perf_counter(), interval / len(targets)
    pending: set[asyncio.Task[None]] = set()
    idle: list[Connection] = []
    for number in range(int(seconds / gap)):
        due = start + number * gap
        if (early := due - time.perf_counter()) > 0:
            await asyncio.sleep(early)
        task = asyncio.create_task(probe(served, targets[number % len(targets)], due, idle))
        pending.add(task)
        task.add_done_callback(pending.discard)
    await asyncio.gather(*pending)


async def probe(served: Served, target: Target, due: float, idle: list[Connection]) -> None:
    """Probes one target and records the result. A connection serves several targets, as in Prometheus."""
    address, contains, probes = target
    url = f"{served.url}/probe?module=patroni&target={address}"
    connection = idle.pop() if idle else Connection(url)
    end: asyncio.Future[tuple[bytes, bytes | None, float]] = asyncio.get_running_loop().create_future()

    def done(response: bytes, body: bytes | None, ended: float) -> None:
        if not end.done():
            end.set_result((response, body, ended))

    connection.send(get(url, *HEADERS), done)
    try:
        response, body, ended = await asyncio.wait_for(end, TIMEOUT)
    except TimeoutError:
        connection.close()
        probes.failures[f"no response within {TIMEOUT} s"] += 1
        return
    idle.append(connection)
    if reason := failure(response, body, contains):
        probes.failures[reason] += 1
    else:
        probes.seconds.append(ended - due)


def addresses(count: int, port: int) -> list[str]:
    """Returns a number of different loopback targets."""
    return [f"127.{1 + number // 62500}.{number // 250 % 250}.{1 + number % 250}:{port}" for number in range(count)]


def one_view(targets: list[str]) -> list[str]:
    """Returns the targets of clusters of three with one view, as `discovered` does."""
    return [target + NODE * (number % 3 > 0) for number, target in enumerate(targets)]


@contextlib.contextmanager
def hanging_server() -> Iterator[int]:
    """Yields the port of a server that never calls accept(): clients connect but get no response."""
    with socket.create_server(("0.0.0.0", 0), backlog=4096) as listener:  # noqa: S104 - every address is a target
        yield listener.getsockname()[1]


def discovered(served: Served) -> list[str]:
    """Returns the targets that /sd finds, with the parameter `collect` that the job of Prometheus adds to them."""
    with urlopen(f"{served.url}/sd?module=patroni", timeout=30) as response:  # noqa: S310 - of our own process
        groups = json.load(response)
    return [
        group["targets"][0] + NODE * (group["labels"].get("__meta_patroni_cluster_view") == "false") for group in groups
    ]


@contextlib.contextmanager
def refreshing(served: Served) -> Iterator[None]:
    """Requests /sd once a minute, as Prometheus does."""
    end = threading.Event()

    def refresh() -> None:
        while not end.wait(20):
            with contextlib.suppress(HTTPError):  # refused in overload; Prometheus keeps its targets then
                discovered(served)
            end.wait(40)

    thread = threading.Thread(target=refresh)
    thread.start()
    try:
        yield
    finally:
        end.set()
        thread.join()


def series_of(served: Served, target: str) -> int:
    """Returns the number of samples of a target."""
    with urlopen(f"{served.url}/probe?module=patroni&target={target}", timeout=30) as response:  # noqa: S310 - own
        return sum(not line.startswith(b"#") for line in response)


def _modules(folder: str, server: Upstream | None = None, count: int = 0) -> dict[str, str]:
    """Returns the settings for a module which, with a count, discovers so many members from a seed of each cluster."""
    file = Path(folder, "modules.yml")
    module: dict[str, object] = {"collector": "patroni", "timeout": "5s", "targets": ["127.0.0.0/8"]}
    if server and count:
        port = urlsplit(server.patroni).port or 0
        module["discovery"] = {"seeds": addresses(count, port)[1 : count // 3 * 3 : 3]}
    file.write_text(json.dumps({"modules": {"patroni": module}}))
    return {"EXPORTER_CONFIG_FILE": str(file)}
