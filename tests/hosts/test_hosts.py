"""The start, stop and reload of wsgi.py under gunicorn, uWSGI and Apache mod_wsgi."""

import http.client
import re
import time
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from tests.conftest import Upstream
from tests.hosts.hosts import Checkout, Host, each_host, each_with_processes, one_of_each, settings
from tests.hosts.test_responses import stable
from tests.live.processes import families, until

pytestmark = pytest.mark.timeout(90)


@one_of_each
def test_mounted_below_a_path(host: Host, checkout: Checkout, upstream: Upstream, port: int) -> None:
    checkout.write_env(settings(upstream))
    with host.serving(checkout, port, "/exporter") as served:
        status, page = served.get("/exporter/")
        links = re.findall(r'href="(/[^"]*)"', page)
        assert (status, links) == (200, ["/exporter/metrics", "/exporter/health", "/exporter/-/healthy"])
        assert {served.get(link)[0] for link in links} == {200}
        assert re.findall(r'action="([^"]*)"', page) == ["/exporter/metrics"]
        assert families(served.get("/exporter/metrics?name[]=patroni_up")[1]) == ["patroni_up"]
        assert "\npatroni_up 1.0\n" in served.get("/exporter/metrics")[1]
        assert served.request("/exporter").headers["Location"].endswith("/exporter/")


@each_with_processes
def test_each_process_sends_one_request(host: Host, checkout: Checkout, upstream: Upstream, port: int) -> None:
    release = upstream.hold("/patroni")
    checkout.write_env(settings(upstream, PATRONI_EXPORTER_TIMEOUT="30"))
    with host.serving(checkout, port) as served, ThreadPoolExecutor(100) as clients:
        scrapes: list[Future[tuple[int, str]]] = []
        while upstream.paths.count("/patroni") < host.processes or len(scrapes) < 10:
            assert len(scrapes) < 100
            scrapes.append(clients.submit(served.get, seconds=30))
            time.sleep(0.05)
        time.sleep(0.5)
        assert upstream.paths.count("/patroni") == host.processes
        assert served.get("/-/healthy") == (200, "OK\n")
        release.set()
        assert len({stable(scrape.result()[1]) for scrape in scrapes}) == 1
        host.end(served)


@each_host
def test_stop_lets_a_scrape_finish(host: Host, checkout: Checkout, upstream: Upstream, port: int) -> None:
    checkout.write_env(settings(upstream, PATRONI_EXPORTER_TIMEOUT="30"))
    attempts = 1 if host.loses_none else 3
    for attempt in range(attempts):
        try:
            status, page = stop_during_scrape(host, checkout, upstream, port)
            break
        except http.client.RemoteDisconnected:
            assert attempt + 1 < attempts
    assert (status, "\npatroni_up 1.0\n" in page) == (200, True)


def stop_during_scrape(host: Host, checkout: Checkout, upstream: Upstream, port: int) -> tuple[int, str]:
    node = upstream.answers["/patroni"]
    release = upstream.hold("/patroni")
    with host.serving(checkout, port) as served, ThreadPoolExecutor(1) as client:
        upstream.requests.clear()
        scrape = client.submit(served.get, "/metrics", seconds=20)
        until(lambda: "/patroni" in upstream.paths)
        served.process.send_signal(host.stop)
        time.sleep(0.5)
        assert served.process.poll() is None
        release.set()
        try:
            return scrape.result(20)
        finally:
            upstream.answers["/patroni"] = node
            host.end(served)


@each_host
def test_stop_does_not_wait_for_an_upstream(host: Host, checkout: Checkout, upstream: Upstream, port: int) -> None:
    release = upstream.hold("/patroni")
    checkout.write_env(settings(upstream, PATRONI_EXPORTER_TIMEOUT="0.5"))
    with host.serving(checkout, port) as served:
        assert served.up() == "0.0"
        host.end(served)
    release.set()


@each_host
def test_reload(host: Host, checkout: Checkout, upstream: Upstream, port: int) -> None:
    """It finishes the scrape, loses no request and applies the changed settings."""
    release = upstream.hold("/patroni")
    checkout.write_env(settings(upstream, PATRONI_EXPORTER_TIMEOUT="30"))
    with host.serving(checkout, port) as served, ThreadPoolExecutor(2) as clients:
        scrape = clients.submit(served.get, "/metrics", seconds=20)
        until(lambda: "/patroni" in upstream.paths)
        checkout.write_env(settings(upstream, PATRONI_EXPORTER_URL=f"{upstream.url}/elsewhere"))
        host.reload(checkout, served)
        healthy = clients.submit(served.get, "/-/healthy", seconds=20) if host.loses_none else None
        time.sleep(0.5)
        release.set()
        status, page = scrape.result(20)
        assert (status, "\npatroni_up 1.0\n" in page) == (200, True)
        assert healthy is None or healthy.result() == (200, "OK\n")
        if not host.loses_none:
            host.wait(served, 2)
        up = "1.0" if "--preload" in host.options else "0.0"  # which keeps the settings
        until(lambda: {served.up() for _ in range(3 * host.processes)} == {up})
        host.wait(served, 2)
        host.end(served)


@each_host
def test_bad_setting(host: Host, checkout: Checkout, upstream: Upstream, port: int) -> None:
    checkout.write_env(settings(upstream, PATRONI_EXPORTER_TIMEOUT="ten"))
    line = "patroni-staytus-exporter: PATRONI_EXPORTER_TIMEOUT='ten': expected a number of seconds from 0.01 to 3600"
    if host.ends:
        status, log = host.run(checkout, port)
        assert (status, log.count(line), "Traceback" in log) == (2, 1, False)
        return
    with host.serving(checkout, port) as served:
        until(served.logs(line, host.processes))
        log = served.log.read_text()
        for path in ("/metrics", "/-/healthy", "/"):
            assert served.get(path) == (500, "The settings are not valid: see the log of the server.\n")
        assert served.log.read_text() == log
