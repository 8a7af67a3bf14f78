"""Connections: kept ones that went stale are replaced unseen, they stay few, and no fork shares them."""

import json
import os
import signal
import socket
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from exporter.upstream import transfer
from exporter.upstream.client import Client
from tests.conftest import at, value_of
from tests.conftest import whole as whole_response
from tests.limits.scrapes import RECORDED, application, failing, scrape
from tests.limits.servers import CERTIFICATE, Odd, keeping, read_request, silent, whole


def test_kept_connections_that_all_went_stale_are_replaced_and_nobody_notices(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """As when a firewall between has forgotten them: each looks alive until something is sent."""
    with Odd(keeping(b"ok", requests=1)) as server:
        client, target = Client(), at(server.url)
        futures = [client.begin(target, f"{path}", whole_response) for path in range(5)]
        assert [value_of(future) for future in futures] == [(200, b"ok")] * 5
        assert value_of(client.begin(target, "again", whole_response)) == (200, b"ok")
        assert server.connections == 6
    assert caplog.records == []


@pytest.mark.parametrize("tls", [False, True])
def test_connection_that_went_stale_is_replaced_whenever_that_is_noticed(tls: bool) -> None:
    ended = threading.Event()

    def behave(connection: socket.socket) -> None:
        read_request(connection)
        connection.sendall(whole(b"ok"))
        connection.shutdown(socket.SHUT_RDWR)
        ended.set()

    with Odd(behave, tls=tls) as server:
        client, target = Client(), at(server.url, verify=CERTIFICATE)
        for _ in range(3):
            assert value_of(client.begin(target, "x", whole_response)) == (200, b"ok")
            assert ended.wait(5)
            ended.clear()
        assert server.connections == 3


def test_handshake_that_takes_too_long_is_no_connection_and_is_tried_again_at_once() -> None:
    with Odd(silent) as server:
        client = Client()
        target = at(server.url.replace("http:", "https:"), 0.2, verify=CERTIFICATE, interval=60)
        assert [failing(client, target) for _ in range(2)] == ["no connection within 0.2 s"] * 2
        assert server.connections == 2


def test_kept_connection_that_is_closed_after_the_request_was_taken_is_not_tried_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(transfer, "STALE_WITHIN", 0.2)

    def behave(connection: socket.socket) -> None:
        read_request(connection)
        connection.sendall(whole(b"ok"))
        read_request(connection)
        time.sleep(0.4)

    with Odd(behave) as server:
        client, target = Client(), at(server.url)
        assert value_of(client.begin(target, "x", whole_response)) == (200, b"ok")
        assert failing(client, target) == "the connection was closed without a response"


def test_many_scrapes_have_no_more_connections_than_documents() -> None:
    def behave(connection: socket.socket) -> None:
        while True:
            connection.sendall(whole(RECORDED[read_request(connection)].body))

    with Odd(behave) as server:
        app = application(server.url)
        assert [scrape(app).told["patroni_up"] for _ in range(30)] == [{(): 1.0}] * 30
        assert server.open == server.connections <= 5


def in_child(work: Callable[[], Any]) -> Any:
    """What a forked child makes of this, through JSON; None where it fails or takes more than ten seconds."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(10)
        try:
            os.write(write, json.dumps(work()).encode())
        finally:
            os._exit(0)
    os.close(write)
    with os.fdopen(read, "rb") as result:
        text = result.read()
    os.waitpid(child, 0)
    return json.loads(text or b"null")


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_child_of_a_fork_shares_no_connection_no_answer_no_request_under_way_and_no_lock() -> None:
    hung, release = threading.Event(), threading.Event()

    def behave(connection: socket.socket) -> None:
        """Tells each client its own port, and lets the first one wait that asks for /hung."""
        while True:
            if read_request(connection) == "/hung" and not hung.is_set():
                hung.set()
                release.wait(20)
            connection.sendall(whole(str(connection.getpeername()[1]).encode()))

    with Odd(behave) as server:
        client, target = Client(), at(server.url, 5, interval=60)

        def ask(path: str) -> str:
            body: bytes = value_of(client.begin(target, path, whole_response))[1]
            return body.decode()

        parents = ask("x")
        under_way = client.begin(target, "hung", whole_response)
        assert hung.wait(5)
        with client._lock:  # as another thread may at that moment
            childs = in_child(lambda: [ask("x"), ask("hung")])
        release.set()
        assert value_of(under_way)[0] == 200
        assert childs is not None
        assert childs[0] == childs[1] != parents == ask("x")
