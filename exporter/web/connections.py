"""A connection of a client: TLS handshake, requests and responses, each with a deadline, on a non-blocking socket.

The main thread of `exporter.web.gunicorn.Worker` waits for all clients at once.
"""

import contextlib
import logging
import re
import selectors
import socket
import ssl
import time
from collections.abc import Callable, Generator
from typing import Any, TypeVar

from gunicorn import http
from gunicorn.http.errors import LimitRequestHeaders
from gunicorn.sock import ssl_context
from gunicorn.workers.gthread import TConn

from exporter.log import Event
from exporter.web.tls import client_is_allowed

log = logging.getLogger(__name__)

T = TypeVar("T")

#: Deadlines in seconds: for a TLS handshake, for the first byte of the first request and then for a request head, for a
#: client to receive a response, and for it to close its side of the connection after the last response.
HANDSHAKE = 5.0
REQUEST = 5.0
RESPONSE = 30.0
CLOSE = 2.0

#: Limit of a request head in bytes.
MAX_HEAD = 32 * 1024

#: Limit of the bytes that a client sends after the last response; they are ignored.
MAX_IGNORED = 64 * 1024

#: The end of a request head. A line feed without a carriage return is an error, and gunicorn responds with status 400.
END = re.compile(rb"\r\n\r\n|(?<!\r)\n")

#: What a connection waits for: a free thread, or its client.
THREAD, READ, WRITE = 0, selectors.EVENT_READ, selectors.EVENT_WRITE


class Exchange:
    """What gunicorn uses as the socket of a request: the received bytes and the response are in memory."""

    def __init__(self, request: bytes = b"", is_too_large: bool = False) -> None:
        self.response: list[bytes] = []
        self._request = request
        self._is_too_large = is_too_large

    def recv(self, size: int) -> bytes:
        if not self._request and self._is_too_large:
            raise LimitRequestHeaders(f"more than {MAX_HEAD} bytes")
        data, self._request = self._request[:size], self._request[size:]
        return data

    def send(self, data: bytes) -> int:
        self.response.append(data)
        return len(data)

    sendall = send

    def gettimeout(self) -> float:
        return 0.0

    def ignore(self, *_: object) -> None:
        """Does nothing: the connection has the socket."""

    setblocking = settimeout = shutdown = close = ignore


class Connection(TConn):
    """A connection. `next(steps)` runs it until it has to wait, and returns THREAD, READ or WRITE.

    After the last step, or an OSError, it can be closed.
    """

    sock: Any
    timeout: float

    def __init__(self, cfg: Any, sock: socket.socket, client: Any, server: Any) -> None:
        super().__init__(cfg, sock, client, server)
        self.socket = sock
        self.initialized = True
        #: handshake, request, response, idle or close.
        self.state = ""
        self.is_kept_alive = False
        self.unsent = memoryview(b"")
        self._received = b""
        self.steps = self._steps()

    def _steps(self) -> Generator[int, None, None]:
        if self.cfg.is_ssl and not (yield from self._handshake()):
            yield from self._close()
            return
        self._enter("idle", REQUEST)
        while (yield from self._read_head()):
            yield THREAD
            self._enter("response", RESPONSE)
            yield from self._until_done(self.send, WRITE)
            if not self.is_kept_alive:
                yield from self._close()
                return
            self._enter("idle", self.cfg.keepalive)

    def _enter(self, state: str, seconds: float) -> None:
        self.state, self.timeout = state, time.monotonic() + seconds

    @staticmethod
    def _until_done(operation: Callable[[], T], event: int) -> Generator[int, None, T]:
        while True:
            try:
                return operation()
            except ssl.SSLWantReadError:
                yield READ
            except ssl.SSLWantWriteError:
                yield WRITE
            except BlockingIOError:
                yield event

    def _handshake(self) -> Generator[int, None, bool]:
        self._enter("handshake", HANDSHAKE)
        context = ssl_context(self.cfg)
        self.socket = connection = context.wrap_socket(self.socket, server_side=True, do_handshake_on_connect=False)
        try:
            yield from self._until_done(connection.do_handshake, READ)
        except (ssl.SSLEOFError, ssl.SSLZeroReturnError):  # closed by the client, for example by a check of the port
            return False
        except ssl.SSLError as error:
            if error.reason == "HTTP_REQUEST":
                with contextlib.suppress(OSError):
                    socket.socket.send(connection, b"HTTP/1.0 400 Bad Request\r\n\r\nThis port speaks HTTPS.\n")
            reason = getattr(error, "verify_message", "") or error.reason or "protocol error"
            self.log("TLS handshake failed", reason.lower().replace("_", " "))
            return False
        if not client_is_allowed(connection):
            self.log("TLS handshake failed", "the certificate has none of the names in client_allowed_sans")
            return False
        return True

    def log(self, msg: str, reason: str) -> None:
        client = self.client[0] if isinstance(self.client, tuple) else str(self.client)
        log.info(Event(msg, client=client, reason=reason))

    def _read_head(self) -> Generator[int, None, bool]:
        """Reads until the head of a request is complete or too large; returns False at the end of the connection."""
        searched = 0
        while (end := END.search(self._received, searched)) is None and len(self._received) <= MAX_HEAD:
            searched = max(0, len(self._received) - 3)
            data = yield from self._until_done(lambda: self.socket.recv(8192), READ)
            if not data:
                return False
            if self.state == "idle":
                self._enter("request", REQUEST)
            self._received += data
        size = end.end() if end else len(self._received)
        self.sock = Exchange(self._received[:size], is_too_large=end is None)
        self._received = self._received[size:]
        self.parser = http.get_parser(self.cfg, self.sock, self.client)
        return True

    def respond(self, is_kept_alive: bool) -> None:
        """Sends as much of the response as the socket accepts. A thread calls it after gunicorn wrote the response."""
        self.is_kept_alive = is_kept_alive
        self.unsent = memoryview(b"".join(self.sock.response))
        self.sock = self.parser = None
        with contextlib.suppress(OSError):  # the main thread sends the rest, and gets the error again
            self.send()

    def send(self) -> None:
        while self.unsent:
            self.unsent = self.unsent[self.socket.send(self.unsent) :]
        self.unsent = memoryview(b"")  # releases the response

    def _close(self) -> Generator[int, None, None]:
        """Waits until the client closes its side: a reset could discard the end of the response (RFC 9112, 9.6)."""
        self._enter("close", CLOSE)
        socket.socket.shutdown(self.socket, socket.SHUT_WR)
        ignored = 0
        while ignored < MAX_IGNORED:
            data = yield from self._until_done(lambda: socket.socket.recv(self.socket, 8192), READ)
            if not data:
                return
            ignored += len(data)
