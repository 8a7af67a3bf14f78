"""The parts of the benchmark with one target. The docstring of a part is the text above its tables."""

import json
import re
import statistics
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from operator import truediv
from pathlib import Path
from typing import Any

from bench.processes import (
    BenchError,
    Served,
    Upstream,
    cpu_seconds,
    exporter,
    gopaytech,
    pss_mib,
    resident_mib,
    running,
    showmax,
    simple_exporter,
    upstream,
)
from bench.report import GOALS, commit, goal, table
from bench.upstream import PATRONI, STAYTUS

#: A successful scrape contains this line.
UP = "patroni_up 1.0\n"

#: Exporters by other authors, by their argument, each with a line of a successful scrape. They request /patroni.
PEERS = {
    "showmax": ("Showmax's exporter", showmax, "patroni_patroni_info{"),
    "gopaytech": ("gopaytech's exporter", gopaytech, "patroni_node_up 1\n"),
}

#: The columns of the table of exporters.
EXPORTERS = (
    *("exporter", "documents", "samples", "scrapes/s", "p50", "p99", "CPU per scrape"),
    *("p50, one client", "CPU per scrape, one client", "memory"),
)

Figures = dict[str, Any]


@dataclass(frozen=True)
class Size:
    """The number of rounds, scrapes, targets and so on, and durations in seconds: by default for a run of minutes."""

    rounds: int = 5
    seconds: float = 3.0
    iterations: int = 1000
    scrapes: int = 100_000
    starts: int = 5
    targets: int = 10_000
    interval: float = 15.0
    fleet_seconds: float = 60.0


#: For a run of seconds that only shows that the benchmark works.
QUICK = Size(1, 0.4, iterations=30, scrapes=500, starts=1, targets=100, interval=2.0, fleet_seconds=2.0)


@dataclass(frozen=True)
class Exporter:
    """An exporter to compare: the number of documents that it requests, and a line of a successful scrape."""

    name: str
    documents: int
    start: Callable[[], AbstractContextManager[Served]]
    contains: str


class Bench:
    """The parts; counts the responses and the failures."""

    def __init__(self, size: Size, peers: Mapping[str, Path]) -> None:
        self.size = size
        self.peers = peers
        self.responses = 0
        self.failed: Counter[str] = Counter()

    def load(self, url: str, *arguments: object, contains: str = "") -> Figures:
        """Runs the load generator and returns its figures."""
        options = [url, *map(str, arguments), "--contains", contains]
        figures: Figures = json.loads(_output("bench.load", *options))
        self.responses += figures["responses"]
        for reason, count in figures["reasons"].items():
            self.failed[f"{' '.join(options)}: {reason}"] += count
        return figures

    def scrape(self, served: Served, *arguments: object, contains: str = UP) -> Figures:
        """Runs the load generator on /metrics; `cpu` is the CPU time of a scrape in seconds."""
        before = cpu_seconds(served.pid)
        figures = self.load(f"{served.url}/metrics", *arguments, contains=contains)
        return figures | {"cpu": (cpu_seconds(served.pid) - before) / max(1, figures["responses"])}

    def throughput(self) -> str:
        """Eight clients, then one client, send one request after another to an exporter, while no other exporter runs.
        Each figure is the median of all rounds. Showmax's and gopaytech's exporters request one document, `/patroni`.
        This exporter requests five documents by default. Its scrapes share requests in flight: with eight clients, it
        sends less than five requests per scrape. The single-threaded exporter is
        [simple_exporter.py](simple_exporter.py). Memory is the resident memory of all processes of an exporter; pages
        that they share count once, and pages that they share with other programs count fully.
        """
        eight = ("--clients", 8, "--seconds", self.size.seconds)
        direct, healthy = [], []
        with upstream() as server:
            exporters = self._exporters(server)
            runs: dict[Exporter, list[Figures]] = {each: [] for each in exporters}
            for _ in range(self.size.rounds):
                direct.append(self.load(f"{server.patroni}/cluster", *eight))
                for each in exporters:
                    with each.start() as served:
                        runs[each].append(self._compared(served, each.contains))
                        if each is exporters[0]:
                            healthy.append(self.load(f"{served.url}/-/healthy", *eight, contains="OK\n"))
        to_healthy, to_simple = (_ratio(runs[exporters[0]], other) for other in (healthy, runs[exporters[-1]]))
        goals = (
            goal("one document of the upstream", _rate(direct)),
            goal("`/-/healthy`, two workers", _rate(healthy)),
            _at_least("`/metrics`, two workers, against `/-/healthy`", to_healthy, 0.6),
            _at_least("`/metrics`, two workers, against the single-threaded exporter, five documents", to_simple, 3),
        )
        missing = [f"{name} was not measured.\n" for key, (name, *_) in PEERS.items() if key not in self.peers]
        rows = (_exporter_row(each, runs[each]) for each in exporters)
        return "\n".join([table(EXPORTERS, rows), *missing, table(GOALS, goals)])

    def _exporters(self, server: Upstream) -> list[Exporter]:
        """Returns the exporters to compare; the first and the last one are those of the goals."""
        found = []
        for workers, name in ((2, "this exporter, two workers"), (1, "this exporter, one worker")):
            found.append(Exporter(name, len(PATRONI), partial(exporter, server, workers), UP))
            found.append(Exporter(name, 1, partial(exporter, server, workers, only_node=True), UP))
        for argument, path in self.peers.items():
            name, start, contains = PEERS[argument]
            label = f"{name}, {commit(path)}, {{runtime}}"
            found.append(Exporter(label, 1, partial(start, path, server), contains))
        for paths in (["/patroni"], list(PATRONI)):
            simple = partial(simple_exporter, server, *paths)
            found.append(Exporter("single-threaded exporter", len(paths), simple, "simple_up 1.0\n"))
        return found

    def _compared(self, served: Served, contains: str) -> Figures:
        """Returns the figures of one exporter in one round."""
        self.scrape(served, "--clients", 8, "--seconds", self.size.seconds / 10, contains=contains)  # warm up
        eight = self.scrape(served, "--clients", 8, "--seconds", self.size.seconds, contains=contains)
        one = self.scrape(served, "--seconds", self.size.seconds / 2, contains=contains)
        return eight | {
            "p50 of one": one["p50"],
            "cpu of one": one["cpu"],
            "memory": resident_mib(served.pid),
            "samples": sum(not line.startswith("#") for line in served.text.splitlines()),
            "runtime": " ".join(re.findall(r'(?m)^(go|python)_info{.*version="(?:go)?(.+?)"', served.text)[0]).title(),
        }

    def latency(self) -> str:
        """The median scrape with one client, minus the median of its slowest document."""
        rows = []
        for delay in (0.0, 0.02, 0.2):
            count = max(3, min(self.size.iterations // 5, int(5 / delay) if delay else self.size.iterations))
            differences, scrapes = [], []
            with upstream(delay) as server, exporter(server, workers=1) as served:
                for _ in range(1 if delay > 0.1 else self.size.rounds):
                    slowest = max(
                        self.load(server.patroni + path, "--count", max(3, count // 5))["p50"] for path in PATRONI
                    )
                    scrapes.append(self.scrape(served, "--count", count)["p50"])
                    differences.append(scrapes[-1] - slowest)
            added = statistics.median(differences)
            value = f"{added * 1000:.1f} ms of {_milliseconds(scrapes, 1)}"
            figure = f"delay of the upstream {delay * 1000:.0f} ms"
            rows.append(goal(figure, value, target="at most 3 ms", reached=[added <= 0.003]))
        return table(GOALS, rows)

    def cpu(self) -> str:
        """CPU time per scrape of one worker, against a bare loop that sends one request after another with
        `Session.send()` for the same documents, and writes the same families with `generate_latest()`
        ([bare_loop.py](bare_loop.py)).
        """
        count = self.size.iterations
        one, eight, bare = [], [], []
        with upstream() as server, exporter(server, workers=1) as served:
            for _ in range(self.size.rounds):
                one.append(self.scrape(served, "--count", count)["cpu"])
                loop = ("bench.bare_loop", server.patroni, f"{served.url}/metrics", "--count", str(count))
                bare.append(float(_output(*loop)))
                eight.append(self.scrape(served, "--clients", 8, "--count", count)["cpu"])
        ratio, shared = (statistics.median(map(truediv, runs, bare)) for runs in (one, eight))
        of_bare = f"{_milliseconds(one)}, {ratio:.2f} of the bare loop"
        rows = (
            goal("bare loop", _milliseconds(bare)),
            goal("one client", of_bare, target="at most 1.5 of it", reached=[ratio <= 1.5]),
            goal("eight clients, which share requests", f"{_milliseconds(eight)}, {shared:.2f} of the bare loop"),
        )
        return table(GOALS, rows)

    def memory(self) -> str:
        """PSS of gunicorn and one worker, which scrape Patroni and Staytus for 64 clients. PSS divides shared pages
        among all processes: it is lower while other Python programs run, as the benchmark itself does.
        """
        early = self.size.scrapes // 10
        with upstream() as server, exporter(server, workers=1, staytus=True) as served:
            idle, alone = pss_mib(served.pid), resident_mib(served.pid)
            self.scrape(served, "--clients", 64, "--count", early)
            after_early = pss_mib(served.pid)
            self.scrape(served, "--clients", 64, "--count", self.size.scrapes - early)
            growth = pss_mib(served.pid) - after_early
        rows = (
            goal("idle", f"{idle:.1f} MiB", target="at most 45 MiB", reached=[idle <= 45]),
            goal("idle, if no other program uses the same files", f"{alone:.1f} MiB"),
            goal(f"after {early:,} scrapes", f"{after_early:.1f} MiB"),
            goal(f"growth to {self.size.scrapes:,}", f"{growth:+.2f} MiB", target="below 1 MiB", reached=[growth < 1]),
        )
        return table(GOALS, rows)

    def start(self) -> str:
        """The time from the start of the process to the end of the first scrape, with one worker."""
        starts = []
        with upstream() as server:
            for _ in range(self.size.starts + 1):
                with exporter(server, workers=1) as served:
                    starts.append(served.first_scrape)
        median = statistics.median(starts[1:])  # the first may compile
        row = goal("start to first scrape", f"{median:.2f} s", target="at most 1 s", reached=[median <= 1])
        return table(GOALS, [row])

    def requests(self) -> str:
        """The number of requests that one worker sends to Patroni and Staytus per scrape."""
        count = self.size.iterations
        documents = len(PATRONI) + len(STAYTUS)
        rows = []
        with upstream() as server, exporter(server, workers=1, staytus=True) as served:
            for clients in (1, 8, 64):
                before = server.requests()
                self.scrape(served, "--clients", clients, "--count", count)
                requests = (server.requests() - before) / count
                figure = f"requests per scrape of {documents} documents, {clients} clients"
                rows.append(goal(figure.replace("1 clients", "1 client"), f"{requests:.2f}"))
        return table(GOALS, rows)


def _output(*command: str) -> str:
    with running(*command) as process:
        out, _ = process.communicate(timeout=1000)
        if process.returncode:
            raise BenchError(f"{' '.join(command)}: exit status {process.returncode}")
    return out


def _exporter_row(each: Exporter, runs: Sequence[Figures]) -> tuple[str, ...]:
    rate, memory = (statistics.median(run[key] for run in runs) for key in ("rate", "memory"))
    times = [_milliseconds(run[key] for run in runs) for key in ("p50", "p99", "cpu", "p50 of one", "cpu of one")]
    return (
        each.name.format(runtime=runs[0]["runtime"]),
        str(each.documents),
        str(runs[0]["samples"]),
        f"{rate:.0f}",
        *times,
        f"{memory:.1f} MiB",
    )


def _rate(runs: Sequence[Figures]) -> str:
    rate, p50, p99 = (statistics.median(run[key] for run in runs) for key in ("rate", "p50", "p99"))
    return f"{rate:.0f}/s, p50 {p50 * 1000:.1f} ms, p99 {p99 * 1000:.1f} ms"


def _ratio(ours: Sequence[Figures], theirs: Sequence[Figures]) -> float:
    """Returns the median of the ratios of each round, because other load on the machine slows both of a round."""
    return statistics.median(float(mine["rate"] / other["rate"]) for mine, other in zip(ours, theirs, strict=True))


def _at_least(figure: str, value: float, target: float) -> tuple[str, ...]:
    return goal(figure, f"{value:.2f}", target=f"at least {target:g}", reached=[value >= target])


def _milliseconds(seconds: Iterable[float], digits: int = 2) -> str:
    return f"{statistics.median(seconds) * 1000:.{digits}f} ms"
