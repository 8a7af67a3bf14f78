"""Fixtures for all tests: an upstream that is a real HTTP server."""

import contextlib
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

import pytest

from exporter.collectors.document import Answer
from exporter.upstream.client import Flight, wait


class Upstream(ThreadingHTTPServer):
    """A server on a free port that answers as told while one is in it, and remembers what it was asked."""

    daemon_threads = True
    request_queue_size = 128  # of many who come at once nobody has to come again a second later

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.answers: dict[str, tuple[int, bytes] | Callable[[BaseHTTPRequestHandler], None]] = {}
        self.requests: list[tuple[str, dict[str, str]]] = []

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self._thread.join()
        self.server_close()

    def serve(self, answers: Mapping[str, Answer]) -> None:
        """Gives these answers from now on."""
        self.answers.update({path: (answer.status, answer.body) for path, answer in answers.items()})

    def hold(self, *paths: str) -> threading.Event:
        """Lets these paths give their answers only when the event is set that is returned."""
        release = threading.Event()
        for path in paths:
            self.answers[path] = partial(_late, release, self.answers[path])
        return release

    @property
    def paths(self) -> list[str]:
        """What was asked, in order."""
        return [path for path, _ in self.requests]


def _late(release: threading.Event, answer: Any, handler: BaseHTTPRequestHandler) -> None:
    status, body = answer
    release.wait(30)
    with contextlib.suppress(OSError):  # whoever asked has gone
        handler.send_response(status)
        handler.end_headers()
        handler.wfile.write(body)


class _Handler(BaseHTTPRequestHandler):
    server: Upstream

    def do_GET(self) -> None:
        self.server.requests.append((self.path, dict(self.headers.items())))
        answer = self.server.answers.get(self.path, (404, b"<html>no such page</html>"))
        if callable(answer):
            answer(self)
            return
        status, body = answer
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    """A fresh upstream that answers 404 to everything until told otherwise."""
    with Upstream() as server:
        yield server


#: How many recorded moments were compared with Patroni's own /metrics, by version; said at the end of the run.
COMPARED: Counter[str] = Counter()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if COMPARED:
        terminalreporter.section("recorded moments compared with Patroni's own /metrics")
        for version, count in COMPARED.items():
            terminalreporter.line(f"Patroni {version}: {count}")
        terminalreporter.line(f"all versions: {COMPARED.total()}")


def failed(flight: Flight) -> BaseException | None:
    """Waits until the flight has ended, and returns why it has no model."""
    wait([flight], 10)
    assert flight.ended is not None, "still under way"
    return flight.error


def landed(flight: Flight) -> Any:
    """Waits until the flight has ended, and returns its model, or raises why there is none."""
    if error := failed(flight):
        raise error
    return flight.model
