"""A scrape through the whole application, as Prometheus asks for it, and what this process holds meanwhile."""

import gc
import os
import time
from dataclasses import dataclass
from pathlib import Path

from flask import Flask
from prometheus_client.parser import text_string_to_metric_families

from exporter import create_app
from exporter.collectors import COLLECTORS
from exporter.collectors.document import Answer
from exporter.config.settings import Settings
from exporter.upstream.client import Client
from exporter.upstream.errors import FetchError
from exporter.upstream.target import Target
from tests.conftest import error_of
from tests.conftest import whole as whole_response
from tests.recorded import moment, staytus

PATRONI = moment("4.1.5", "failsafe-enabled", "n1").answers
STAYTUS = {
    "/api/v1/services/all": staytus("services_all_ok_minor_major_maintenance"),
    "/api/v1/issues/all": staytus("issues_all_four_states"),
}
RECORDED: dict[str, Answer] = {**PATRONI, **STAYTUS}

#: The collectors of each module, and the path that each reads.
PATHS = {
    service: {collector.name: collector.path for collector in collectors} for service, collectors in COLLECTORS.items()
}


@dataclass(frozen=True)
class Scrape:
    """What one scrape told: the samples of each family by the values of their labels; and the seconds that it took."""

    told: dict[str, dict[tuple[str, ...], float]]
    seconds: float

    @property
    def successes(self) -> dict[str, float]:
        """Whether each collector succeeded."""
        return {
            collector: value
            for name, samples in self.told.items()
            if name.endswith("_scrape_collector_success")
            for (collector,), value in samples.items()
        }

    @property
    def documented(self) -> list[str]:
        """The families that come from documents of the modules."""
        own = ("python_", "process_", "exporter_", "patroni_up", "staytus_up", "staytus_health")
        return [name for name in self.told if not name.startswith(own) and "_scrape_" not in name]


def application(patroni: str = "", staytus: str = "", **settings: str) -> Flask:
    """The application for these upstreams, with no settings of whoever runs the tests."""
    environ = {"EXPORTER_ENV_FILE": os.devnull, "PATRONI_EXPORTER_URL": patroni, **settings}
    if staytus:
        environ |= {"STAYTUS_API_URL": staytus, "STAYTUS_API_TOKEN": "t0ken", "STAYTUS_API_SECRET": "s3cret"}
    return create_app(Settings.load(environ))


def scrape(app: Flask, allowed: float | str | None = None) -> Scrape:
    """One scrape; `allowed` are the seconds that Prometheus says it waits."""
    headers = {} if allowed is None else {"X-Prometheus-Scrape-Timeout-Seconds": str(allowed)}
    start = time.monotonic()
    answer = app.test_client().get("/metrics", headers=headers)
    seconds = time.monotonic() - start
    assert answer.status_code == 200
    return Scrape(read_samples(answer.text), seconds)


def failing(client: Client, target: Target) -> str:
    """Returns the error text of a request."""
    error = error_of(client.begin(target, "x", whole_response))
    assert isinstance(error, FetchError)
    return str(error)


def read_samples(text: str) -> dict[str, dict[tuple[str, ...], float]]:
    """The samples of an exposition by family and by the values of their labels, those in the order of their names."""
    return {
        family.name: {
            tuple(value for _, value in sorted(sample.labels.items())): sample.value for sample in family.samples
        }
        for family in text_string_to_metric_families(text)
    }


def fetching() -> int:
    """How many requests of this process are under way."""
    return sum(known.in_flight for known in gc.get_objects() if isinstance(known, Client))


def descriptors(process: str | int = "self") -> int:
    """How many files and sockets a process has open."""
    return len(list(Path("/proc", str(process), "fd").iterdir()))
