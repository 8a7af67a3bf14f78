"""One scrape of real servers: up, success and duration, whom a failure hits, and what is said of it."""

import json
import logging
import math
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from http.server import BaseHTTPRequestHandler

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector as PrometheusCollector

from exporter.collectors import COLLECTORS
from exporter.collectors.base import Collector, Family, gauge, info
from exporter.collectors.document import Answer
from exporter.config.options import PATRONI_COLLECTORS, STAYTUS_COLLECTORS
from exporter.scrape.scrape import SCRAPE_FAMILIES, ModuleReading, Reading, expose, families, read
from exporter.upstream.client import Fetcher, Flight
from exporter.upstream.target import Module, Target
from tests.conftest import Upstream
from tests.recorded import moment, staytus

LEADER = moment("4.1.5", "failsafe-enabled", "n1").answers
STAYTUS = {
    "/api/v1/services/all": staytus("services_all_ok_minor_major_maintenance"),
    "/api/v1/issues/all": staytus("issues_all_four_states"),
}


def both(upstream: Upstream, timeout: float = 5) -> tuple[Module, Module]:
    target = Target(upstream.url, timeout, True)
    return (
        Module("patroni", "patroni", target, ("node", "cluster", "history", "config", "failsafe")),
        Module("staytus", "staytus", target, ("services", "issues")),
    )


def values(metrics: list[Metric]) -> dict[str, dict[tuple[str, ...], float]]:
    """Families by name, their samples by the values of their labels."""
    return {
        metric.name: {tuple(sample.labels.values()): sample.value for sample in metric.samples} for metric in metrics
    }


def scrape(modules: tuple[Module, ...], budget: float = math.inf) -> dict[str, dict[tuple[str, ...], float]]:
    return values(list(expose(read(modules, Fetcher(), budget))))


def test_all_modules_give_their_families_in_the_order_of_the_description(upstream: Upstream) -> None:
    upstream.serve({**LEADER, **STAYTUS})
    modules = both(upstream)
    described = [family.name for family in families(modules)]
    assert [name for name in described if name in scrape(modules)] == list(scrape(modules))
    assert len(set(described)) == len(described)


@pytest.mark.parametrize(
    ("failing", "living"), [("patroni", "staytus_service_info"), ("staytus", "patroni_postgres_running")]
)
def test_failure_of_one_module_is_never_anothers(upstream: Upstream, failing: str, living: str) -> None:
    upstream.serve(STAYTUS if failing == "patroni" else LEADER)
    scraped = scrape(both(upstream))
    assert scraped[f"{failing}_up"] == {(): 0.0}
    assert set(scraped[f"{failing}_scrape_collector_success"].values()) == {0.0}
    assert living in scraped
    own = {family.name for family in SCRAPE_FAMILIES[failing]}
    assert own <= set(scraped)
    assert not {family.name for c in COLLECTORS[failing] for family in c.families} & set(scraped)


def test_staytus_that_refuses_is_unhealthy_and_its_old_status_is_not_shown(
    upstream: Upstream, caplog: pytest.LogCaptureFixture
) -> None:
    upstream.answers["/api/v1/services/all"] = (200, staytus("auth_invalid_token").body)
    scraped = scrape(both(upstream)[1:])
    assert {name: rows for name, rows in scraped.items() if "duration" not in name} == {
        "staytus_up": {(): 0.0},
        "staytus_health": {("healthy",): 0.0, ("unhealthy",): 1.0},
        "staytus_scrape_collector_success": {("services",): 0.0, ("issues",): 0.0},
    }
    assert [record.getMessage() for record in caplog.records if "services" in record.getMessage()] == [
        f"staytus services: {upstream.url}/api/v1/services/all: "
        "access-denied: Staytus does not accept this token and secret"
    ]


def hanging(release: threading.Event) -> Callable[[BaseHTTPRequestHandler], None]:
    def answer(_: BaseHTTPRequestHandler) -> None:
        release.wait(10)

    return answer


def test_scrape_ends_at_the_timeout_of_its_module_whoever_hangs(upstream: Upstream) -> None:
    upstream.serve(LEADER)
    release = threading.Event()
    upstream.answers["/api/v1/services/all"] = hanging(release)
    start = time.monotonic()
    scraped = scrape(both(upstream, timeout=0.3))
    took = time.monotonic() - start
    release.set()
    assert (scraped["patroni_up"], scraped["staytus_up"]) == ({(): 1.0}, {(): 0.0})
    assert 0.3 <= scraped["staytus_scrape_collector_duration_seconds"][("services",)] < 2
    assert scraped["patroni_scrape_collector_duration_seconds"][("node",)] < 0.3
    assert took < 2


def test_budget_of_prometheus_cuts_the_timeout_and_says_so(
    upstream: Upstream, caplog: pytest.LogCaptureFixture
) -> None:
    release = threading.Event()
    upstream.serve(LEADER)
    upstream.answers["/patroni"] = hanging(release)
    assert scrape(both(upstream)[:1], budget=0.2)["patroni_up"] == {(): 0.0}
    release.set()
    assert [record.getMessage() for record in caplog.records] == [
        f"patroni node: {upstream.url}/patroni: no answer within 0.2 s"
    ]


def test_server_that_comes_back_is_read_again(upstream: Upstream) -> None:
    modules, fetcher = both(upstream)[:1], Fetcher()
    assert values(list(expose(read(modules, fetcher, math.inf))))["patroni_up"] == {(): 0.0}
    upstream.serve(LEADER)
    assert values(list(expose(read(modules, fetcher, math.inf))))["patroni_up"] == {(): 1.0}


def test_only_what_is_to_be_collected_is_asked_for_and_the_first_of_it_tells_whether_a_module_is_up(
    upstream: Upstream,
) -> None:
    upstream.serve(LEADER)
    module = replace(both(upstream)[0], collect=("history", "cluster"))
    scraped = scrape((module,))
    assert sorted(upstream.paths) == ["/cluster", "/history"]
    assert scraped["patroni_up"] == {(): 1.0}
    assert scraped["patroni_scrape_collector_success"] == {("cluster",): 1.0, ("history",): 1.0}
    assert (scraped["patroni_timeline_switches"], "patroni_primary" in scraped) == ({("lab",): 0.0}, False)


def test_only_the_first_document_is_asked_for_to_tell_whether_a_module_is_up(upstream: Upstream) -> None:
    upstream.serve({**LEADER, **STAYTUS})
    assert [reading.up for reading in read(both(upstream), Fetcher(), math.inf, only_first=True)] == [True, True]
    assert sorted(upstream.paths) == ["/api/v1/services/all", "/patroni"]


def reading(collector: Collector[int]) -> ModuleReading:
    module = Module("patroni", "patroni", Target("http://h", 1, True), ("x",))
    return ModuleReading(module, (Reading(collector, Flight(), 0.0, 1),))


def collector(*rows: Family[int], subject: dict[str, str] | None = None) -> Collector[int]:
    return Collector("x", "x", lambda _: 1, rows, subject=lambda _: subject or {})


def test_document_that_this_version_does_not_have_is_neither_success_nor_failure(
    upstream: Upstream, caplog: pytest.LogCaptureFixture
) -> None:
    upstream.serve({**LEADER, "/failsafe": Answer(503, LEADER["/patroni"].body)})
    scraped = scrape(both(upstream)[:1])
    assert scraped["patroni_scrape_collector_success"] == dict.fromkeys(
        [("node",), ("cluster",), ("history",), ("config",)], 1.0
    )
    assert ("failsafe",) in scraped["patroni_scrape_collector_duration_seconds"]
    assert scraped["patroni_failsafe_member"] == {("lab", "n1"): 0.0}
    assert caplog.records == []


def test_documents_that_do_not_name_the_cluster_have_the_scope_of_one_that_does(upstream: Upstream) -> None:
    upstream.serve({path: answer for path, answer in LEADER.items() if path != "/patroni"})
    scraped = scrape(both(upstream)[:1])
    assert (scraped["patroni_up"], scraped["patroni_timeline_switches"]) == ({(): 0.0}, {("lab",): 0.0})
    assert "patroni_failsafe_member" not in scraped
    upstream.answers["/cluster"] = (500, b"")
    scraped = scrape(both(upstream)[:1])
    assert scraped["patroni_scrape_collector_success"][("history",)] == 1.0
    assert "patroni_timeline_switches" not in scraped


def test_family_whose_subject_is_not_known_has_no_samples() -> None:
    row: Family[int] = gauge("patroni_x", "X.", float, subject=("scope", "name"))
    assert values(list(expose([reading(collector(row, subject={"scope": "lab"}))]))).get("patroni_x") is None
    known = collector(row, subject={"scope": "lab", "name": ""})
    assert values(list(expose([reading(known)])))["patroni_x"] == {("lab", ""): 1.0}


def test_second_sample_with_the_same_labels_is_passed_over_with_one_line(caplog: pytest.LogCaptureFixture) -> None:
    row: Family[int] = info("patroni_x_info", "X.", ("k",), lambda _: [("a",), ("b",), ("a",)])
    assert values(list(expose([reading(collector(row))])))["patroni_x_info"] == {("a",): 1.0, ("b",): 1.0}
    assert [record.getMessage() for record in caplog.records] == [
        "patroni_x_info: passed over a second sample with the labels ('a',)"
    ]


def test_remark_of_a_collector_is_one_line(upstream: Upstream, caplog: pytest.LogCaptureFixture) -> None:
    upstream.answers["/api/v1/services/all"] = (200, staytus("services_all_duplicate_permalink").body)
    caplog.set_level(logging.WARNING)
    assert scrape(both(upstream)[1:])["staytus_up"] == {(): 1.0}
    assert "staytus services: passed over a second service with the permalink 'api'" in [
        record.getMessage() for record in caplog.records
    ]


def test_fault_of_our_own_is_not_caught(upstream: Upstream) -> None:
    def fault(_: int) -> float:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        list(expose([reading(collector(gauge("patroni_x", "X.", fault)))]))


def test_collectors_that_can_be_chosen_are_those_that_there_are() -> None:
    assert {service: ",".join(c.name for c in collectors) for service, collectors in COLLECTORS.items()} == {
        "patroni": PATRONI_COLLECTORS,
        "staytus": STAYTUS_COLLECTORS,
    }


def test_every_service_has_collectors_and_families_of_its_scrape() -> None:
    assert set(COLLECTORS) == set(SCRAPE_FAMILIES)


@pytest.mark.parametrize(
    "text", ['"quoted"', "back\\slash", "two\nlines", "tab\t\r\x00\x85\u2028", "ключ 鍵 🗝", "{}=,", "#"]
)
def test_label_values_survive_the_round_trip_through_the_text_format(upstream: Upstream, text: str) -> None:
    cluster = {"scope": text, "members": [{"name": text, "tags": {text: text}}]}
    upstream.answers["/cluster"] = (200, json.dumps(cluster).encode())
    metrics = list(expose(read(both(upstream)[:1], Fetcher(), math.inf)))
    registry = CollectorRegistry()
    registry.register(Fixed(metrics))
    parsed = {
        sample.name: sample.labels
        for family in text_string_to_metric_families(generate_latest(registry).decode())
        for sample in family.samples
    }
    assert parsed["patroni_member_tag_info"] == {"scope": text, "name": text, "tag": text, "value": text}


class Fixed(PrometheusCollector):
    """Metrics that were collected before."""

    def __init__(self, metrics: list[Metric]) -> None:
        self._metrics = metrics

    def collect(self) -> list[Metric]:
        return self._metrics
