"""A scrape ends in time whatever an upstream does, and nothing is left of it after ABANDON_AFTER."""

import contextlib
import gc
import logging
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager

import pytest

from exporter.config.settings import Settings
from exporter.scrape.scrape import Scrape
from exporter.upstream import client as client_module
from exporter.upstream.client import Client
from tests.conftest import Upstream
from tests.limits.scrapes import PATHS, PATRONI, STAYTUS, application, descriptors, fetching, scrape
from tests.limits.servers import CERTIFICATE, Behaviour, Odd, full_backlog, repeating, silent
from tests.live.processes import until

#: Seconds that a slow machine may add.
SLACK = 1.5

OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"

#: The URL of an upstream that hangs, and the number of its open connections.
Hanging = AbstractContextManager[tuple[str, Callable[[], int]]]


@contextlib.contextmanager
def odd(behave: Behaviour, *, scheme: str = "http", tls: bool = False) -> Iterator[tuple[str, Callable[[], int]]]:
    with Odd(behave, tls=tls) as server:
        yield f"{scheme}:{server.url.partition(':')[2]}", lambda: server.open


@contextlib.contextmanager
def not_accepting() -> Iterator[tuple[str, Callable[[], int]]]:
    with full_backlog() as url:
        yield url, lambda: 0


HANGING: dict[str, Callable[[], Hanging]] = {
    "silent after accept": lambda: odd(silent),
    "silent before accept": not_accepting,
    "silent TLS handshake": lambda: odd(silent, scheme="https"),
    "status line byte by byte": lambda: odd(repeating(b"HTTP/1.1 200 ", b"x", 0.02)),
    "header byte by byte": lambda: odd(repeating(OK + b"X: ", b"x", 0.02)),
    "body byte by byte": lambda: odd(repeating(OK + b"\r\n", b"x", 0.02)),
    "chunks byte by byte": lambda: odd(repeating(CHUNKED, b"1\r\nx\r\n", 0.02)),
    "body byte by byte over TLS": lambda: odd(repeating(OK + b"\r\n", b"x", 0.02), scheme="https", tls=True),
    "endless 100 Continue": lambda: odd(repeating(b"", b"HTTP/1.1 100 Continue\r\n\r\n")),
    "endless trailers": lambda: odd(repeating(CHUNKED + b"0\r\n", b"X: " + b"y" * 60000 + b"\r\n")),
    "endless body": lambda: odd(repeating(OK + b"\r\n", b"x" * 65536)),
    "endless body over TLS": lambda: odd(repeating(OK + b"\r\n", b"x" * 65536), scheme="https", tls=True),
    "endless chunk of -1 bytes": lambda: odd(repeating(CHUNKED + b"-1\r\n", b"x" * 65536)),
    # The first bytes of a record of 16 KiB that holds a ServerHello.
    "TLS handshake byte by byte": lambda: odd(
        repeating(b"\x16\x03\x03\x40\x00\x02\x00\x3f\xfc", b"\x00", 0.02), scheme="https"
    ),
}


@pytest.fixture
def healthy(upstream: Upstream) -> Upstream:
    upstream.serve({**PATRONI, **STAYTUS})
    return upstream


@pytest.mark.parametrize("name", list(HANGING))
def test_scrape_ends_at_its_timeout(name: str, healthy: Upstream, monkeypatch: pytest.MonkeyPatch) -> None:
    """The other module is scraped, and all connections are closed in the end."""
    monkeypatch.setattr(client_module, "ABANDON_AFTER", 0.6)
    scrape(application("", healthy.url))  # starts the thread that sends requests, which keeps its sockets
    before = descriptors()
    with HANGING[name]() as (url, connections):
        app = application(url, healthy.url, PATRONI_EXPORTER_TIMEOUT="0.3", PATRONI_EXPORTER_REQUEST_VERIFY=CERTIFICATE)
        scraped = scrape(app)
        assert scraped.seconds < 0.3 + SLACK
        assert (scraped.samples["patroni_up"], scraped.samples["staytus_up"]) == ({(): 0.0}, {(): 1.0})
        assert scraped.successes == dict.fromkeys(PATHS["patroni"], 0.0) | dict.fromkeys(PATHS["staytus"], 1.0)
        assert app.test_client().get("/-/healthy").text == "OK\n"
        until(lambda: fetching() == 0 and connections() == 0)
    del app
    until(lambda: gc.collect() >= 0 and descriptors() <= before)


@pytest.mark.parametrize("name", ["silent after accept", "silent TLS handshake"])
def test_thousand_scrapes_hold_no_more_than_one(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logging.getLogger("exporter.scrape.scrape"), "disabled", True)  # pytest keeps every record

    def held() -> tuple[int, int, int]:
        gc.collect()
        return threading.active_count(), descriptors(), sys.getallocatedblocks()

    with HANGING[name]() as (url, connections):
        settings = {"PATRONI_EXPORTER_URL": url, "PATRONI_EXPORTER_REQUEST_VERIFY": CERTIFICATE}
        modules = Settings.load(settings).modules
        client = Client()
        for _ in range(10):
            Scrape(modules, client, 0.001).results()
        until(lambda: fetching() == connections() == 5)  # a request is in flight before it has a socket
        threads, files, blocks = held()
        for _ in range(1000):
            assert not Scrape(modules, client, 0.0001).results()[0].up
        after = held()
        assert (after[0] <= threads, after[1] <= files, after[2] - blocks < 1000) == (True, True, True)


def test_forty_scrapes_that_hang_at_once(healthy: Upstream, monkeypatch: pytest.MonkeyPatch) -> None:
    """They share one request for each document, and other requests are served."""
    monkeypatch.setattr(client_module, "ABANDON_AFTER", 1.0)
    with odd(silent) as (url, _):
        app = application(url, healthy.url, PATRONI_EXPORTER_TIMEOUT="1")
        seconds: list[float] = []
        scrapes = [threading.Thread(target=lambda: seconds.append(scrape(app).seconds)) for _ in range(40)]
        for thread in scrapes:
            thread.start()
        assert app.test_client().get("/-/healthy").text == "OK\n"
        assert scrape(app, 1.0).samples["staytus_up"] == {(): 1.0}
        assert fetching() == 5
        for thread in scrapes:
            thread.join()
        assert (len(seconds), max(seconds) < 1 + SLACK) == (40, True)


@pytest.mark.parametrize(("timeout", "seconds"), [("1e-9", 0.0), ("0.5", 0.25), ("inf", 0.4), ("1e400", 0.4)])
def test_timeout_of_prometheus(timeout: str, seconds: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """It shortens the timeout of the module, and never extends it."""
    monkeypatch.setattr(client_module, "ABANDON_AFTER", 0.4)
    with odd(silent) as (url, _):
        scraped = scrape(application(url, PATRONI_EXPORTER_TIMEOUT="0.4"), timeout)
        assert seconds <= scraped.seconds < seconds + SLACK
