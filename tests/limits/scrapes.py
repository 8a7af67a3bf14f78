"""A scrape through the whole application, and the resources that this process holds."""

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
from tests.conftest import begin, error_of
from tests.recorded import moment, staytus

PATRONI = moment("4.1.5", "failsafe-enabled", "n1").answers
STAYTUS = {
    "/api/v1/services/all": staytus("services_all_ok_minor_major_maintenance"),
    "/api/v1/issues/all": staytus("issues_all_four_states"),
}
RECORDED: dict[str, Answer] = {**PATRONI, **STAYTUS}

#: The path of each collector, by service.
PATHS = {
    service: {collector.name: collector.path for collector in collectors} for service, collectors in COLLECTORS.items()
}

#: The samples of each family by the values of their labels, in the order of the labels' names.
Samples = dict[str, dict[tuple[str, ...], float]]


@dataclass(frozen=True)
class Scraped:
    """The samples of one scrape, and its duration in seconds."""

    samples: Samples
    seconds: float

    @property
    def successes(self) -> dict[str, float]:
        """The success of each collector."""
        return {
            collector: value
            for name, samples in self.samples.items()
            if name.endswith("_scrape_collector_success")
            for (collector,), value in samples.items()
        }


def application(patroni: str = "", staytus: str = "", **settings: str) -> Flask:
    """The application for these upstreams, without a .env file."""
    environ = {"EXPORTER_ENV_FILE": os.devnull, "PATRONI_EXPORTER_URL": patroni, **settings}
    if staytus:
        environ |= {"STAYTUS_API_URL": staytus, "STAYTUS_API_TOKEN": "t0ken", "STAYTUS_API_SECRET": "s3cret"}
    return create_app(Settings.load(environ))


def scrape(app: Flask, timeout: float | str | None = None) -> Scraped:
    """One scrape with this timeout of Prometheus."""
    headers = {} if timeout is None else {"X-Prometheus-Scrape-Timeout-Seconds": str(timeout)}
    start = time.monotonic()
    response = app.test_client().get("/metrics", headers=headers)
    seconds = time.monotonic() - start
    assert response.status_code == 200
    return Scraped(read_samples(response.text), seconds)


def failing(client: Client, target: Target) -> str:
    """The error text of a request."""
    error = error_of(begin(client, target, "x"))
    assert isinstance(error, FetchError)
    return str(error)


def read_samples(text: str) -> Samples:
    """The samples of an exposition."""
    return {
        family.name: {
            tuple(value for _, value in sorted(sample.labels.items())): sample.value for sample in family.samples
        }
        for family in text_string_to_metric_families(text)
    }


def fetching() -> int:
    """The number of requests in flight of this process."""
    return sum(known.in_flight for known in gc.get_objects() if isinstance(known, Client))


def descriptors(process: str | int = "self") -> int:
    """The number of open files and sockets of a process."""
    return len(list(Path("/proc", str(process), "fd").iterdir()))
