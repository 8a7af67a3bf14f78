"""An exporter of the old kind to compare with: wsgiref with one thread, one document after another, requests.get.

python -m bench.old_kind http://127.0.0.1:8008 patroni cluster history    # prints its port and serves
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
            values = GaugeMetricFamily(f"old_{path}", "Each number.", labels=["key"])
            words = GaugeMetricFamily(f"old_{path}_info", "Each text.", labels=["key", "text"])
            for key, leaf in leaves("", document):
                if isinstance(leaf, int | float):
                    values.add_metric([key], leaf)
                else:
                    words.add_metric([key, str(leaf)], 1)
            yield from (values, words)
        yield GaugeMetricFamily("old_up", "1 when all documents were read.", value=1)


def leaves(key: str, value: object) -> Iterator[tuple[str, object]]:
    """Returns every number and text of a JSON document with the keys that lead to it."""
    if isinstance(value, dict | list):
        for name, below in value.items() if isinstance(value, dict) else enumerate(value):
            yield from leaves(f"{key}.{name}", below)
    else:
        yield key, value


class Silent(WSGIRequestHandler):
    def log_message(self, *_: object) -> None:
        """Says nothing."""


if __name__ == "__main__":
    REGISTRY.register(Documents(sys.argv[1], sys.argv[2:]))
    server = make_server("127.0.0.1", 0, make_wsgi_app(), handler_class=Silent)
    sys.stdout.write(f"{server.server_port}\n")
    sys.stdout.flush()
    server.serve_forever()
