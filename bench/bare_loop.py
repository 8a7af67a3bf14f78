"""The bare loop: only `Session.send()` of a prepared request for each document, and one `generate_latest()`.

python -m bench.bare_loop http://127.0.0.1:8008 http://127.0.0.1:9547/metrics --count 1000    # prints CPU seconds
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

#: Iterations that are not counted.
WARMUP = 20


class Parsed(Collector):
    """Returns families that exist already, so that the loop only formats them."""

    def __init__(self, metrics: Iterable[Metric]):
        self._metrics = tuple(metrics)

    def describe(self) -> Iterable[Metric]:
        return ()

    def collect(self) -> Iterable[Metric]:
        return self._metrics


def registry(exposition: str) -> CollectorRegistry:
    """Returns a registry with the families of an exposition, with live process metrics instead of the scraped ones."""
    result = CollectorRegistry()
    families = text_string_to_metric_families(exposition)
    result.register(Parsed(family for family in families if not family.name.startswith(("process_", "python_"))))
    for own in (PROCESS_COLLECTOR, PLATFORM_COLLECTOR, GC_COLLECTOR):
        result.register(own)
    return result


def main() -> None:
    """Runs the loop and prints the CPU seconds per iteration."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("base", help="base URL of Patroni")
    parser.add_argument("metrics", help="URL of the exporter's /metrics")
    parser.add_argument("--count", type=int, default=1000)
    arguments = parser.parse_args()
    session = requests.Session()
    families = registry(session.get(arguments.metrics, timeout=5).text)
    prepared = [session.prepare_request(requests.Request("GET", arguments.base + path)) for path in PATRONI]
    start = 0.0
    for iteration in range(WARMUP + arguments.count):
        if iteration == WARMUP:
            start = time.process_time()
        for request in prepared:
            session.send(request, timeout=5).raise_for_status()
        generate_latest(families)
    sys.stdout.write(f"{(time.process_time() - start) / arguments.count}\n")


if __name__ == "__main__":
    main()
