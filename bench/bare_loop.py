"""The bare loop: the same documents through `Session.send(prepared)` plus one `generate_latest`, and nothing else.

python -m bench.bare_loop http://127.0.0.1:8008 http://127.0.0.1:9547/metrics --count 1000    # prints CPU of one turn
"""

import argparse
import sys
import time
from collections.abc import Iterable

import requests
from prometheus_client import (
    GC_COLLECTOR,
    PLATFORM_COLLECTOR,
    PROCESS_COLLECTOR,
    CollectorRegistry,
    generate_latest,
)
from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

from bench.upstream import PATRONI

#: Turns that are not counted: connections, caches and the interpreter warm up in them.
WARM = 20


class Ready(Collector):
    """Families that are there already, so that what the loop pays for them is their text alone."""

    def __init__(self, metrics: Iterable[Metric]):
        self._metrics = tuple(metrics)

    def describe(self) -> Iterable[Metric]:
        return ()

    def collect(self) -> Iterable[Metric]:
        return self._metrics


def registry(exposition: str, *, with_process: bool) -> CollectorRegistry:
    """Returns the families of a scrape of the exporter, and those of the process alive, as the exporter has them."""
    made = CollectorRegistry()
    families = text_string_to_metric_families(exposition)
    made.register(Ready(family for family in families if not family.name.startswith(("process_", "python_"))))
    for own in (PROCESS_COLLECTOR, PLATFORM_COLLECTOR, GC_COLLECTOR) if with_process else ():
        made.register(own)
    return made


def main() -> None:
    """Turns as often as the command line says and prints the seconds of CPU that one turn took."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("base", help="where Patroni's documents are")
    parser.add_argument("metrics", help="where the exporter's exposition of them is")
    parser.add_argument("--probe", action="store_true", help="the exposition is one of /probe, without the process")
    parser.add_argument("--count", type=int, default=1000)
    given = parser.parse_args()
    session = requests.Session()
    everything = registry(session.get(given.metrics, timeout=5).text, with_process=not given.probe)
    prepared = [session.prepare_request(requests.Request("GET", given.base + path)) for path in PATRONI]
    start = 0.0
    for turn in range(WARM + given.count):
        if turn == WARM:
            start = time.process_time()
        for request in prepared:
            session.send(request, timeout=5).raise_for_status()
        generate_latest(everything)
    sys.stdout.write(f"{(time.process_time() - start) / given.count}\n")


if __name__ == "__main__":
    main()
