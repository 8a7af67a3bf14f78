"""A load generator: each client sends one request after another to a URL, and checks and times the responses.

python -m bench.load http://127.0.0.1:9547/metrics --clients 8 --seconds 5    # or --count 1000; prints JSON

A response is a success if its status is 200 and its body is complete and contains the text of --contains.
"""

import argparse
import asyncio
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


@dataclass
class Run:
    """The state that all clients share: when to stop, and the results of the requests."""

    url: str
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

    def check(self, response: bytes, body: bytes | None) -> str | None:
        """Returns why the response is a failure, or None."""
        if body is None:
            return "the response is incomplete"
        if not re.match(rb"HTTP/1\.[01] 200 ", response):
            return response[:40].decode("latin-1").partition("\r")[0]
        return None if self.contains in body else f"the body does not contain {self.contains.decode()!r}"


class Client(asyncio.Protocol):
    """A client with one connection, which is reused if the server keeps it open; calls `done` at the end of the run."""

    def __init__(self, run: Run, done: Callable[[], None], reconnect: Callable[["Client"], None]):
        url = urlsplit(run.url)
        self._request = f"GET {url.path}?{url.query} HTTP/1.1\r\nHost: {url.netloc}\r\n\r\n".replace("? ", " ").encode()
        self._run, self._done, self._reconnect = run, done, reconnect
        self._transport: asyncio.WriteTransport | None = None
        self._received = b""
        self._fresh = False  # no response on this connection yet
        self._closing = False  # send the next request when the connection is closed
        self._started: float | None = None

    def start(self) -> None:
        """Sends the next request, or finishes if the run is over."""
        if not self._run.may_start():
            if self._transport is not None:
                self._transport.close()
            self._done()
            return
        self._started = time.perf_counter()
        if self._transport is None:
            self._reconnect(self)
        else:
            self._transport.write(self._request)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.WriteTransport)  # noqa: S101 - of a stream
        self._transport, self._fresh, self._received = transport, True, b""
        transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        self._received += data
        body = complete_body(self._received, closed=False)
        if body is not None:
            self._finish(body)

    def connection_lost(self, _: Exception | None) -> None:
        self._transport = None
        if self._closing:
            self._closing = False
            self.start()
        elif self._started is None:
            return  # the run is over
        elif not self._received and not self._fresh:
            self._reconnect(self)  # the server closed an idle connection while the request was sent
        else:
            self._finish(complete_body(self._received, closed=True))

    def failed(self, reason: str) -> None:
        """Counts a failure and stops this client, because its next request would fail too."""
        self._run.failures[reason] += 1
        self._started = None
        self._done()

    def _finish(self, body: bytes | None) -> None:
        assert self._started is not None  # noqa: S101
        elapsed, self._started = time.perf_counter() - self._started, None
        reason = self._run.check(self._received, body)
        if reason is None:
            self._run.seconds.append(elapsed)
        else:
            self._run.failures[reason] += 1
        self._closing = self._transport is not None and (
            b"\r\nConnection: close" in self._received or self._received.startswith(b"HTTP/1.0")
        )
        self._received, self._fresh = b"", False
        if self._closing and self._transport is not None:
            self._transport.close()
        else:
            self.start()


async def load(run: Run, clients: int) -> None:
    """Runs the clients until the run is over or the timeout expires."""
    loop = asyncio.get_running_loop()
    url = urlsplit(run.url)
    left = clients
    done = loop.create_future()
    connecting: set[asyncio.Task[None]] = set()

    def client_done() -> None:
        nonlocal left
        left -= 1
        if left == 0 and not done.done():
            done.set_result(None)

    async def connect(client: Client) -> None:
        try:
            await loop.create_connection(lambda: client, url.hostname or "", url.port or 80)
        except OSError as error:
            client.failed(f"no connection: {error.strerror}")

    def reconnect(client: Client) -> None:
        task = loop.create_task(connect(client))
        connecting.add(task)
        task.add_done_callback(connecting.discard)

    for _ in range(clients):
        Client(run, client_done, reconnect).start()
    try:
        await asyncio.wait_for(done, max(0.0, run.until - time.perf_counter()) + TIMEOUT)
    except TimeoutError:
        run.failures["no response before the timeout"] += left


def figures(run: Run, elapsed: float) -> dict[str, object]:
    """Returns the results: rate in responses per second, p50 and p99 in seconds."""
    ordered = sorted(run.seconds) or [0.0]
    return {
        "responses": len(run.seconds),
        "failures": run.failures.total(),
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
    run = Run(arguments.url, arguments.contains.encode(), arguments.count, start + arguments.seconds)
    asyncio.run(load(run, arguments.clients))
    sys.stdout.write(json.dumps(figures(run, time.perf_counter() - start)) + "\n")


if __name__ == "__main__":
    main()
