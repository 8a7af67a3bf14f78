"""A scrape ends in time whatever an upstream does, and what it leaves behind ends too."""

import contextlib
import gc
import logging
import math
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

#: What a slow machine may take on top.
SLACK = 1.5

TRUSTED = {"PATRONI_EXPORTER_REQUEST_VERIFY": CERTIFICATE}

OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"

#: The URL of an upstream that hangs, and how many connections it has open.
Hanging = AbstractContextManager[tuple[str, Callable[[], int]]]


@contextlib.contextmanager
def odd(behave: Behaviour, *, scheme: str = "http", tls: bool = False) -> Iterator[tuple[str, Callable[[], int]]]:
    with Odd(behave, tls=tls) as server:
        yield f"{scheme}:{server.url.partition(':')[2]}", lambda: server.open


@contextlib.contextmanager
def unaccepting() -> Iterator[tuple[str, Callable[[], int]]]:
    with full_backlog() as url:
        yield url, lambda: 0


HANGING: dict[str, Callable[[], Hanging]] = {
    "silent after accept": lambda: odd(silent),
    "silent before accept": unaccepting,
    "status line byte by byte": lambda: odd(repeating(b"HTTP/1.1 200 ", b"x", 0.02)),
    "header byte by byte": lambda: odd(repeating(OK + b"X: ", b"x", 0.02)),
    "body byte by byte": lambda: odd(repeating(OK + b"\r\n", b"x", 0.02)),
    "chunks byte by byte": lambda: odd(repeating(CHUNKED, b"1\r\nx\r\n", 0.02)),
    "body byte by byte above TLS": lambda: odd(repeating(OK + b"\r\n", b"x", 0.02), scheme="https", tls=True),
    "endless 100 Continue": lambda: odd(repeating(b"", b"HTTP/1.1 100 Continue\r\n\r\n")),
    "endless trailers": lambda: odd(repeating(CHUNKED + b"0\r\n", b"X: " + b"y" * 60000 + b"\r\n")),
    "endless body": lambda: odd(repeating(OK + b"\r\n", b"x" * 65536)),
    "endless body above TLS": lambda: odd(repeating(OK + b"\r\n", b"x" * 65536), scheme="https", tls=True),
    "endless chunk of -1 bytes": lambda: odd(repeating(CHUNKED + b"-1\r\n", b"x" * 65536)),
    "silent TLS handshake": lambda: odd(silent, scheme="https"),
    # The begin of a record of 16 KiB that holds a ServerHello.
    "TLS handshake byte by byte": lambda: odd(
        repeating(b"\x16\x03\x03\x40\x00\x02\x00\x3f\xfc", b"\x00", 0.02), scheme="https"
    ),
}


@pytest.fixture
def healthy(upstream: Upstream) -> Upstream:
    upstream.serve({**PATRONI, **STAYTUS})
    return upstream


@pytest.mark.parametrize(
    ("name", "limit"),
    [
        *((name, "timeout") for name in HANGING),
        *((name, "header") for name in HANGING if name.startswith(("silent", "body"))),
    ],
)
def test_scrape_ends_in_time_and_all_that_it_began_ends_after_its_minute(
    name: str, limit: str, healthy: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client_module, "ABANDON_AFTER", 0.6)
    timeout, allowed, seconds = ("0.3", 10.0, 0.3) if limit == "timeout" else ("0.6", 0.8, 0.3)
    before = descriptors()
    with HANGING[name]() as (url, connections):
        app = application(
            url, healthy.url, PATRONI_EXPORTER_TIMEOUT=timeout, PATRONI_EXPORTER_REQUEST_VERIFY=CERTIFICATE
        )
        scraped = scrape(app, allowed)
        assert scraped.seconds < seconds + SLACK
        assert scraped.told["patroni_up"] == {(): 0.0}
        assert scraped.successes == dict.fromkeys(PATHS["patroni"], 0.0) | dict.fromkeys(PATHS["staytus"], 1.0)
        assert scraped.told["staytus_up"] == {(): 1.0}
        assert scraped.documented == [
            "service_status",
            "staytus_service_info",
            "staytus_issues",
            "staytus_open_issue_info",
            "staytus_open_issue_created_timestamp_seconds",
            "staytus_open_issue_updated_timestamp_seconds",
        ]
        assert app.test_client().get("/-/healthy").text == "OK\n"
        until(lambda: fetching() == 0 and connections() == 0)  # which this server sees shut from the other side
    del app
    until(lambda: gc.collect() >= 0 and descriptors() <= before)


def test_staytus_that_hangs_is_the_same(healthy: Upstream, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module, "ABANDON_AFTER", 0.4)
    with odd(silent) as (url, _):
        scraped = scrape(application(healthy.url, url, STAYTUS_TIMEOUT="0.2"))
        assert 0.2 <= scraped.seconds < 0.2 + SLACK
        assert (scraped.told["patroni_up"], scraped.told["staytus_up"]) == ({(): 1.0}, {(): 0.0})
        assert scraped.told["patroni_cluster_members"] == {("lab",): 3.0}


@pytest.mark.parametrize("name", ["silent after accept", "silent TLS handshake"])
def test_thousand_scrapes_of_a_hung_upstream_hold_no_more_than_one(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logging.getLogger("exporter.scrape.scrape"), "disabled", True)  # pytest keeps every record

    def holds() -> tuple[int, int, int]:
        gc.collect()
        return threading.active_count(), descriptors(), sys.getallocatedblocks()

    with HANGING[name]() as (url, connections):
        modules = Settings.load({"PATRONI_EXPORTER_URL": url, **TRUSTED}).modules
        client = Client()
        for _ in range(10):
            Scrape(modules, client, 0.001).results()
        until(lambda: fetching() == connections() == 5)  # a request is under way before it has a socket
        threads, files, blocks = holds()
        for _ in range(1000):
            assert not Scrape(modules, client, 0.0001).results()[0].up
        after = holds()
        assert after[0] <= threads  # those that were idle have ended meanwhile
        assert after[1] <= files  # those of tests before may end meanwhile
        assert after[2] - blocks < 1000


def test_forty_scrapes_that_hang_at_once_keep_nobody_from_the_rest(
    healthy: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client_module, "ABANDON_AFTER", 1.0)
    with odd(silent) as (url, _):
        app = application(url, healthy.url, PATRONI_EXPORTER_TIMEOUT="1")
        seconds: list[float] = []
        scrapes = [threading.Thread(target=lambda: seconds.append(scrape(app).seconds)) for _ in range(40)]
        for thread in scrapes:
            thread.start()
        assert app.test_client().get("/-/healthy").text == "OK\n"
        assert scrape(app, 1.0).told["staytus_up"] == {(): 1.0}
        assert fetching() == 5
        for thread in scrapes:
            thread.join()
        assert len(seconds) == 40
        assert max(seconds) < 1 + SLACK


@pytest.mark.parametrize("value", ["ten", "-1", "0", "nan", "-inf", "1,5", "5s", "0x10", "1 2", "\xb2", "1e", "_1"])
def test_header_that_is_no_number_of_seconds_is_ignored_with_one_debug_line(
    value: str, healthy: Upstream, caplog: pytest.LogCaptureFixture
) -> None:
    app = application(healthy.url, PATRONI_EXPORTER_DEBUG="true")
    assert scrape(app, value).told["patroni_up"] == {(): 1.0}
    assert [(record.levelname, record.getMessage()) for record in caplog.records if "metrics" in record.name] == [
        ("DEBUG", f"X-Prometheus-Scrape-Timeout-Seconds is ignored: {value!r} is not a number of seconds")
    ]


@pytest.mark.parametrize(("allowed", "seconds"), [("1e-9", 0.0), ("0.5", 0.25), ("inf", 0.4), ("1e400", 0.4)])
def test_header_of_any_size_leaves_at_most_the_timeout_of_the_module(
    allowed: str, seconds: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client_module, "ABANDON_AFTER", 0.4)
    with odd(silent) as (url, _):
        scraped = scrape(application(url, PATRONI_EXPORTER_TIMEOUT="0.4"), allowed)
        assert seconds <= scraped.seconds < seconds + SLACK
        assert not math.isinf(scraped.seconds)
