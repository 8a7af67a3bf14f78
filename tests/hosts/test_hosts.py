"""The same wsgi.py under gunicorn, uWSGI and Apache mod_wsgi, before a real upstream."""

import gzip
import http.client
import json
import re
import time
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from exporter import create_app
from exporter.config.settings import Settings
from exporter.web.middleware import LONGEST
from tests.conftest import Upstream
from tests.hosts.hosts import (
    HOSTS,
    Host,
    Place,
    ask,
    is_gone,
    on,
    on_every_host,
    on_one_of_each,
    settings,
)
from tests.live.processes import event, families, until

pytestmark = pytest.mark.timeout(90)


def without_host(page: str) -> str:
    """A page without what a process says of itself and how long things took."""
    return re.sub(r"(?m)^(process_|python_|exporter_build_|\w+_scrape_collector_duration_seconds).*\n", "", page)


@on_every_host
def test_scrape_tells_of_both_modules_what_it_tells_under_none(
    host: Host, place: Place, both: Upstream, port: int
) -> None:
    environ = settings(both)
    hostless = create_app(Settings.load({**environ, "EXPORTER_ENV_FILE": "/dev/null"})).test_client().get("/metrics")
    place.set(environ)
    with host.serving(place, port) as served:
        page = ask(served, "/metrics")
        assert (page.status, page.headers["Content-Type"]) == (200, hostless.headers["Content-Type"])
        assert families(page.body.decode()) == families(hostless.text)
        assert without_host(page.body.decode()) == without_host(hostless.text)
        assert "\npatroni_up 1.0\n" in hostless.text
        assert "\nstaytus_up 1.0\n" in hostless.text


@on_every_host
def test_health_asks_both_modules_and_liveness_none(host: Host, place: Place, both: Upstream, port: int) -> None:
    place.set(settings(both))
    with host.serving(place, port) as served:
        assert [served.get(path) for path in ("/-/healthy", "/-/ready")] == [(200, "OK\n")] * 2
        assert both.paths == []
        del both.answers["/api/v1/services/all"]
        status, body = served.get("/health")
        states = {name: module["state"] for name, module in json.loads(body)["modules"].items()}
        assert (status, states) == (503, {"patroni": "up", "staytus": "down"})
        assert served.get("/nothing")[0] == 404


@on_one_of_each
def test_mounted_below_a_path_it_answers_there_and_its_links_point_there(
    host: Host, place: Place, both: Upstream, port: int
) -> None:
    place.set(settings(both))
    with host.serving(place, port, "/exporter") as served:
        status, page = served.get("/exporter/")
        links = re.findall(r'href="(/[^"]*)"', page)  # not the icon, which is none
        assert (status, links) == (200, ["/exporter/metrics", "/exporter/health", "/exporter/-/healthy"])
        assert {served.get(link)[0] for link in links} == {200}
        forms = re.findall(r'action="([^"]*)"', page)
        assert forms == ["/exporter/metrics"]
        assert families(served.get(f"{forms[0]}?name[]=patroni_up")[1]) == ["patroni_up"]
        assert "\npatroni_up 1.0\n" in served.get("/exporter/metrics")[1]
        assert ask(served, "/exporter").headers["Location"].endswith("/exporter/")


@on_one_of_each
def test_head_has_no_body_and_gzip_is_the_same_page(host: Host, place: Place, both: Upstream, port: int) -> None:
    place.set(settings(both))
    with host.serving(place, port) as served:
        plain = ask(served, "/metrics")
        for path in ("/", "/-/healthy", "/metrics"):
            page, head = ask(served, path), ask(served, path, "HEAD")
            assert (head.status, head.headers["Content-Type"], head.body) == (200, page.headers["Content-Type"], b"")
        packed = ask(served, "/metrics", Accept_Encoding="gzip")
        assert packed.headers["Content-Encoding"] == "gzip"
        assert without_host(gzip.decompress(packed.body).decode()) == without_host(plain.body.decode())
        assert not re.search(r"\d", plain.headers.get("Server", ""))


@on_one_of_each
def test_query_may_be_as_long_as_the_door_lets_it_and_the_door_says_no_to_a_longer_one(
    host: Host, place: Place, both: Upstream, port: int
) -> None:
    place.set(settings(both))
    path = "/metrics?name[]=patroni_up" + "&name[]=nothing_that_there_is" * 250
    path += "_" * (LONGEST + len("?") - len(path))
    with host.serving(place, port) as served:
        assert families(served.get(path)[1]) == ["patroni_up"]
        assert served.get(path + "_") == (400, "the path and its query are longer than 8000 characters\n")


@on_every_host
def test_each_process_asks_for_itself_and_no_more_than_once_at_a_time(
    host: Host, place: Place, both: Upstream, port: int
) -> None:
    release = both.hold("/patroni")
    place.set(settings(both, PATRONI_EXPORTER_TIMEOUT="30"))
    with host.serving(place, port) as served, ThreadPoolExecutor(100) as prometheus:
        scrapes: list[Future[tuple[int, str]]] = []
        while both.paths.count("/patroni") < host.processes or len(scrapes) < 10:
            assert len(scrapes) < 100
            scrapes.append(prometheus.submit(served.get, seconds=30))
            time.sleep(0.05)
        time.sleep(0.5)
        assert both.paths.count("/patroni") == host.processes
        release.set()
        assert len({without_host(scrape.result()[1]) for scrape in scrapes}) == 1
        assert served.end(host.stop) == 0  # though each process has the thread that asks
        until(lambda: is_gone(served))


@on_every_host
def test_scrape_under_way_is_answered_whole_before_everything_ends(
    host: Host, place: Place, both: Upstream, port: int
) -> None:
    place.set(settings(both, PATRONI_EXPORTER_TIMEOUT="30"))
    for last in (True,) if host.loses_none else (False, False, True):
        try:
            status, page = stopped_while_scraped(host, place, both, port)
            break
        except http.client.RemoteDisconnected:
            if last:
                raise
    assert (status, "\npatroni_up 1.0\n" in page) == (200, True)


def stopped_while_scraped(host: Host, place: Place, both: Upstream, port: int) -> tuple[int, str]:
    """The answer to a scrape that was under way when the host was told to stop."""
    node = both.answers["/patroni"]
    release = both.hold("/patroni")
    with host.serving(place, port) as served, ThreadPoolExecutor(1) as prometheus:
        both.requests.clear()
        scrape = prometheus.submit(served.get, "/metrics", seconds=20)
        until(lambda: "/patroni" in both.paths)
        served.process.send_signal(host.stop)
        time.sleep(0.5)
        assert served.process.poll() is None
        release.set()
        try:
            return scrape.result(20)
        finally:
            both.answers["/patroni"] = node
            assert served.process.wait(20) == 0
            until(lambda: is_gone(served))


@on_every_host
def test_upstream_that_never_answers_keeps_no_process(host: Host, place: Place, both: Upstream, port: int) -> None:
    release = both.hold("/patroni")
    place.set(settings(both, PATRONI_EXPORTER_TIMEOUT="0.5"))
    with host.serving(place, port) as served:
        assert served.up() == "0.0"
        assert served.end(host.stop) == 0
        until(lambda: is_gone(served))
    release.set()


@on(*(host for host in HOSTS if "--preload" not in host.options))  # which keeps what is loaded, settings included
def test_reload_takes_changed_settings_without_a_gap(host: Host, place: Place, both: Upstream, port: int) -> None:
    place.set(settings(both, PATRONI_EXPORTER_URL=f"{both.url}/elsewhere"))
    with host.serving(place, port) as served:
        assert served.up() == "0.0"
        place.set(settings(both))
        host.reload(place, served)
        if not host.loses_none:
            host.has_started(served, 2)
        until(lambda: {served.up() for _ in range(3 * host.processes)} == {"1.0"})  # of a page that is 200
        host.has_started(served, 2)
        assert served.end(host.stop) == 0
        until(lambda: is_gone(served))


@on_every_host
def test_reload_lets_the_scrape_under_way_end(host: Host, place: Place, both: Upstream, port: int) -> None:
    release = both.hold("/patroni")
    place.set(settings(both, PATRONI_EXPORTER_TIMEOUT="30"))
    with host.serving(place, port) as served, ThreadPoolExecutor(2) as prometheus:
        scrape = prometheus.submit(ask, served, "/metrics")
        until(lambda: "/patroni" in both.paths)
        host.reload(place, served)
        meanwhile = prometheus.submit(served.get, "/-/healthy", seconds=20) if host.loses_none else None
        time.sleep(0.5)
        release.set()
        page = scrape.result(20)
        assert page.status == 200
        assert meanwhile is None or meanwhile.result() == (200, "OK\n")
        host.has_started(served, 2)
        assert served.up() == "1.0"
    assert "\npatroni_up 1.0\n" in page.body.decode()


@on_every_host
def test_log_has_no_line_for_a_scrape_and_one_for_what_fails(
    host: Host, place: Place, both: Upstream, port: int
) -> None:
    place.set(settings(both))
    with host.serving(place, port) as served:
        time.sleep(0.2)  # until everything is said that comes after that
        quiet = served.log.read_text()
        assert {served.get()[0] for _ in range(10)} == {200}
        assert served.log.read_text() == quiet
        del both.answers["/history"]
        for _ in range(10 * host.processes):
            served.get()
        lines = served.log.read_text().removeprefix(quiet).splitlines()
        assert 1 <= len(lines) <= host.processes
        for line in lines:
            told = event(line[line.index("time=") :])  # Apache has its own words before it
            assert told.pop("time")[-1] == "Z"
            assert told == {
                "level": "WARN",
                "logger": "exporter.scrape.scrape",
                "msg": "no document",
                "module": "patroni",
                "collector": "history",
                "url": f"{both.url}/history",
                "reason": "HTTP 404: expected 200",
            }


@on_every_host
def test_setting_that_is_wrong_is_one_line_for_each_process_and_starts_no_loop(
    host: Host, place: Place, both: Upstream, port: int
) -> None:
    place.set(settings(both, PATRONI_EXPORTER_TIMEOUT="ten"))
    said = "patroni-staytus-exporter: PATRONI_EXPORTER_TIMEOUT='ten': expected a number of seconds from 0.01 to 3600"
    if host.ends:
        status, log = host.run(place, port)
        assert (status, log.count(said), "Traceback" in log) == (2, 1, False)
        return
    with host.serving(place, port) as served:
        until(served.logs(said, host.processes))
        log = served.log.read_text()
        for path in ("/metrics", "/-/healthy", "/"):
            assert served.get(path) == (500, "The settings are not valid: see the log of the server.\n")
        assert served.log.read_text() == log
