"""A simple exporter for comparison: wsgiref with one thread, requests.get() of one document after another.

python -m bench.simple_exporter 9999 http://127.0.0.1:8008 patroni cluster history    # serves on port 9999
"""

import sys
from collections.abc import Iterator
from wsgiref.simple_server import WSGIRequestHandler, make_server

import requests
from prometheus_client import REGISTRY, make_wsgi_app
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector


class Documents(Collector):
    def __init__(self, base: str, paths: list[str]):
        self.base, self.paths = base, paths

    def describe(self) -> list[Metric]:
        return []

    def collect(self) -> Iterator[Metric]:
        for path in self.paths:
            document = requests.get(f"{self.base}/{path}", timeout=5).json()
            values = GaugeMetricFamily(f"simple_{path}", "Each number.", labels=["key"])
            texts = GaugeMetricFamily(f"simple_{path}_info", "Each string.", labels=["key", "text"])
            for key, leaf in leaves("", document):
                if isinstance(leaf, int | float):
                    values.add_metric([key], leaf)
                else:
                    texts.add_metric([key, str(leaf)], 1)
            yield from (values, texts)
        yield GaugeMetricFamily("simple_up", "1 if all documents were read.", value=1)


def leaves(key: str, value: object) -> Iterator[tuple[str, object]]:
    """Yields the path and the value of each number and string of a JSON document."""
    if isinstance(value, dict | list):
        for name, below in value.items() if isinstance(value, dict) else enumerate(value):
            yield from leaves(f"{key}.{name}", below)
    else:
        yield key, value


class NoLogRequestHandler(WSGIRequestHandler):
    def log_message(self, *_: object) -> None:
        """Does not log requests."""


if __name__ == "__main__":
    REGISTRY.register(Documents(sys.argv[2], sys.argv[3:]))
    make_server("127.0.0.1", int(sys.argv[1]), make_wsgi_app(), handler_class=NoLogRequestHandler).serve_forever()
