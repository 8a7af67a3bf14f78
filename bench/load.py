"""A load generator: clients that ask one URL one request after another, and count, check and time every answer.

python -m bench.load http://127.0.0.1:9547/metrics --clients 8 --seconds 5    # or --count 1000; prints JSON

An answer counts when its status is 200, its body is whole and holds the text of --holds; all else is a failure.
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

#: Seconds after its time in which a run still waits for answers under way, and a run with a count in all.
PATIENCE = 30.0
AT_MOST = 900.0


def whole_body(answer: bytes, ended: bool) -> bytes | None:
    """Returns the body of an HTTP answer, None while a part of it is missing.

    One without any length is whole when the connection has `ended` and its last byte ends a JSON or text document.
    """
    head, found, rest = answer.partition(b"\r\n\r\n")
    if not found:
        return None
    if re.search(rb"(?i)\r\ntransfer-encoding: *chunked", head):
        return _unchunked(rest)
    if length := re.search(rb"(?i)\r\ncontent-length: *(\d+)", head):
        return rest if len(rest) == int(length[1]) else None
    return rest if ended and rest.endswith((b"}", b"]", b"\n")) else None


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
    """What all clients of a run share: when to stop, and what became of the requests."""

    url: str
    holds: bytes
    count: int | None
    until: float
    seconds: list[float] = field(default_factory=list)
    failures: Counter[str] = field(default_factory=Counter)
    started: int = 0

    def may_start(self) -> bool:
        """Tells whether one more request is to be sent, and counts it."""
        if time.perf_counter() >= self.until or (self.count is not None and self.started >= self.count):
            return False
        self.started += 1
        return True

    def check(self, answer: bytes, body: bytes | None) -> str | None:
        """Returns why this answer is a failure, or None."""
        if body is None:
            return "the answer is not whole"
        if not re.match(rb"HTTP/1\.[01] 200 ", answer):
            return answer[:40].decode("latin-1").partition("\r")[0]
        return None if self.holds in body else f"the body does not hold {self.holds.decode()!r}"


class Client(asyncio.Protocol):
    """One connection, which is kept as long as the server keeps it; `over` is called when the run is."""

    def __init__(self, run: Run, over: Callable[[], None], reconnect: Callable[["Client"], None]):
        url = urlsplit(run.url)
        self._request = f"GET {url.path}?{url.query} HTTP/1.1\r\nHost: {url.netloc}\r\n\r\n".replace("? ", " ").encode()
        self._run, self._over, self._reconnect = run, over, reconnect
        self._transport: asyncio.WriteTransport | None = None
        self._received = b""
        self._fresh = False  # nothing was answered on this connection yet
        self._closing = False  # the next request waits for this connection's end
        self._begun: float | None = None

    def start(self) -> None:
        """Sends the next request, or ends when the run is over."""
        if not self._run.may_start():
            if self._transport is not None:
                self._transport.close()
            self._over()
            return
        self._begun = time.perf_counter()
        if self._transport is None:
            self._reconnect(self)
        else:
            self._transport.write(self._request)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.WriteTransport)  # noqa: S101 - what a protocol of a stream gets
        self._transport, self._fresh, self._received = transport, True, b""
        transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        self._received += data
        body = whole_body(self._received, ended=False)
        if body is not None:
            self._answered(body)

    def connection_lost(self, _: Exception | None) -> None:
        self._transport = None
        if self._closing:
            self._closing = False
            self.start()
        elif self._begun is None:
            return  # the run is over
        elif not self._received and not self._fresh:
            self._reconnect(self)  # the server closed a kept connection while the request was under way
        else:
            self._answered(whole_body(self._received, ended=True))

    def failed(self, reason: str) -> None:
        """Counts a failure and ends this client, as the next request would fare alike."""
        self._run.failures[reason] += 1
        self._begun = None
        self._over()

    def _answered(self, body: bytes | None) -> None:
        assert self._begun is not None  # noqa: S101
        took, self._begun = time.perf_counter() - self._begun, None
        reason = self._run.check(self._received, body)
        if reason is None:
            self._run.seconds.append(took)
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
    """Lets so many clients ask until the run is over or they were waited for long enough."""
    loop = asyncio.get_running_loop()
    url = urlsplit(run.url)
    left = clients
    over = loop.create_future()
    connecting: set[asyncio.Task[None]] = set()

    def one_is_over() -> None:
        nonlocal left
        left -= 1
        if left == 0 and not over.done():
            over.set_result(None)

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
        Client(run, one_is_over, reconnect).start()
    try:
        await asyncio.wait_for(over, max(0.0, run.until - time.perf_counter()) + PATIENCE)
    except TimeoutError:
        run.failures["no answer in the end"] += left


def outcome(run: Run, elapsed: float) -> dict[str, object]:
    """Returns the run as figures: rate in answers per second, p50 and p99 in seconds."""
    ordered = sorted(run.seconds) or [0.0]
    return {
        "answers": len(run.seconds),
        "failures": run.failures.total(),
        "reasons": dict(run.failures),
        "rate": len(run.seconds) / elapsed,
        "p50": ordered[len(ordered) // 2],
        "p99": ordered[len(ordered) * 99 // 100],
    }


def main() -> None:
    """Runs the load that the command line asks for and prints one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("url")
    parser.add_argument("--clients", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=AT_MOST)
    parser.add_argument("--count", type=int, help="end after so many requests, whatever the seconds are")
    parser.add_argument("--holds", default="", help="a text that the body of each answer must hold")
    given = parser.parse_args()
    start = time.perf_counter()
    run = Run(given.url, given.holds.encode(), given.count, start + given.seconds)
    asyncio.run(load(run, given.clients))
    sys.stdout.write(json.dumps(outcome(run, time.perf_counter() - start)) + "\n")


if __name__ == "__main__":
    main()
