"""The benchmark: its parts, and the table of what was reached.

python -m bench [--quick] [a] [b] [c] [d] [e] [f]    # all parts where none is named
"""

import argparse
import json
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from bench.processes import BenchError, Served, Upstream, cpu_seconds, exporter, old_kind, pss_mib, running, upstream
from bench.upstream import PATRONI, STAYTUS

#: What every scrape must hold to count as one.
UP = "patroni_up 1.0\n"


@dataclass(frozen=True)
class Row:
    """One line of the table; without a target it is there to be read only."""

    figure: str
    value: str
    target: str = ""
    reached: bool | None = None

    def __str__(self) -> str:
        reached = {True: "yes", False: "no", None: ""}[self.reached]
        return f"| {self.figure} | {self.value} | {self.target} | {reached} |"


@dataclass(frozen=True)
class Size:
    """How much is done: what a run of minutes does, or one of seconds that only shows that all of it works."""

    rounds: int = 5
    seconds: float = 3.0
    turns: int = 1000
    scrapes: int = 100_000
    starts: int = 5


QUICK = Size(rounds=1, seconds=0.4, turns=30, scrapes=500, starts=1)


class Bench:
    """One run; it adds up the scrapes that were made and those that failed."""

    def __init__(self, size: Size):
        self.size = size
        self.scrapes = 0
        self.failed: list[str] = []

    def load(self, url: str, *arguments: object, holds: str = "") -> dict[str, Any]:
        """Runs the load generator and returns its figures."""
        words = [url, *map(str, arguments), "--holds", holds]
        with running("bench.load", *words) as process:
            out, _ = process.communicate(timeout=1000)
            if process.returncode:
                raise BenchError(f"bench.load {' '.join(words)}: exit status {process.returncode}")
        figures: dict[str, Any] = json.loads(out)
        self.scrapes += figures["answers"]
        self.failed += [f"{' '.join(words)}: {count} x {reason}" for reason, count in figures["reasons"].items()]
        return figures

    def scrape(self, served: Served, *arguments: object) -> dict[str, Any]:
        """Loads the exporter's /metrics, where every answer must be a scrape that found Patroni up."""
        return self.load(f"{served.url}/metrics", *arguments, holds=UP)

    # The parts ------------------------------------------------------------------------------------------------------

    def a(self) -> Iterator[Row]:
        """/metrics per second with 8 clients, against the floor and the old kind."""
        at = ("--clients", 8, "--seconds", self.size.seconds)
        rates: dict[str, list[dict[str, Any]]] = {}
        with (
            upstream() as server,
            exporter(server, workers=2) as served,
            old_kind(server) as old,
            old_kind(server, "patroni") as old_node,
        ):
            for _ in range(self.size.rounds):
                for name, url, holds in (
                    ("upstream, one document of Patroni", f"{server.patroni}/cluster", ""),
                    ("upstream, one document of Staytus", server.staytus + next(iter(STAYTUS)), ""),
                    ("/-/healthy, two workers: the floor", f"{served.url}/-/healthy", "OK\n"),
                    ("/metrics, two workers", f"{served.url}/metrics", UP),
                    ("old kind, the same documents", f"{old}/metrics", "old_up 1.0\n"),
                    ("old kind, /patroni alone", f"{old_node}/metrics", "old_up 1.0\n"),
                ):
                    rates.setdefault(name, []).append(self.load(url, *at, holds=holds))
        for name, runs in rates.items():
            yield Row(f"(a) {name}", _rate(runs))
        upstream_rates, _, floor, ours, old_rates, old_node_rates = rates.values()
        yield _at_least("(a) /metrics against the floor", _ratio(ours, floor), 0.6)
        yield _at_least("(a) /metrics against the old kind, the same documents", _ratio(ours, old_rates), 3)
        yield Row("(a) /metrics against the old kind, /patroni alone", f"{_ratio(ours, old_node_rates):.2f}")
        spare = _ratio(upstream_rates, ours) / len(PATRONI)
        yield Row("(a) documents that the upstream can give, for each that these scrapes ask at most", f"{spare:.2f}")

    def b(self) -> Iterator[Row]:
        """The median scrape at one client, less the slowest document of the upstream."""
        for delay in (0.0, 0.02, 0.2):
            count = max(3, min(self.size.turns // 5, int(5 / delay) if delay else self.size.turns))
            differences, scrapes = [], []
            with upstream(delay) as server, exporter(server, workers=1) as served:
                for _ in range(1 if delay > 0.1 else self.size.rounds):
                    slowest = max(
                        self.load(server.patroni + path, "--count", max(3, count // 5))["p50"] for path in PATRONI
                    )
                    scrapes.append(self.scrape(served, "--count", count)["p50"])
                    differences.append(scrapes[-1] - slowest)
            over, whole = statistics.median(differences) * 1000, statistics.median(scrapes) * 1000
            figure = f"(b) median scrape less the slowest document, upstream delay {delay * 1000:.0f} ms"
            yield Row(figure, f"{over:.1f} ms of {whole:.1f} ms", "at most 3 ms", over <= 3)

    def c(self) -> Iterator[Row]:
        """CPU per scrape against the bare loop."""
        count = self.size.turns
        alone, bare, crowd = [], [], []
        with upstream() as server, exporter(server, workers=1) as served:
            for _ in range(self.size.rounds):
                alone.append(self._cpu(served, 1, count))
                bare.append(self._bare_loop(server, served, count))
                crowd.append(self._cpu(served, 8, count))
        yield Row("(c) CPU of the bare loop: five Session.send and generate_latest", _milliseconds(bare))
        yield Row("(c) CPU per scrape, 1 client", _milliseconds(alone))
        yield Row("(c) CPU per scrape, 8 clients, who share requests", _milliseconds(crowd))
        ratio = statistics.median(mine / loop for mine, loop in zip(alone, bare, strict=True))
        yield Row("(c) CPU per scrape against the bare loop, 1 client", f"{ratio:.2f}", "at most 1.5", ratio <= 1.5)
        ratio = statistics.median(mine / loop for mine, loop in zip(crowd, bare, strict=True))
        yield Row("(c) CPU per scrape against the bare loop, 8 clients", f"{ratio:.2f}")

    def _cpu(self, served: Served, clients: int, count: int) -> float:
        before = cpu_seconds(served.pid)
        self.scrape(served, "--clients", clients, "--count", count)
        return (cpu_seconds(served.pid) - before) / count

    def _bare_loop(self, server: Upstream, served: Served, count: int) -> float:
        words = (server.patroni, f"{served.url}/metrics", "--count", str(count))
        with running("bench.bare_loop", *words) as process:
            out, _ = process.communicate(timeout=600)
            if process.returncode:
                raise BenchError(f"bench.bare_loop: exit status {process.returncode}")
        return float(out)

    def d(self) -> Iterator[Row]:
        """Memory of the whole tree with one worker and both modules."""
        early = self.size.scrapes // 10
        with upstream() as server, exporter(server, workers=1, staytus=True) as served:
            rest = pss_mib(served.pid)
            self.scrape(served, "--clients", 64, "--count", early)
            after_early = pss_mib(served.pid)
            self.scrape(served, "--clients", 64, "--count", self.size.scrapes - early)
            after_all = pss_mib(served.pid)
        yield Row("(d) PSS of all processes at rest", f"{rest:.1f} MiB", "at most 45 MiB", rest <= 45)
        yield Row(f"(d) PSS after {early} scrapes of 64 clients", f"{after_early:.1f} MiB")
        yield Row(f"(d) PSS after {self.size.scrapes} scrapes", f"{after_all:.1f} MiB")
        growth = after_all - after_early
        yield Row("(d) growth between the two", f"{growth:+.2f} MiB", "less than 1 MiB", growth < 1)

    def e(self) -> Iterator[Row]:
        """The time from the start of the process to the end of its first scrape."""
        with upstream() as server:
            starts = []
            for _ in range(self.size.starts + 1):
                with exporter(server, workers=1) as served:
                    starts.append(served.first_scrape)
        took = statistics.median(starts[1:])  # the first may have had to compile
        yield Row("(e) start to first scrape", f"{took:.2f} s", "at most 1 s", took <= 1)

    def f(self) -> Iterator[Row]:
        """What the upstream is asked for each scrape."""
        count = self.size.turns
        with upstream() as server, exporter(server, workers=1, staytus=True) as served:
            for clients in (1, 8, 64):
                before = server.requests()
                self.scrape(served, "--clients", clients, "--count", count)
                asked = (server.requests() - before) / count
                figure = f"(f) upstream requests per scrape of {len(PATRONI) + len(STAYTUS)} documents"
                yield Row(f"{figure}, clients: {clients}", f"{asked:.2f}")


def _rate(runs: list[dict[str, Any]]) -> str:
    rate, p50, p99 = (statistics.median(run[key] for run in runs) for key in ("rate", "p50", "p99"))
    return f"{rate:.0f}/s, p50 {p50 * 1000:.1f} ms, p99 {p99 * 1000:.1f} ms"


def _ratio(ours: list[dict[str, Any]], theirs: list[dict[str, Any]]) -> float:
    """Returns the median of the ratios round by round, since other work on the machine slows both of a round."""
    return statistics.median(float(mine["rate"] / other["rate"]) for mine, other in zip(ours, theirs, strict=True))


def _at_least(figure: str, value: float, least: float) -> Row:
    return Row(figure, f"{value:.2f}", f"at least {least:g}", value >= least)


def _milliseconds(seconds: list[float]) -> str:
    return f"{statistics.median(seconds) * 1000:.2f} ms"


def main() -> int:
    """Runs the parts that were asked for and prints the table; 1 when a scrape failed."""
    parser = argparse.ArgumentParser(prog="bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small counts, which show that it works and no speed")
    parser.add_argument("parts", nargs="*", choices=[*"abcdef", []], metavar="a b c d e f")
    given = parser.parse_args()
    bench = Bench(QUICK if given.quick else Size())
    parts: dict[str, Callable[[], Iterator[Row]]] = {name: getattr(bench, name) for name in given.parts or "abcdef"}
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
        none_failed = Row(f"failures in {bench.scrapes} answers", str(len(bench.failed)), "0", not bench.failed)
        sys.stdout.write("\n".join([*lines, str(none_failed)]) + "\n")
    sys.stderr.writelines(f"bench: {reason}\n" for reason in bench.failed)
    return 1 if bench.failed else 0


if __name__ == "__main__":
    sys.exit(main())
