"""A fast stand-in upstream: Patroni and Staytus from memory, each on its port, with a delay and a count by path.

python -m bench.upstream --delay 0.02    # prints the two ports, Patroni's first, and serves until standard input ends

One thread around epoll and no protocol stack, as it shares the machine with what is measured.
"""

import argparse
import asyncio
import contextlib
import json
import socket
import sys
from collections import Counter
from collections.abc import Mapping

from tests.recorded import moment, staytus

#: The path below which either port tells how often each path was asked; itself not counted.
COUNTS = "/counts"

#: A three-node cluster of Patroni 4.1.5 as its leader tells of it.
PATRONI = {
    **{
        path: moment("4.1.5", "failsafe-enabled", "n1").answers[path].body
        for path in ("/patroni", "/cluster", "/config", "/failsafe")
    },
    "/history": moment("4.1.5", "history-4-timelines", "n1").answers["/history"].body,
}

#: Staytus 1.3.1 with a service and an issue of each kind.
STAYTUS = {
    "/api/v1/services/all": staytus("services_all_ok_minor_major_maintenance").body,
    "/api/v1/issues/all": staytus("issues_all_four_states").body,
}


def closing(body: bytes) -> bytes:
    """Returns an answer as Patroni gives it: HTTP/1.0 without a length, so that the body ends with the connection."""
    return (
        b"HTTP/1.0 200 OK\r\nServer: BaseHTTP/0.6 Python/3.11.2\r\nDate: Sat, 01 Nov 2025 12:00:00 GMT\r\n"
        b"Content-Type: application/json\r\n\r\n" + body
    )


def keeping(body: bytes) -> bytes:
    """Returns an answer as Staytus gives it: HTTP/1.1 with a length, and the connection stays."""
    return (
        b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nCache-Control: max-age=0, private, must-revalidate\r\n"
        b"Content-Length: " + str(len(body)).encode() + b"\r\n\r\n" + body
    )


class Upstream:
    """Answers the requests of one port from memory; what is not there is 404."""

    def __init__(self, loop: asyncio.AbstractEventLoop, answers: Mapping[str, bytes], keeps: bool, delay: float):
        head = keeping if keeps else closing
        self._answers = {path.encode(): head(body) for path, body in answers.items()}
        self._unknown = head(b"{}").replace(b"200 OK", b"404 Not Found", 1)
        self._head, self._keeps, self._delay, self._loop = head, keeps, delay, loop
        self._asked: Counter[bytes] = Counter()
        self._unread: dict[socket.socket, bytes] = {}
        self._watched: set[socket.socket] = set()
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
        self._listener.setblocking(False)
        # accept() waits for the first bytes, so that one event serves a whole connection of Patroni's.
        self._listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_DEFER_ACCEPT, 1)
        self.port: int = self._listener.getsockname()[1]
        loop.add_reader(self._listener, self._accept)

    def _accept(self) -> None:
        connection, _ = self._listener.accept()
        connection.setblocking(False)
        if self._keeps:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._watch(connection)
        self._read(connection)

    def _watch(self, connection: socket.socket) -> None:
        if connection not in self._watched:
            self._watched.add(connection)
            self._loop.add_reader(connection, self._read, connection)

    def _read(self, connection: socket.socket) -> None:
        try:
            received = connection.recv(65536)
        except BlockingIOError:
            self._watch(connection)
            return
        except ConnectionError:
            received = b""
        request = self._unread.pop(connection, b"") + received
        if not received:
            self._close(connection)
        elif b"\r\n\r\n" not in request:
            self._unread[connection] = request
            self._watch(connection)
        else:
            self._answer(connection, request.split(b" ", 2)[1])

    def _answer(self, connection: socket.socket, path: bytes) -> None:
        if path == COUNTS.encode():
            counts = {asked.decode(): count for asked, count in self._asked.items()}
            self._send(connection, self._head(json.dumps(counts).encode()))
            return
        self._asked[path] += 1
        answer = self._answers.get(path, self._unknown)
        if self._delay:
            self._loop.call_later(self._delay, self._send, connection, answer)
        else:
            self._send(connection, answer)

    def _send(self, connection: socket.socket, answer: bytes) -> None:
        with contextlib.suppress(OSError):
            connection.send(answer)  # far smaller than the socket's buffer
        if not self._keeps:
            self._close(connection)

    def _close(self, connection: socket.socket) -> None:
        if connection in self._watched:
            self._watched.remove(connection)
            self._loop.remove_reader(connection)
        connection.close()


def main() -> None:
    """Serves until standard input ends, which it does with the process that started this one."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--delay", type=float, default=0.0, help="seconds before each answer")
    delay = parser.parse_args().delay
    loop = asyncio.new_event_loop()
    ports = [Upstream(loop, PATRONI, False, delay).port, Upstream(loop, STAYTUS, True, delay).port]
    loop.add_reader(sys.stdin, loop.stop)
    sys.stdout.write(" ".join(map(str, ports)) + "\n")
    sys.stdout.flush()
    loop.run_forever()


if __name__ == "__main__":
    main()
