"""The text of /probe, compared with that of prometheus_client for the same results."""

import json
from collections.abc import Iterator

import pytest
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics

from exporter.collectors.document import Answer
from exporter.scrape.exposition import exposition
from exporter.scrape.results import ModuleResult
from exporter.scrape.scrape import Scrape
from exporter.upstream.client import Client
from tests.conftest import Upstream
from tests.limits.documents import NUMBERS, TEXTS
from tests.limits.scrapes import STAYTUS
from tests.recorded import moment, written
from tests.scrape.test_scrape import both


def results(upstream: Upstream) -> list[ModuleResult]:
    return Scrape(both(upstream), Client(), 5).results()


def compare(scraped: list[ModuleResult]) -> tuple[str, str]:
    """Asserts that both writers agree; returns the text in both formats."""
    text, openmetrics = written(scraped), written(scraped, generate_openmetrics)
    assert exposition(scraped).splitlines() == text.splitlines()
    assert exposition(scraped, openmetrics=True) == openmetrics
    return text, openmetrics


@pytest.mark.parametrize("version", ["2.1.7", "3.3.11", "4.1.5"])
def test_recorded_scrape(version: str, upstream: Upstream) -> None:
    upstream.serve({**moment(version, "healthy-async", "n1").answers, **STAYTUS})
    compare(results(upstream))


def test_failed_scrape(upstream: Upstream) -> None:
    compare(results(upstream))


def test_names(upstream: Upstream) -> None:
    assert exposition(results(upstream), names=["staytus_up"]).splitlines() == [
        "# HELP staytus_up 1 if Staytus returned its services, 0 otherwise.",
        "# TYPE staytus_up gauge",
        "staytus_up 0.0",
    ]


def texts() -> Iterator[str]:
    yield from (value for value in TEXTS if isinstance(value, str))
    yield from ("\\", '"', "\n", "\r", '\\n"', "\u2028", "ü", "{}", "a,b=c", "#", "tab\t\x00\x85", "ключ 鍵 🗝")


@pytest.mark.parametrize("value", list(texts()))
def test_labels(value: str, upstream: Upstream) -> None:
    members = [{"name": value, "role": value, "state": value, "tags": {value: value}}, {"name": "n1"}]
    body = json.dumps({"scope": value, "members": members}).encode()
    upstream.serve({**moment("4.1.5", "healthy-async", "n1").answers, "/cluster": Answer(200, body)})
    compare(results(upstream))


FINITE = [number for number in NUMBERS if abs(number) < 1e300]


@pytest.mark.parametrize("number", [*FINITE, 1e6, 999999.5, -1e6, 1e16, 0.1])
def test_numbers(number: float, upstream: Upstream) -> None:
    body = json.dumps({"ttl": number, "loop_wait": -number, "maximum_lag_on_failover": number}).encode()
    upstream.serve({**moment("4.1.5", "healthy-async", "n1").answers, "/config": Answer(200, body)})
    compare(results(upstream))
