"""Do no harm: one request in future for each target and document, however many scrape, and nothing piles up."""

import gc
import logging
import socket
import threading
import time
import tracemalloc
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import pairwise

import pytest

from exporter.upstream import client as client_module
from exporter.upstream.client import Client, Result
from tests.conftest import Upstream, at, error_of, value_of
from tests.conftest import whole as whole_response
from tests.limits.scrapes import PATHS, PATRONI, STAYTUS, application, failing, fetching, scrape
from tests.limits.servers import Odd, read_request, repeating, saying, silent, whole
from tests.live.processes import until

MIB = 1024 * 1024


def test_forty_scrapes_at_once_are_one_request_for_each_document(upstream: Upstream) -> None:
    upstream.serve(PATRONI)
    release = upstream.hold("/patroni")
    app = application(upstream.url)
    ups: list[float] = []
    scrapes = [threading.Thread(target=lambda: ups.append(scrape(app).told["patroni_up"][()])) for _ in range(40)]
    for thread in scrapes:
        thread.start()
    until(lambda: "/patroni" in upstream.paths)
    release.set()
    for thread in scrapes:
        thread.join()
    assert ups == [1.0] * 40
    assert upstream.paths.count("/patroni") == 1


def test_request_that_hangs_stays_the_only_one_beyond_the_scrape_and_whoever_comes_later_has_its_answer(
    upstream: Upstream,
) -> None:
    upstream.serve(PATRONI)
    release = upstream.hold("/patroni")
    app = application(upstream.url)
    for _ in range(8):
        scraped = scrape(app, 0.8)
        assert scraped.told["patroni_up"] == {(): 0.0}
        assert scraped.told["patroni_cluster_members"] == {("lab",): 3.0}
    assert upstream.paths.count("/patroni") == 1
    assert upstream.paths.count("/cluster") == 8
    release.set()
    assert scrape(app).told["patroni_up"] == {(): 1.0}
    assert upstream.paths.count("/patroni") <= 2  # the late answer, or one of its own where that came before


def test_scrape_that_had_given_up_when_the_answer_came_does_not_tell_so_to_others(upstream: Upstream) -> None:
    upstream.serve(STAYTUS)
    release = upstream.hold("/api/v1/services/all")
    app = application("", upstream.url, STAYTUS_COLLECT="services", POLLING_INTERVAL_SECONDS="60")

    class Releasing(logging.Handler):
        """The answer comes when the scrape says that it has given up, and before it writes its page."""

        def emit(self, _: logging.LogRecord) -> None:
            release.set()
            until(lambda: fetching() == 0)

    log, releasing = logging.getLogger("exporter.scrape.scrape"), Releasing()
    log.addHandler(releasing)
    try:
        assert scrape(app, 0.8).told["staytus_up"] == {(): 0.0}
    finally:
        log.removeHandler(releasing)
    assert scrape(app).told["staytus_up"] == {(): 1.0}
    assert upstream.paths == ["/api/v1/services/all"]


def test_next_request_is_sent_when_a_minute_has_passed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module, "ABANDON_AFTER", 0.5)
    begins: list[float] = []

    def behave(connection: socket.socket) -> None:
        read_request(connection)
        begins.append(time.monotonic())
        silent(connection)

    with Odd(behave) as server:
        app = application(server.url, PATRONI_EXPORTER_TIMEOUT="0.1", PATRONI_EXPORTER_COLLECT="node")
        start = time.monotonic()
        while time.monotonic() - start < 1.8:
            scrape(app)
        seconds = time.monotonic() - start
        until(lambda: server.open == 0)
    assert 2 <= len(begins) <= 1 + seconds / 0.5
    assert min(later - sooner for sooner, later in pairwise(begins)) > 0.25  # as far as a busy machine can tell


def test_connection_that_was_never_made_is_tried_again_at_once() -> None:
    with Odd(saying(whole(b"ok"))) as server:
        url = server.url
    client, target = Client(), at(url, 5, interval=60)
    assert [failing(client, target) for _ in range(3)] == ["no connection: connection refused"] * 3


def test_failure_younger_than_the_interval_is_used_again_without_growing() -> None:
    with Odd(saying(b"")) as server:
        client, target = Client(), at(server.url, 5, interval=60)
        first = client.begin(target, "x", whole_response)
        assert str(error_of(first)) == "the connection was closed without a response"
        app = application("", server.url)
        for _ in range(5):
            assert scrape(app).told["staytus_up"] == {(): 0.0}
            assert client.begin(target, "x", whole_response) is first
        assert server.connections == 1 + len(PATHS["staytus"])


def test_whoever_asks_at_the_end_of_a_request_begins_the_one_that_others_join() -> None:
    def behave(connection: socket.socket) -> None:
        read_request(connection)
        if server.connections == 1:
            connection.sendall(whole(b"one", "200 OK", "Connection: close"))
        else:
            silent(connection)

    with Odd(behave) as server:
        client, target = Client(), at(server.url)
        first = client.begin(target, "x", whole_response)

        def ask_again(_: int) -> Future[Result]:
            assert value_of(first) == (200, b"one")
            return client.begin(target, "x", whole_response)

        with ThreadPoolExecutor(8) as scrapes:
            later = set(scrapes.map(ask_again, range(8)))
        until(lambda: server.connections == 2 and fetching() == 1)
        assert {client.begin(target, "x", whole_response)} == later
        assert server.connections == 2


def test_answer_that_failed_is_not_held_in_memory() -> None:
    with Odd(repeating(b"HTTP/1.1 200 OK\r\n\r\n", b"x" * 65536)) as server:
        client, target = Client(), at(server.url, 30, interval=60)
        gc.disable()
        tracemalloc.start()
        try:
            assert failing(client, target) == "the response is larger than 16 MiB"
            until(lambda: fetching() == 0)
            assert tracemalloc.get_traced_memory()[0] < MIB
        finally:
            tracemalloc.stop()
            gc.enable()


def test_thread_that_cannot_be_started_is_a_failure_and_the_next_scrape_tries_again(
    upstream: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    upstream.answers["/x"] = (200, b"ok")
    client, target = Client(), at(upstream.url, 5, interval=60)
    start = threading.Thread.start

    def refuse(thread: threading.Thread) -> None:
        if thread.name == "fetch":
            raise RuntimeError("can't start new thread")  # as the system does at its limit
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", refuse)
    assert failing(client, target) == "no thread could be started for the request"
    monkeypatch.undo()
    assert value_of(client.begin(target, "x", whole_response)) == (200, b"ok")
