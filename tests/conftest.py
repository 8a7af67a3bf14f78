"""Fixtures for all tests: an upstream that is a real HTTP server."""

import contextlib
import gc
import importlib
import os
import pkgutil
import sys
import threading
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Mapping
from concurrent.futures import Future
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

import pytest

import exporter
from exporter.collectors.document import Answer
from exporter.upstream.client import Client, Read, Response, Result
from exporter.upstream.target import RequestOptions, Target
from exporter.upstream.transfer import SIZE_LIMIT


class Upstream(ThreadingHTTPServer):
    """A server on a free port with the responses in `answers`; it keeps the requests."""

    daemon_threads = True
    request_queue_size = 128  # many clients at once do not have to connect again

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
        """Sends these responses from now on."""
        self.answers.update({path: (answer.status, answer.body) for path, answer in answers.items()})

    def hold(self, *paths: str) -> threading.Event:
        """Holds the responses of these paths back until the returned event is set."""
        release = threading.Event()
        for path in paths:
            self.answers[path] = partial(_late, release, self.answers[path])
        return release

    @property
    def paths(self) -> list[str]:
        """The paths of the requests, in order."""
        return [path for path, _ in self.requests]


def _late(release: threading.Event, answer: Any, handler: BaseHTTPRequestHandler) -> None:
    status, body = answer
    release.wait(30)
    with contextlib.suppress(OSError):  # the client has gone
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
    """An upstream that returns 404 for every path without a response."""
    with Upstream() as server:
        yield server


@pytest.fixture
def port() -> Iterator[int]:
    """A free port."""
    from tests.live.processes import free_port

    with free_port() as number:
        yield number


#: The number of recorded moments that were compared with Patroni's own /metrics, by version; printed at the end.
COMPARED: Counter[str] = Counter()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if COMPARED:
        terminalreporter.section("recorded moments compared with Patroni's own /metrics")
        for version, count in sorted(COMPARED.items()):
            terminalreporter.line(f"Patroni {version}: {count}")
        terminalreporter.line(f"all versions: {COMPARED.total()}")


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Sends COMPARED from a process of pytest-xdist."""
    getattr(session.config, "workeroutput", {})["compared"] = dict(COMPARED)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Receives COMPARED in the process that prints the summary."""
    COMPARED.update(getattr(node, "workeroutput", {}).get("compared", {}))


#: The tests that take longest start first, so that no process is busy alone at the end.
LONGEST = ("test_fleet_discovery", "test_patroni_versions", "test_outage", "test_truth", "test_demo", "test_site")

#: The folders whose tests wait for servers. The short tests of the other folders run at the end.
WITH_SERVERS = ("deploy", "hosts", "limits", "live", "monitoring")


@pytest.hookimpl(tryfirst=True)  # pytest-xdist reads the groups in the same hook
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Runs tests that share a module's fixture in one process of pytest-xdist, and the longest tests first."""
    for item in items:
        fixtures = item._fixtureinfo.name2fixturedefs.values()  # type: ignore[attr-defined]
        if shared := {found[-1].argname for found in fixtures if found[-1].scope == "module"}:
            call = getattr(item, "callspec", None)
            of_parameter = f" {call.id}" if call and shared & call.params.keys() else ""
            item.add_marker(pytest.mark.xdist_group(item.path.stem + of_parameter))
    items.sort(key=lambda item: (item.path.stem not in LONGEST, item.path.parent.name not in WITH_SERVERS))


#: The folders whose tests run without coverage, which doubles the CPU time of Python 3.11, and the files in them that
#: run with it. Other tests cover the same code as those without.
UNMEASURED = ("deploy", "hosts", "live", "monitoring")
MEASURED = ("test_gunicorn", "test_workers")


@contextlib.contextmanager
def unmeasured() -> Iterator[None]:
    """Stops coverage, here and in processes that start now. Coverage.start() would add another hook at each fork."""
    here, in_threads = sys.gettrace(), threading.gettrace()
    config = os.environ.pop("COVERAGE_PROCESS_CONFIG", None)
    sys.settrace(None)
    threading.settrace(None)
    try:
        yield
    finally:
        sys.settrace(here)
        threading.settrace(in_threads)
        if config:
            os.environ["COVERAGE_PROCESS_CONFIG"] = config


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Measures the import of the exporter and not that of the tests, whose objects are not garbage until the end."""
    gc.disable()
    for module in pkgutil.walk_packages(exporter.__path__, "exporter."):
        importlib.import_module(module.name)
    with unmeasured():
        collected = yield
    gc.freeze()
    gc.enable()
    return collected


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    is_measured = item.path.parent.name not in UNMEASURED or item.path.stem in MEASURED
    with contextlib.nullcontext() if is_measured else unmeasured():
        return (yield)


def at(url: str, timeout: float = 5, **options: Any) -> Target:
    """Returns a target with these options."""
    return Target(url, RequestOptions(timeout, **options))


def whole(response: Response) -> tuple[int, bytes]:
    """Reads the status and the body of a response."""
    return response.status_code, response.content


def begin(client: Client, target: Target, path: str, read: Read = whole) -> Future[Result]:
    """Sends one request."""
    (future,) = client.begin(target, [(path, SIZE_LIMIT, read)])
    return future


def error_of(future: Future[Result]) -> BaseException | None:
    """Waits for the end of a request and returns its error."""
    return future.result(10).error


def value_of(future: Future[Result]) -> Any:
    """Waits for the end of a request and returns its value; raises its error."""
    result = future.result(10)
    if result.error:
        raise result.error
    return result.value


def logged(caplog: pytest.LogCaptureFixture) -> list[dict[str, object]]:
    """Returns the events that were logged."""
    events: list[Any] = [record.msg for record in caplog.records]
    return [{"msg": event.msg, **event.fields} for event in events]
