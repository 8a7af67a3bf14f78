"""The text that we write, held to that of prometheus_client for the same readings."""

import json
from collections.abc import Iterable, Iterator

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics
from prometheus_client.registry import Collector

from exporter.collectors.document import Answer
from exporter.scrape.exposition import exposition
from exporter.scrape.scrape import ModuleReading, expose, read
from exporter.upstream.client import Fetcher
from exporter.upstream.target import Module, Target
from tests.conftest import Upstream
from tests.limits.documents import NUMBERS, TEXTS
from tests.recorded import moment, staytus


class Told(Collector):
    def __init__(self, readings: list[ModuleReading]):
        self.readings = readings

    def collect(self) -> Iterable[Metric]:
        return expose(self.readings)


def registry(readings: list[ModuleReading]) -> CollectorRegistry:
    made = CollectorRegistry()
    made.register(Told(readings))
    return made


def readings(upstream: Upstream) -> list[ModuleReading]:
    modules = [
        Module(
            "patroni", "patroni", Target(upstream.url, 5, True), ("node", "cluster", "history", "config", "failsafe")
        ),
        Module("staytus", "staytus", Target(upstream.url, 5, True), ("services", "issues")),
    ]
    return read(modules, Fetcher(), 5)


def hold(told: list[ModuleReading]) -> None:
    assert exposition(told).splitlines() == generate_latest(registry(told)).decode().splitlines()
    assert f"{exposition(told, openmetrics=True)}# EOF\n" == generate_openmetrics(registry(told)).decode()  # type: ignore[no-untyped-call]


@pytest.mark.parametrize("version", ["2.1.7", "3.3.11", "4.1.5"])
def test_text_of_a_recorded_scrape_is_that_of_prometheus_client(version: str, upstream: Upstream) -> None:
    upstream.serve(moment(version, "healthy-async", "n1").answers)
    upstream.serve({"/api/v1/services/all": staytus("services_all_ok_minor_major_maintenance")})
    upstream.serve({"/api/v1/issues/all": staytus("issues_all_four_states")})
    hold(readings(upstream))


def test_text_of_a_scrape_that_failed_is_that_of_prometheus_client(upstream: Upstream) -> None:
    hold(readings(upstream))


def odd() -> Iterator[str]:
    yield from (value for value in TEXTS if isinstance(value, str))
    yield from ("\\", '"', "\n", "\r", '\\n"', "\u2028", "ü", "{}", "a,b=c")


@pytest.mark.parametrize("value", list(odd()))
def test_text_of_any_label_is_that_of_prometheus_client(value: str, upstream: Upstream) -> None:
    members = [{"name": value, "role": value, "state": value, "tags": {value: value}}, {"name": "n1"}]
    body = json.dumps({"scope": value, "members": members}).encode()
    upstream.serve({**moment("4.1.5", "healthy-async", "n1").answers, "/cluster": Answer(200, body)})
    hold(readings(upstream))


FINITE = [number for number in NUMBERS if abs(number) < 1e300]


@pytest.mark.parametrize("number", [*FINITE, 1e6, 999999.5, -1e6, 1e16, 0.1])
def test_text_of_any_number_is_that_of_prometheus_client(number: float, upstream: Upstream) -> None:
    body = json.dumps({"ttl": number, "loop_wait": -number, "maximum_lag_on_failover": number}).encode()
    upstream.serve({**moment("4.1.5", "healthy-async", "n1").answers, "/config": Answer(200, body)})
    hold(readings(upstream))
