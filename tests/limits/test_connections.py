"""Connections: stale ones are replaced, there are few of them, and forked processes do not share them."""

import socket
import struct
import threading
import time

import pytest

from exporter.upstream import transfer
from exporter.upstream.client import Client
from tests.conftest import at, begin, value_of
from tests.forked import in_a_child
from tests.limits.scrapes import RECORDED, application, failing, scrape
from tests.limits.servers import CERTIFICATE, Odd, read_request, silent, whole

#: Closing a connection with this SO_LINGER resets it.
RESET = struct.pack("ii", 1, 0)


@pytest.mark.parametrize("number", [5, 12])
@pytest.mark.parametrize("end", [b"", RESET], ids=["closed", "reset"])
def test_several_stale_connections_are_replaced(number: int, end: bytes) -> None:
    """For example after a firewall has forgotten them: each looks alive until a request is sent."""

    def behave(connection: socket.socket) -> None:
        read_request(connection)
        connection.sendall(whole(b"ok"))
        read_request(connection)
        if end:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, end)

    with Odd(behave) as server:
        client, target = Client(), at(server.url)
        futures = [begin(client, target, str(path)) for path in range(number)]
        assert [value_of(future) for future in futures] == [(200, b"ok")] * number
        assert value_of(begin(client, target, "again")) == (200, b"ok")
        assert server.connections == number + 1


def test_closed_tls_connection_is_replaced() -> None:
    closed = threading.Event()

    def behave(connection: socket.socket) -> None:
        read_request(connection)
        connection.sendall(whole(b"ok"))
        connection.shutdown(socket.SHUT_RDWR)
        closed.set()

    with Odd(behave, tls=True) as server:
        client, target = Client(), at(server.url, verify=CERTIFICATE)
        for _ in range(3):
            assert value_of(begin(client, target, "x")) == (200, b"ok")
            assert closed.wait(5)
            closed.clear()
        assert server.connections == 3


def test_slow_handshake_is_tried_again_at_once() -> None:
    with Odd(silent) as server:
        client = Client()
        target = at(server.url.replace("http:", "https:"), 0.2, verify=CERTIFICATE, interval=60)
        assert [failing(client, target) for _ in range(2)] == ["no connection within 0.2 s"] * 2
        assert server.connections == 2


def test_request_that_was_read_is_not_sent_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transfer, "STALE_WITHIN", 0.2)

    def behave(connection: socket.socket) -> None:
        read_request(connection)
        connection.sendall(whole(b"ok"))
        read_request(connection)
        time.sleep(0.4)

    with Odd(behave) as server:
        client, target = Client(), at(server.url)
        assert value_of(begin(client, target, "x")) == (200, b"ok")
        assert failing(client, target) == "the connection was closed without a response"


def test_one_connection_for_each_document() -> None:
    def behave(connection: socket.socket) -> None:
        while True:
            connection.sendall(whole(RECORDED[read_request(connection)].body))

    with Odd(behave) as server:
        app = application(server.url)
        assert [scrape(app).samples["patroni_up"] for _ in range(30)] == [{(): 1.0}] * 30
        assert server.open == server.connections <= 5


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_forked_process_shares_nothing() -> None:
    """No connection, no response, no request in flight, and no lock."""
    hung, release = threading.Event(), threading.Event()

    def behave(connection: socket.socket) -> None:
        """Responds with the client's port; the first request for /hung waits."""
        while True:
            if read_request(connection) == "/hung" and not hung.is_set():
                hung.set()
                release.wait(20)
            connection.sendall(whole(str(connection.getpeername()[1]).encode()))

    with Odd(behave) as server:
        client, target = Client(), at(server.url, 5, interval=60)

        def get(path: str) -> str:
            body: bytes = value_of(begin(client, target, path))[1]
            return body.decode()

        parents = get("x")
        in_flight = begin(client, target, "hung")
        assert hung.wait(5)
        with client._lock:  # as if another thread held it at that moment
            childs = in_a_child(lambda: [get("x"), get("hung")])
        release.set()
        assert value_of(in_flight)[0] == 200
        assert childs is not None
        assert childs[0] == childs[1] != parents == get("x")
