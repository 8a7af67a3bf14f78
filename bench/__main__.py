"""The benchmark: runs the parts and prints a table of the results.

python -m bench [--quick] [--showmax CHECKOUT] [--gopaytech PROGRAM] [a] [b] [c] [d] [e] [f]    # default: all parts
"""

import argparse
import contextlib
import json
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.processes import (
    PEERS,
    BenchError,
    Served,
    Upstream,
    cpu_seconds,
    exporter,
    peer,
    pss_mib,
    running,
    simple_exporter,
    upstream,
)
from bench.upstream import PATRONI, STAYTUS

#: The body of a successful scrape contains this line.
UP = "patroni_up 1.0\n"


@dataclass(frozen=True)
class Row:
    """One line of the table; the target is optional."""

    figure: str
    value: str
    target: str = ""
    reached: bool | None = None

    def __str__(self) -> str:
        reached = {True: "yes", False: "no", None: ""}[self.reached]
        return f"| {self.figure} | {self.value} | {self.target} | {reached} |"


@dataclass(frozen=True)
class Size:
    """The number of rounds, scrapes and so on: by default for a run of minutes."""

    rounds: int = 5
    seconds: float = 3.0
    iterations: int = 1000
    scrapes: int = 100_000
    starts: int = 5


#: For a run of seconds that only shows that the benchmark works.
QUICK = Size(rounds=1, seconds=0.4, iterations=30, scrapes=500, starts=1)


class Bench:
    """One run; it counts all scrapes and the failed ones."""

    def __init__(self, size: Size, peers: Mapping[str, Path]):
        self.size = size
        self.peers = peers
        self.scrapes = 0
        self.failed: list[str] = []

    def load(self, url: str, *arguments: object, contains: str = "") -> dict[str, Any]:
        """Runs the load generator and returns its figures."""
        options = [url, *map(str, arguments), "--contains", contains]
        with running("bench.load", *options) as process:
            out, _ = process.communicate(timeout=1000)
            if process.returncode:
                raise BenchError(f"bench.load {' '.join(options)}: exit status {process.returncode}")
        figures: dict[str, Any] = json.loads(out)
        self.scrapes += figures["responses"]
        self.failed += [f"{' '.join(options)}: {count} x {reason}" for reason, count in figures["reasons"].items()]
        return figures

    def scrape(self, served: Served, *arguments: object) -> dict[str, Any]:
        """Runs the load generator on /metrics; every response must have `patroni_up 1`."""
        return self.load(f"{served.url}/metrics", *arguments, contains=UP)

    # parts

    def a(self) -> Iterator[Row]:
        """/metrics per second with 8 clients, against /-/healthy and the single-threaded exporter."""
        at = ("--clients", 8, "--seconds", self.size.seconds)
        rates: dict[str, list[dict[str, Any]]] = {}
        with (
            upstream() as server,
            exporter(server, workers=2) as served,
            simple_exporter(server) as simple,
            simple_exporter(server, "patroni") as simple_node,
            contextlib.ExitStack() as stack,
        ):
            peers = [
                (f"{name}'s exporter, only /patroni", stack.enter_context(peer(name, path, server)), PEERS[name][1])
                for name, path in self.peers.items()
            ]
            for _ in range(self.size.rounds):
                for name, url, contains in (
                    ("upstream, one document of Patroni", f"{server.patroni}/cluster", ""),
                    ("upstream, one document of Staytus", server.staytus + next(iter(STAYTUS)), ""),
                    ("/-/healthy, two workers", f"{served.url}/-/healthy", "OK\n"),
                    ("/metrics, two workers", f"{served.url}/metrics", UP),
                    ("single-threaded exporter, the same documents", f"{simple}/metrics", "simple_up 1.0\n"),
                    ("single-threaded exporter, only /patroni", f"{simple_node}/metrics", "simple_up 1.0\n"),
                    *peers,
                ):
                    rates.setdefault(name, []).append(self.load(url, *at, contains=contains))
        for name, runs in rates.items():
            yield Row(f"(a) {name}", _rate(runs))
        upstream_rates, _, healthy_rates, ours, simple_rates, simple_node_rates, *peer_rates = rates.values()
        yield _at_least("(a) /metrics against /-/healthy", _ratio(ours, healthy_rates), 0.6)
        yield _at_least(
            "(a) /metrics against the single-threaded exporter, the same documents", _ratio(ours, simple_rates), 3
        )
        yield Row(
            "(a) /metrics against the single-threaded exporter, only /patroni", f"{_ratio(ours, simple_node_rates):.2f}"
        )
        for name, theirs in zip(self.peers, peer_rates, strict=True):
            yield Row(f"(a) /metrics against {name}'s exporter, only /patroni", f"{_ratio(ours, theirs):.2f}")
        spare = _ratio(upstream_rates, ours) / len(PATRONI)
        yield Row(
            "(a) documents that the upstream can serve, for each that these scrapes request at most", f"{spare:.2f}"
        )

    def b(self) -> Iterator[Row]:
        """The median scrape with one client, minus the slowest document of the upstream."""
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
            over, whole = statistics.median(differences) * 1000, statistics.median(scrapes) * 1000
            figure = f"(b) median scrape minus the slowest document, upstream delay {delay * 1000:.0f} ms"
            yield Row(figure, f"{over:.1f} ms of {whole:.1f} ms", "at most 3 ms", over <= 3)

    def c(self) -> Iterator[Row]:
        """CPU per scrape against the bare loop."""
        count = self.size.iterations
        one_client, bare, eight_clients = [], [], []
        with upstream() as server, exporter(server, workers=1) as served:
            for _ in range(self.size.rounds):
                one_client.append(self._cpu(served, 1, count))
                bare.append(self._bare_loop(server, served, count))
                eight_clients.append(self._cpu(served, 8, count))
        yield Row("(c) CPU of the bare loop: five Session.send and generate_latest", _milliseconds(bare))
        yield Row("(c) CPU per scrape, 1 client", _milliseconds(one_client))
        yield Row("(c) CPU per scrape, 8 clients with shared requests", _milliseconds(eight_clients))
        ratio = statistics.median(mine / loop for mine, loop in zip(one_client, bare, strict=True))
        yield Row("(c) CPU per scrape against the bare loop, 1 client", f"{ratio:.2f}", "at most 1.5", ratio <= 1.5)
        ratio = statistics.median(mine / loop for mine, loop in zip(eight_clients, bare, strict=True))
        yield Row("(c) CPU per scrape against the bare loop, 8 clients", f"{ratio:.2f}")

    def _cpu(self, served: Served, clients: int, count: int) -> float:
        before = cpu_seconds(served.pid)
        self.scrape(served, "--clients", clients, "--count", count)
        return (cpu_seconds(served.pid) - before) / count

    def _bare_loop(self, server: Upstream, served: Served, count: int) -> float:
        options = (server.patroni, f"{served.url}/metrics", "--count", str(count))
        with running("bench.bare_loop", *options) as process:
            out, _ = process.communicate(timeout=600)
            if process.returncode:
                raise BenchError(f"bench.bare_loop: exit status {process.returncode}")
        return float(out)

    def d(self) -> Iterator[Row]:
        """PSS of the process tree with one worker and both modules."""
        early = self.size.scrapes // 10
        with upstream() as server, exporter(server, workers=1, staytus=True) as served:
            rest = pss_mib(served.pid)
            self.scrape(served, "--clients", 64, "--count", early)
            after_early = pss_mib(served.pid)
            self.scrape(served, "--clients", 64, "--count", self.size.scrapes - early)
            after_all = pss_mib(served.pid)
        yield Row("(d) PSS of all processes, idle", f"{rest:.1f} MiB", "at most 45 MiB", rest <= 45)
        yield Row(f"(d) PSS after {early} scrapes of 64 clients", f"{after_early:.1f} MiB")
        yield Row(f"(d) PSS after {self.size.scrapes} scrapes", f"{after_all:.1f} MiB")
        growth = after_all - after_early
        yield Row("(d) growth between the two", f"{growth:+.2f} MiB", "less than 1 MiB", growth < 1)

    def e(self) -> Iterator[Row]:
        """The time from the start of the process to the end of the first scrape."""
        with upstream() as server:
            starts = []
            for _ in range(self.size.starts + 1):
                with exporter(server, workers=1) as served:
                    starts.append(served.first_scrape)
        median = statistics.median(starts[1:])  # the first may compile
        yield Row("(e) start to first scrape", f"{median:.2f} s", "at most 1 s", median <= 1)

    def f(self) -> Iterator[Row]:
        """Upstream requests per scrape."""
        count = self.size.iterations
        with upstream() as server, exporter(server, workers=1, staytus=True) as served:
            for clients in (1, 8, 64):
                before = server.requests()
                self.scrape(served, "--clients", clients, "--count", count)
                requests = (server.requests() - before) / count
                figure = f"(f) upstream requests per scrape of {len(PATRONI) + len(STAYTUS)} documents"
                yield Row(f"{figure}, clients: {clients}", f"{requests:.2f}")


def _rate(runs: list[dict[str, Any]]) -> str:
    rate, p50, p99 = (statistics.median(run[key] for run in runs) for key in ("rate", "p50", "p99"))
    return f"{rate:.0f}/s, p50 {p50 * 1000:.1f} ms, p99 {p99 * 1000:.1f} ms"


def _ratio(ours: list[dict[str, Any]], theirs: list[dict[str, Any]]) -> float:
    """Returns the median of the ratios of each round, because other load on the machine slows both of a round."""
    return statistics.median(float(mine["rate"] / other["rate"]) for mine, other in zip(ours, theirs, strict=True))


def _at_least(figure: str, value: float, target: float) -> Row:
    return Row(figure, f"{value:.2f}", f"at least {target:g}", value >= target)


def _milliseconds(seconds: list[float]) -> str:
    return f"{statistics.median(seconds) * 1000:.2f} ms"


def main() -> int:
    """Runs the selected parts and prints the table; returns 1 if a scrape failed."""
    parser = argparse.ArgumentParser(prog="bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small counts, to test the benchmark itself")
    for name in PEERS:
        parser.add_argument(f"--{name}", type=Path, help="measure this exporter too, in part a")
    parser.add_argument("parts", nargs="*", choices=[*"abcdef", []], metavar="a b c d e f")
    arguments = parser.parse_args()
    peers = {name: getattr(arguments, name) for name in PEERS if getattr(arguments, name)}
    bench = Bench(QUICK if arguments.quick else Size(), peers)
    parts: dict[str, Callable[[], Iterator[Row]]] = {name: getattr(bench, name) for name in arguments.parts or "abcdef"}
    rows: list[Row] = []
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        for name, part in parts.items():
            sys.stderr.write(f"{time.strftime('%H:%M:%S')} ({name}) {part.__doc__}\n")
            rows += part()
    except (BenchError, subprocess.TimeoutExpired) as error:
        sys.stderr.write(f"bench: {error}\n")
        return 1
    except KeyboardInterrupt:
        return 130
    finally:
        lines = ["| figure | value | target | reached |", "| --- | --- | --- | --- |", *map(str, rows)]
        failures = Row(f"failures in {bench.scrapes} responses", str(len(bench.failed)), "0", not bench.failed)
        sys.stdout.write("\n".join([*lines, str(failures)]) + "\n")
    sys.stderr.writelines(f"bench: {reason}\n" for reason in bench.failed)
    return 1 if bench.failed else 0


if __name__ == "__main__":
    sys.exit(main())
