"""A scrape ends in time whatever an upstream does, and nothing is left of it after ABANDON_AFTER."""

import contextlib
import gc
import logging
import sys
import threading
from collections.abc import Iterator

import pytest

from exporter.config.settings import Settings
from exporter.scrape.scrape import Scrape
from exporter.upstream import client as client_module
from exporter.upstream.client import Client
from tests.conftest import Upstream
from tests.limits.scrapes import PATHS, PATRONI, STAYTUS, application, descriptors, fetching, scrape
from tests.limits.servers import CERTIFICATE, Behaviour, Odd, repeating, silent
from tests.live.processes import until

#: Seconds that a slow machine may add.
SLACK = 5

OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"

DRIPPING = repeating(OK + b"\r\n", b"x", 0.02)
ENDLESS = repeating(OK + b"\r\n", b"x" * 65536)

#: The first bytes of a TLS record of 16 KiB that holds a ServerHello.
SERVER_HELLO = b"\x16\x03\x03\x40\x00\x02\x00\x3f\xfc"

#: The behaviour of a server that hangs, the scheme of its URL, and whether it speaks TLS.
HANGING: dict[str, tuple[Behaviour, str, bool]] = {
    "silent": (silent, "http", False),
    "silent TLS handshake": (silent, "https", False),
    "TLS handshake byte by byte": (repeating(SERVER_HELLO, b"\x00", 0.02), "https", False),
    "status line byte by byte": (repeating(b"HTTP/1.1 200 ", b"x", 0.02), "http", False),
    "header byte by byte": (repeating(OK + b"X: ", b"x", 0.02), "http", False),
    "body byte by byte": (DRIPPING, "http", False),
    "body byte by byte over TLS": (DRIPPING, "https", True),
    "chunks byte by byte": (repeating(CHUNKED, b"1\r\nx\r\n", 0.02), "http", False),
    "endless 100 Continue": (repeating(b"", b"HTTP/1.1 100 Continue\r\n\r\n"), "http", False),
    "endless trailers": (repeating(CHUNKED + b"0\r\n", b"X: " + b"y" * 60000 + b"\r\n"), "http", False),
    "endless body": (ENDLESS, "http", False),
    "endless body over TLS": (ENDLESS, "https", True),
    "endless chunk of -1 bytes": (repeating(CHUNKED + b"-1\r\n", b"x" * 65536), "http", False),
}


@contextlib.contextmanager
def hanging(name: str) -> Iterator[Odd]:
    behave, scheme, tls = HANGING[name]
    with Odd(behave, tls=tls) as server:
        server.url = f"{scheme}:{server.url.partition(':')[2]}"
        yield server


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
    with hanging(name) as server:
        settings = {"PATRONI_EXPORTER_TIMEOUT": "0.3", "PATRONI_EXPORTER_REQUEST_VERIFY": CERTIFICATE}
        app = application(server.url, healthy.url, **settings)
        scraped = scrape(app)
        assert scraped.seconds < 0.3 + SLACK
        assert (scraped.samples["patroni_up"], scraped.samples["staytus_up"]) == ({(): 0.0}, {(): 1.0})
        assert scraped.successes == dict.fromkeys(PATHS["patroni"], 0.0) | dict.fromkeys(PATHS["staytus"], 1.0)
        assert app.test_client().get("/-/healthy").text == "OK\n"
        until(lambda: fetching() == 0 and server.open == 0)
    del app
    until(lambda: gc.collect() >= 0 and descriptors() <= before)


@pytest.mark.parametrize("name", ["silent", "silent TLS handshake"])
def test_thousand_scrapes_hold_no_more_than_one(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logging.getLogger("exporter.scrape.scrape"), "disabled", True)  # pytest keeps every record

    def held() -> tuple[int, int, int]:
        gc.collect()
        return threading.active_count(), descriptors(), sys.getallocatedblocks()

    with hanging(name) as server:
        settings = {"PATRONI_EXPORTER_URL": server.url, "PATRONI_EXPORTER_REQUEST_VERIFY": CERTIFICATE}
        modules = Settings.load(settings).modules
        client = Client()
        for _ in range(10):
            Scrape(modules, client, 0.001).results()
        until(lambda: fetching() == server.open == 5)  # a request is in flight before it has a socket
        threads, files, blocks = held()
        for _ in range(1000):
            assert not Scrape(modules, client, 0.0001).results()[0].up
        after = held()
        assert (after[0] <= threads, after[1] <= files, after[2] - blocks < 1000) == (True, True, True)


def test_forty_scrapes_that_hang_at_once(healthy: Upstream) -> None:
    """They share one request for each document, and other requests are served."""
    with Odd(silent) as server:
        app = application(server.url, healthy.url, PATRONI_EXPORTER_TIMEOUT="1")
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
