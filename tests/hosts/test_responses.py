"""The responses and the log of each host, from one running server of each."""

import gzip
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from exporter import create_app
from exporter.config.settings import Settings
from exporter.web.middleware import LONGEST
from tests.conftest import Upstream
from tests.hosts.hosts import GUNICORN, LAZY, PAIRS, PRELOAD, Checkout, Host, params, settings
from tests.limits.scrapes import STAYTUS
from tests.live.processes import Served, event, families, free_port, recorded, until

pytestmark = pytest.mark.timeout(90)


@dataclass(frozen=True)
class Running:
    host: Host
    served: Served
    upstream: Upstream


@pytest.fixture(scope="module", params=params(*PAIRS, PRELOAD, LAZY))
def running(request: pytest.FixtureRequest, shared_checkout: Checkout) -> Iterator[Running]:
    with Upstream() as upstream, free_port() as port:
        recorded(upstream).serve(STAYTUS)
        env = shared_checkout.write_env(settings(upstream))
        with request.param.serving(shared_checkout, port) as served:
            yield Running(request.param, served, upstream)
        env.unlink()


def stable(page: str) -> str:
    """The lines of a page, sorted, without the families of the process, the durations and the requests in flight."""
    changing = r"process_|python_|\w*exporter_build_|\w+_scrape_collector_duration_seconds|\w+_in_flight"
    return "\n".join(line for line in sorted(page.splitlines()) if not re.match(rf"(# \w+ )?({changing})", line))


def test_metrics_are_those_of_the_application(running: Running) -> None:
    environ = {**settings(running.upstream), "EXPORTER_ENV_FILE": "/dev/null"}
    expected = create_app(Settings.load(environ)).test_client().get("/metrics")
    response = running.served.request("/metrics")
    assert (response.status, response.headers["Content-Type"]) == (200, expected.headers["Content-Type"])
    several = running.host.start is GUNICORN.start and running.host.processes > 1
    missing = set(families(expected.text)) - set(families(response.body.decode()))
    assert {name[:10] for name in missing} == ({"python_gc_"} if several else set())
    assert stable(response.body.decode()) == stable(expected.text)
    assert "\npatroni_up 1.0\n" in expected.text
    assert "\nstaytus_up 1.0\n" in expected.text


def test_liveness_sends_no_request_and_health_does(running: Running) -> None:
    upstream = running.upstream

    def sends_no_request() -> bool:
        before = len(upstream.requests)
        assert [running.served.get(path) for path in ("/-/healthy", "/-/ready")] == [(200, "OK\n")] * 2
        return len(upstream.requests) == before

    until(sends_no_request)  # those of an earlier test can be late
    node = upstream.answers.pop("/patroni")
    status, body = running.served.get("/health")
    upstream.answers["/patroni"] = node
    states = {name: module["state"] for name, module in json.loads(body)["modules"].items()}
    assert (status, states) == (503, {"patroni": "down", "staytus": "up"})
    assert running.served.get("/nothing")[0] == 404


def test_head_and_gzip(running: Running) -> None:
    for path in ("/", "/-/healthy", "/metrics"):
        page, head = running.served.request(path), running.served.request(path, "HEAD")
        assert (head.status, head.headers["Content-Type"], head.body) == (200, page.headers["Content-Type"], b"")
        assert not re.search(r"\d", page.headers.get("Server", ""))
    plain, packed = running.served.request("/metrics"), running.served.request("/metrics", Accept_Encoding="gzip")
    assert packed.headers["Content-Encoding"] == "gzip"
    assert stable(gzip.decompress(packed.body).decode()) == stable(plain.body.decode())


def test_longest_query(running: Running) -> None:
    path = "/metrics?name[]=patroni_up" + "&name[]=unknown_family" * 300
    path += "_" * (LONGEST + len("?") - len(path))
    assert families(running.served.get(path)[1]) == ["patroni_up"]
    assert running.served.get(path + "_") == (400, "the path and its query are longer than 8000 characters\n")


def _lines(log: Path) -> list[str]:
    """The lines of the log, without those about modules, which a process can write after another has responded."""
    return [line for line in log.read_text().splitlines() if 'msg="module loaded"' not in line]


def test_log_has_no_line_for_a_scrape_and_one_for_a_failure(running: Running) -> None:
    served, upstream, processes = running.served, running.upstream, running.host.processes
    before = len(_lines(served.log))
    assert {served.get()[0] for _ in range(10)} == {200}
    assert _lines(served.log)[before:] == []
    history = upstream.answers.pop("/history")
    for _ in range(10 * processes):
        served.get()
    upstream.answers["/history"] = history
    lines = _lines(served.log)[before:]
    assert 1 <= len(lines) <= processes
    for line in lines:
        logged = event(line[line.index("time=") :])  # Apache writes a prefix
        assert logged.pop("time")[-1] == "Z"
        assert logged == {
            "level": "WARN",
            "logger": "exporter.scrape.scrape",
            "msg": "scrape failed",
            "module": "patroni",
            "collector": "history",
            "url": f"{upstream.url}/history",
            "reason": "HTTP 404: expected 200",
        }
