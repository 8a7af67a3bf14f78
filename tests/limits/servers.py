"""Servers that behave as a test tells them to, and count their connections."""

import contextlib
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Self

#: What a server does with a connection; it may raise OSError when the client has gone.
Behaviour = Callable[[socket.socket], None]

#: A self-signed certificate for localhost and 127.0.0.1, with its key.
CERTIFICATE = str(Path(__file__).with_name("localhost.pem"))


class Odd:
    """A server on a free port of 127.0.0.1 with a thread for each connection; `connections` counts all of them."""

    def __init__(self, behave: Behaviour, *, tls: bool = False) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
        self._context = _server_context() if tls else None
        self._open: dict[socket.socket, threading.Thread] = {}
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._accept)
        self.behave = behave
        self.connections = 0
        self.url = f"http{'s' if tls else ''}://127.0.0.1:{self._listener.getsockname()[1]}"

    @property
    def open(self) -> int:
        """The number of open connections."""
        with self._lock:
            return len(self._open)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._listener.close()
        with self._lock:
            threads = list(self._open.values())
            for connection in self._open:
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)
        for thread in threads:
            thread.join()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                thread = threading.Thread(target=self._behave, args=(connection,))
                with self._lock:
                    self.connections += 1
                    self._open[connection] = thread
                thread.start()

    def _behave(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError):
            if self._context is None:
                self.behave(connection)
            else:
                # A duplicate, so that __exit__ can still shut the connection.
                with self._context.wrap_socket(connection.dup(), server_side=True) as protected:
                    self.behave(protected)
        with self._lock:
            del self._open[connection]
            connection.close()


def _server_context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(CERTIFICATE)
    return context


def read_request(connection: socket.socket) -> str:
    """Reads one request and returns its path; raises OSError when the client closes the connection."""
    head = b""
    while b"\r\n\r\n" not in head:
        part = connection.recv(65536)
        if not part:
            raise ConnectionResetError
        head += part
    return head.split()[1].decode()


def silent(connection: socket.socket) -> None:
    """Reads and never responds."""
    while connection.recv(65536):
        pass


def saying(response: bytes) -> Behaviour:
    """Reads a request, sends this response and closes the connection."""

    def behave(connection: socket.socket) -> None:
        read_request(connection)
        connection.sendall(response)

    return behave


def resetting(response: bytes) -> Behaviour:
    """Reads a request, sends this part of a response and resets the connection when it has arrived."""

    def behave(connection: socket.socket) -> None:
        read_request(connection)
        connection.sendall(response)
        time.sleep(0.05)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    return behave


def repeating(head: bytes, part: bytes, seconds: float = 0) -> Behaviour:
    """Sends `head` and then `part` again and again, with so many seconds between, until the client has gone."""

    def behave(connection: socket.socket) -> None:
        connection.sendall(head)
        while True:
            connection.sendall(part)
            time.sleep(seconds)

    return behave


def whole(body: bytes, status: str = "200 OK", *headers: str) -> bytes:
    """The bytes of a whole response."""
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers]
    return "".join(f"{line}\r\n" for line in lines).encode() + b"\r\n" + body


@contextlib.contextmanager
def full_backlog() -> Iterator[str]:
    """The URL of a server that accepts no connection and whose queue is full."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(3):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(listener.getsockname())
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
