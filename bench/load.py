"""A load generator: each client sends one request after another to a URL, and checks and times the responses.

python -m bench.load http://127.0.0.1:9547/metrics --clients 8 --seconds 5    # or --count 1000; prints JSON

A response is a success if its status is 200 and its body is complete and contains the text of --contains.
"""

import argparse
import asyncio
import gzip
import json
import re
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from urllib.parse import urlsplit

#: Seconds to wait for the last responses, and the maximum duration of a run with --count.
TIMEOUT = 30.0
MAX_SECONDS = 900.0

#: Receives a response, its body, which is None if the response is incomplete, and the time of its end.
Done = Callable[[bytes, bytes | None, float], None]


def complete_body(response: bytes, closed: bool) -> bytes | None:
    """Returns the body of an HTTP response, None while it is incomplete.

    Without a length, it is complete if the connection is closed and the last byte can end a JSON or text document.
    """
    head, found, rest = response.partition(b"\r\n\r\n")
    if not found:
        return None
    if re.search(rb"(?i)\r\ntransfer-encoding: *chunked", head):
        return _unchunked(rest)
    if length := re.search(rb"(?i)\r\ncontent-length: *(\d+)", head):
        return rest if len(rest) == int(length[1]) else None
    return rest if closed and rest.endswith((b"}", b"]", b"\n")) else None


def _unchunked(rest: bytes) -> bytes | None:
    if not rest.endswith(b"0\r\n\r\n"):
        return None
    body = b""
    while True:
        size, found, rest = rest.partition(b"\r\n")
        length = int(size, 16) if found else -1
        if length < 0 or len(rest) < length + 2:
            return None
        if length == 0:
            return body if rest == b"\r\n" else None
        body += rest[:length]
        rest = rest[length + 2 :]


def failure(response: bytes, body: bytes | None, contains: bytes) -> str | None:
    """Returns why a response is not a success, or None."""
    if not re.match(rb"HTTP/1\.[01] 200 ", response):
        return response[:40].decode("latin-1").partition("\r")[0] or "empty response"
    if body is None:
        return "the response is incomplete"
    if b"\r\nContent-Encoding: gzip\r\n" in response:
        body = gzip.decompress(body)
    return None if contains in body else f"the body does not contain {contains.decode()!r}"


def get(url: str, *headers: str) -> bytes:
    """Returns a request."""
    parts = urlsplit(url)
    path = f"{parts.path}?{parts.query}" if parts.query else parts.path
    return "\r\n".join([f"GET {path} HTTP/1.1", f"Host: {parts.netloc}", *headers, "\r\n"]).encode()


class Connection(asyncio.Protocol):
    """A connection to the server of a URL for one request at a time, which is reused if the server keeps it open."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._address = parts.hostname or "", parts.port or 80
        self._transport: asyncio.WriteTransport | None = None
        self._connecting: asyncio.Task[None] | None = None
        self._request = self._received = b""
        self._is_reused = False
        self._done: Done | None = None  # of the request in flight
        self._result: tuple[bytes, bytes | None, float] | None = None

    def send(self, request: bytes, done: Done) -> None:
        """Sends a request. If no connection can be made, the response is the reason."""
        self._request, self._received, self._done = request, b"", done
        self._is_reused = self._transport is not None
        if self._transport is None:
            self._connect()
        else:
            self._transport.write(request)

    def close(self) -> None:
        """Closes the connection; a request in flight gets no response."""
        self._done = None
        if self._transport is not None:
            self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.WriteTransport)  # noqa: S101 - of a stream
        self._transport = transport
        transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        self._received += data
        body = complete_body(self._received, closed=False)
        if body is not None:
            self._finish(body)

    def connection_lost(self, _: Exception | None) -> None:
        self._transport = None
        if self._result is not None:
            self._deliver()
        elif self._done is not None and self._is_reused and not self._received:
            self._is_reused = False  # the server closed an idle connection while the request was sent
            self._connect()
        elif self._done is not None:
            self._finish(complete_body(self._received, closed=True))

    def _connect(self) -> None:
        self._connecting = asyncio.get_running_loop().create_task(self._connected())

    async def _connected(self) -> None:
        try:
            await asyncio.get_running_loop().create_connection(lambda: self, *self._address)
        except OSError as error:
            self._received = f"no connection: {error.strerror}".encode()
            self._finish(None)

    def _finish(self, body: bytes | None) -> None:
        self._result = self._received, body, time.perf_counter()
        is_last = b"\r\nConnection: close" in self._received or self._received.startswith(b"HTTP/1.0")
        if is_last and self._transport is not None:
            self._transport.close()  # and then the next request can be sent
        else:
            self._deliver()

    def _deliver(self) -> None:
        done, result = self._done, self._result
        self._done = self._result = None
        if done and result:
            done(*result)


@dataclass
class Run:
    """The state that all clients share: when to stop, and the results of the requests."""

    contains: bytes
    count: int | None
    until: float
    seconds: list[float] = field(default_factory=list)
    failures: Counter[str] = field(default_factory=Counter)
    started: int = 0

    def may_start(self) -> bool:
        """Returns whether to send another request, and counts it."""
        if time.perf_counter() >= self.until or (self.count is not None and self.started >= self.count):
            return False
        self.started += 1
        return True


class Client:
    """A client with one connection; `end` is done when the run is over."""

    def __init__(self, run: Run, url: str, end: asyncio.Future[None]) -> None:
        self._connection, self._request = Connection(url), get(url)
        self._run, self._end = run, end
        self._started = 0.0

    def start(self) -> None:
        """Sends the next request, or finishes if the run is over."""
        if self._run.may_start():
            self._started = time.perf_counter()
            self._connection.send(self._request, self._finish)
        else:
            self._connection.close()
            self._end.set_result(None)

    def _finish(self, response: bytes, body: bytes | None, ended: float) -> None:
        reason = failure(response, body, self._run.contains)
        if reason is None:
            self._run.seconds.append(ended - self._started)
        else:
            self._run.failures[reason] += 1
        self.start()


async def load(run: Run, url: str, clients: int) -> None:
    """Runs the clients until the run is over or the timeout expires."""
    ends = [asyncio.get_running_loop().create_future() for _ in range(clients)]
    for end in ends:
        Client(run, url, end).start()
    _, pending = await asyncio.wait(ends, timeout=max(0.0, run.until - time.perf_counter()) + TIMEOUT)
    if pending:
        run.failures["no response before the timeout"] += len(pending)


def figures(run: Run, elapsed: float) -> dict[str, object]:
    """Returns the results: rate in responses per second, p50 and p99 in seconds."""
    ordered = sorted(run.seconds) or [0.0]
    return {
        "responses": len(run.seconds),
        "reasons": dict(run.failures),
        "rate": len(run.seconds) / elapsed,
        "p50": ordered[len(ordered) // 2],
        "p99": ordered[len(ordered) * 99 // 100],
    }


def main() -> None:
    """Runs the load generator and prints one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("url")
    parser.add_argument("--clients", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=MAX_SECONDS)
    parser.add_argument("--count", type=int, help="stop after this number of requests")
    parser.add_argument("--contains", default="", help="text that the body of each response must contain")
    arguments = parser.parse_args()
    start = time.perf_counter()
    run = Run(arguments.contains.encode(), arguments.count, start + arguments.seconds)
    asyncio.run(load(run, arguments.url, arguments.clients))
    sys.stdout.write(json.dumps(figures(run, time.perf_counter() - start)) + "\n")


if __name__ == "__main__":
    main()
