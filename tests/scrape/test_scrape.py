"""A scrape of real servers: which documents are requested, when it ends, and what it logs."""

import logging
import math
import socket
import ssl
import time
from dataclasses import replace

import pytest
from prometheus_client.metrics_core import Metric

from exporter.collectors import COLLECTORS
from exporter.collectors.document import Answer
from exporter.collectors.patroni_node import INHERITED_FAMILIES
from exporter.scrape.families import SCRAPE_FAMILIES, families_of, metrics
from exporter.scrape.scrape import Scrape
from exporter.upstream.client import Client
from exporter.upstream.headers import Secret
from exporter.upstream.target import Credentials, Header, Module
from tests.conftest import Upstream, at, logged
from tests.limits.scrapes import PATRONI, STAYTUS, Samples
from tests.limits.servers import CERTIFICATE, Odd, read_request
from tests.limits.servers import whole as whole_response
from tests.recorded import staytus


def both(upstream: Upstream, timeout: float = 5) -> tuple[Module, Module]:
    target = at(upstream.url, timeout)
    return (
        Module("patroni", "patroni", target, ("node", "cluster", "history", "config", "failsafe")),
        Module("staytus", "staytus", target, ("services", "issues")),
    )


def values(collected: list[Metric]) -> Samples:
    """Returns the samples of each family by the values of their labels."""
    return {
        metric.name: {tuple(sample.labels.values()): sample.value for sample in metric.samples} for metric in collected
    }


def scrape(modules: tuple[Module, ...], seconds: float = math.inf, client: Client | None = None) -> Samples:
    results = Scrape(modules, client or Client(), seconds).results()
    return values([metric for result in results for metric in metrics(result)])


def test_families_are_in_the_described_order(upstream: Upstream) -> None:
    upstream.serve({**PATRONI, **STAYTUS})
    modules = both(upstream)
    described = [family.name for module in modules for family in families_of(module)]
    assert [name for name in described if name in scrape(modules)] == list(scrape(modules))
    assert len(set(described)) == len(described)


@pytest.mark.parametrize(
    ("failing", "living"), [("patroni", "staytus_service_info"), ("staytus", "patroni_postgres_running")]
)
def test_modules_fail_independently(upstream: Upstream, failing: str, living: str) -> None:
    upstream.serve(STAYTUS if failing == "patroni" else PATRONI)
    scraped = scrape(both(upstream))
    assert scraped[f"{failing}_up"] == {(): 0.0}
    assert set(scraped[f"{failing}_scrape_collector_success"].values()) == {0.0}
    assert living in scraped
    own = {family.name for family in SCRAPE_FAMILIES[failing]}
    assert own <= set(scraped)
    assert not {family.name for c in COLLECTORS[failing] for family in c.families} & set(scraped)


def test_staytus_refuses_the_token(upstream: Upstream, caplog: pytest.LogCaptureFixture) -> None:
    """It is unhealthy, and its last known status is not exported."""
    upstream.answers["/api/v1/services/all"] = (200, staytus("auth_invalid_token").body)
    scraped = scrape(both(upstream)[1:])
    assert {name: rows for name, rows in scraped.items() if "duration" not in name} == {
        "staytus_up": {(): 0.0},
        "staytus_health": {("healthy",): 0.0, ("unhealthy",): 1.0},
        "staytus_scrape_collector_success": {("services",): 0.0, ("issues",): 0.0},
    }
    assert logged(caplog)[0] == {
        "msg": "scrape failed",
        "module": "staytus",
        "collector": "services",
        "url": f"{upstream.url}/api/v1/services/all",
        "reason": "access-denied: Staytus does not accept this token and secret",
    }


def test_scrape_ends_at_the_module_timeout(upstream: Upstream) -> None:
    upstream.serve({**PATRONI, **STAYTUS})
    release = upstream.hold("/api/v1/services/all")
    start = time.monotonic()
    scraped = scrape(both(upstream, timeout=2.0))
    took = time.monotonic() - start
    release.set()
    assert (scraped["patroni_up"], scraped["staytus_up"]) == ({(): 1.0}, {(): 0.0})
    assert 2 <= scraped["staytus_scrape_collector_duration_seconds"][("services",)] < 10
    assert scraped["patroni_scrape_collector_duration_seconds"][("node",)] < 2
    assert took < 10


def test_scrape_ends_at_its_deadline(upstream: Upstream, caplog: pytest.LogCaptureFixture) -> None:
    upstream.serve(PATRONI)
    release = upstream.hold("/patroni")
    assert scrape(both(upstream)[:1], seconds=0.5)["patroni_up"] == {(): 0.0}
    release.set()
    assert [line["reason"] for line in logged(caplog)] == ["no response within 0.5 s"]


def test_server_that_comes_back(upstream: Upstream) -> None:
    modules, client = both(upstream)[:1], Client()
    assert scrape(modules, client=client)["patroni_up"] == {(): 0.0}
    upstream.serve(PATRONI)
    assert scrape(modules, client=client)["patroni_up"] == {(): 1.0}


def test_collectors_that_are_on(upstream: Upstream) -> None:
    """The first one decides whether the module is up."""
    upstream.serve(PATRONI)
    module = replace(both(upstream)[0], collect=("history", "cluster"))
    scraped = scrape((module,))
    assert sorted(upstream.paths) == ["/cluster", "/history"]
    assert scraped["patroni_up"] == {(): 1.0}
    assert scraped["patroni_scrape_collector_success"] == {("cluster",): 1.0, ("history",): 1.0}
    assert (scraped["patroni_timeline_switches"], "patroni_primary" in scraped) == ({("lab",): 0.0}, False)


def test_only_the_first_document(upstream: Upstream) -> None:
    upstream.serve({**PATRONI, **STAYTUS})
    results = Scrape(both(upstream), Client(), only_first=True).results()
    assert [result.up for result in results] == [True, True]
    assert sorted(upstream.paths) == ["/api/v1/services/all", "/patroni"]


def test_document_that_this_version_does_not_have(upstream: Upstream, caplog: pytest.LogCaptureFixture) -> None:
    """It is neither a success nor a failure."""
    upstream.serve({**PATRONI, "/failsafe": Answer(503, PATRONI["/patroni"].body.replace(b"4.1.5", b"2.1.7"))})
    scraped = scrape(both(upstream)[:1])
    others = [("node",), ("cluster",), ("history",), ("config",)]
    assert scraped["patroni_scrape_collector_success"] == dict.fromkeys(others, 1.0)
    assert ("failsafe",) in scraped["patroni_scrape_collector_duration_seconds"]
    assert scraped["patroni_failsafe_member"] == {("lab", "n1"): 0.0}
    assert caplog.records == []


def test_wrong_path_in_the_url(upstream: Upstream, caplog: pytest.LogCaptureFixture) -> None:
    """Patroni responds to an unknown path with the JSON of /patroni."""
    answer = Answer(503, PATRONI["/patroni"].body)
    upstream.serve({f"/patron/{each.path}": answer for each in COLLECTORS["patroni"]})
    module = Module("patroni", "patroni", at(f"{upstream.url}/patron"), both(upstream)[0].collect)
    scraped = scrape((module,))
    others = [("cluster",), ("history",), ("config",), ("failsafe",)]
    assert scraped["patroni_scrape_collector_success"] == {("node",): 1.0, **dict.fromkeys(others, 0.0)}
    reason = "not a path of Patroni's REST API: expected a URL such as http://localhost:8008/patroni"
    event = {"msg": "scrape failed", "module": "patroni", "url": f"{upstream.url}/patron", "reason": reason}
    assert logged(caplog) == [event]


def test_scope_of_another_document(upstream: Upstream) -> None:
    upstream.serve({path: answer for path, answer in PATRONI.items() if path != "/patroni"})
    scraped = scrape(both(upstream)[:1])
    assert (scraped["patroni_up"], scraped["patroni_timeline_switches"]) == ({(): 0.0}, {("lab",): 0.0})
    assert "patroni_failsafe_member" not in scraped
    upstream.answers["/cluster"] = (500, b"")
    scraped = scrape(both(upstream)[:1])
    assert scraped["patroni_scrape_collector_success"][("history",)] == 1.0
    assert "patroni_timeline_switches" not in scraped


def test_duplicate_in_a_document_is_logged_once(upstream: Upstream, caplog: pytest.LogCaptureFixture) -> None:
    upstream.answers["/api/v1/services/all"] = (200, staytus("services_all_duplicate_permalink").body)
    caplog.set_level(logging.WARNING)
    assert scrape(both(upstream)[1:])["staytus_up"] == {(): 1.0}
    (line,) = [line for line in logged(caplog) if line["collector"] == "services"]
    assert (line["module"], "'api'" in str(line["reason"])) == ("staytus", True)


def test_secret_in_a_valid_document_is_hidden(upstream: Upstream) -> None:
    cluster = PATRONI["/cluster"].body.replace(b'"lab"', b'"lab-t0ken!"')
    upstream.serve({**PATRONI, "/cluster": Answer(200, cluster)})
    module = both(upstream)[0]
    credentials = Credentials((Header("X-Token", Secret("t0ken!")),))
    module = replace(module, target=at(upstream.url, auth=credentials), collect=("cluster",))
    assert list(scrape((module,))["patroni_cluster_members"]) == [("lab-***",)]


def test_internal_error_is_raised(upstream: Upstream, monkeypatch: pytest.MonkeyPatch) -> None:
    upstream.serve(PATRONI)
    first, *others = COLLECTORS["patroni"]
    monkeypatch.setitem(
        COLLECTORS, "patroni", (replace(first, parse=lambda answer: 1 // (answer.status - 200)), *others)
    )
    with pytest.raises(ZeroDivisionError):
        scrape(both(upstream)[:1])


def test_inherited_families_are_left_out(upstream: Upstream) -> None:
    upstream.serve(PATRONI)
    module = replace(both(upstream)[0], compat_metrics=False)
    names = {family.name for family in INHERITED_FAMILIES}
    assert names & set(scrape((module,))) == set()
    assert names & {family.name for family in families_of(module)} == set()
    assert names - set(scrape((replace(module, compat_metrics=True),))) == set()


def test_certificate_expiry() -> None:
    """It is known over a kept connection too."""

    def behave(connection: socket.socket) -> None:
        for _ in range(2):
            read_request(connection)
            connection.sendall(whole_response(PATRONI["/patroni"].body))

    expires = ssl._ssl._test_decode_cert(CERTIFICATE)["notAfter"]  # type: ignore[attr-defined]
    with Odd(behave, tls=True) as server:
        module = Module("patroni", "patroni", at(server.url, verify=CERTIFICATE), ("node",))
        for _ in range(2):
            samples = scrape((module,))["patroni_tls_certificate_not_after_timestamp_seconds"]
            assert samples == {("lab", "n1"): ssl.cert_time_to_seconds(expires)}
        assert server.connections == 1


def test_each_document_has_its_size_limit(upstream: Upstream) -> None:
    upstream.serve({**PATRONI, "/history": Answer(200, b"[" + b" " * 3_000_000 + b"]")})
    upstream.answers["/config"] = (200, b"{" + b" " * 3_000_000 + b"}")
    (result,) = Scrape(both(upstream)[:1], Client()).results()
    failures = {document.collector.name: document.failure for document in result.documents if document.failure}
    assert failures == {"config": "the response is larger than 2 MiB"}
