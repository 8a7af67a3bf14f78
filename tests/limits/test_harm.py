"""Do no harm: one request in flight for each target and document, whatever the number of scrapes."""

import gc
import socket
import threading
import time
import tracemalloc
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import pairwise

import pytest

from exporter.upstream import adapter as adapter_module
from exporter.upstream import client as client_module
from exporter.upstream.client import Client, Result
from tests.conftest import Upstream, at, begin, error_of, value_of
from tests.limits.scrapes import PATHS, application, failing, fetching, scrape
from tests.limits.servers import Odd, read_request, repeating, saying, silent, whole
from tests.live.processes import until


def test_next_request_is_sent_when_the_hung_one_is_abandoned(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module, "ABANDON_AFTER", 0.5)
    times: list[float] = []

    def behave(connection: socket.socket) -> None:
        read_request(connection)
        times.append(time.monotonic())
        silent(connection)

    with Odd(behave) as server:
        app = application(server.url, PATRONI_EXPORTER_TIMEOUT="0.1", PATRONI_EXPORTER_COLLECT="node")
        start = time.monotonic()
        while time.monotonic() - start < 1.8:
            scrape(app)
        seconds = time.monotonic() - start
        until(lambda: server.open == 0)
    assert 2 <= len(times) <= 1 + seconds / 0.5
    assert min(later - sooner for sooner, later in pairwise(times)) > 0.25  # the machine may be busy


def test_young_failure_is_used_again() -> None:
    with Odd(saying(b"")) as server:
        client, target = Client(), at(server.url, 5, interval=60)
        first = begin(client, target, "x")
        assert str(error_of(first)) == "the connection was closed without a response"
        app = application("", server.url)
        for _ in range(5):
            assert scrape(app).samples["staytus_up"] == {(): 0.0}
            assert begin(client, target, "x") is first
        assert server.connections == 1 + len(PATHS["staytus"])


def test_callers_woken_by_a_response_share_the_next_request() -> None:
    def behave(connection: socket.socket) -> None:
        read_request(connection)
        if server.connections == 1:
            connection.sendall(whole(b"one", "200 OK", "Connection: close"))
        else:
            silent(connection)

    with Odd(behave) as server:
        client, target = Client(), at(server.url)
        first = begin(client, target, "x")

        def begin_again(_: int) -> Future[Result]:
            assert value_of(first) == (200, b"one")
            return begin(client, target, "x")

        with ThreadPoolExecutor(8) as callers:
            later = set(callers.map(begin_again, range(8)))
        until(lambda: server.connections == 2 and fetching() == 1)
        assert {begin(client, target, "x")} == later
        assert server.connections == 2


def test_failed_response_is_not_kept_in_memory() -> None:
    with Odd(repeating(b"HTTP/1.1 200 OK\r\n\r\n", b"x" * 65536)) as server:
        client, target = Client(), at(server.url, 30, interval=60)
        gc.disable()
        tracemalloc.start()
        try:
            assert failing(client, target) == "the response is larger than 16 MiB"
            until(lambda: fetching() == 0)
            assert tracemalloc.get_traced_memory()[0] < 1024 * 1024
        finally:
            tracemalloc.stop()
            gc.enable()


def test_thread_that_cannot_be_started(upstream: Upstream, monkeypatch: pytest.MonkeyPatch) -> None:
    """The request fails, nothing is left open, and the next request tries again."""
    upstream.answers["/x"] = (200, b"ok")
    client, target = Client(), at(upstream.url, 5, interval=60)
    start = threading.Thread.start

    def refuse(thread: threading.Thread) -> None:
        if thread.name == "fetch":
            raise RuntimeError("can't start new thread")  # as the system does at its limit
        start(thread)

    with monkeypatch.context() as patched:
        patched.setattr(adapter_module, "_loops", {})
        patched.setattr(threading.Thread, "start", refuse)
        assert failing(client, target) == "no thread could be started for the request"
    assert value_of(begin(client, target, "x")) == (200, b"ok")
