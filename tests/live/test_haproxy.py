"""HAProxy with the shipped configuration and three exporters."""

import contextlib
import http.client
import os
import signal
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from tests.conftest import Upstream
from tests.live.installed import needs, path_of
from tests.live.processes import MODULE, ROOT, Served, free_port, recorded, run, serving, until

pytestmark = [pytest.mark.timeout(120), needs("haproxy")]

CONFIGURATION = str(ROOT / "deploy" / "haproxy" / "haproxy.cfg")
EXPORTERS = ("1", "2", "3")


@contextlib.contextmanager
def exporter(folder: Path, port: int, url: str) -> Iterator[Served]:
    with serving(folder, port, (*MODULE, "--port", str(port), "--patroni-url", f"{url}/patroni")) as served:
        yield served


@contextlib.contextmanager
def haproxy(folder: Path, port: int, exporters: dict[str, int]) -> Iterator[Served]:
    """HAProxy with the shipped configuration for exporters on these ports."""
    environ = {f"EXPORTER_{name}": f"127.0.0.1:{number}" for name, number in exporters.items()}
    environ["EXPORTER_LISTEN"] = f"127.0.0.1:{port}"
    with serving(folder, port, (path_of("haproxy"), "-db", "-f", CONFIGURATION), environ=environ) as served:
        yield served


class Load:
    """Scrapes without pause, one connection per path; `failed` has those without a whole exposition."""

    def __init__(self, port: int) -> None:
        self.done = 0
        self.failed: list[str] = []
        self._port = port
        self._stop = threading.Event()

    @contextlib.contextmanager
    def running(self, paths: list[str]) -> Iterator[None]:
        with ThreadPoolExecutor(len(paths)) as threads:
            for path in paths:
                threads.submit(self._scrape, path)
            try:
                yield
            finally:
                self._stop.set()

    def _scrape(self, path: str) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=20)
        with contextlib.closing(connection):
            while not self._stop.is_set():
                try:
                    connection.request("GET", path)
                    response = connection.getresponse()
                    text = response.read().decode()
                    if response.status != 200 or "\npatroni_up 1.0\n" not in text:
                        self.failed.append(f"{path}: {response.status} {text[:200]}")
                except (OSError, http.client.HTTPException) as error:
                    self.failed.append(f"{path}: {error!r}")
                    connection.close()
                self.done += 1

    def wait(self, scrapes: int) -> None:
        """Waits for so many more scrapes."""
        goal = self.done + scrapes
        until(lambda: self.done >= goal)


def test_killed_exporter_loses_no_scrape(tmp_path: Path, upstream: Upstream) -> None:
    def scrapes() -> Counter[str]:
        """The scrapes of each exporter: each has a path of its own in the upstream."""
        return Counter(path.split("/")[1] for path in upstream.paths if path.endswith("/patroni"))

    for path, answer in list(recorded(upstream).answers.items()):
        upstream.answers.update({f"/{name}{path}": answer for name in EXPORTERS})
    with contextlib.ExitStack() as stack:
        port, *ports = (stack.enter_context(free_port()) for _ in range(4))
        exporters = dict(zip(EXPORTERS, ports, strict=True))

        def start(name: str) -> Served:
            return stack.enter_context(exporter(tmp_path, exporters[name], f"{upstream.url}/{name}"))

        first, *_ = [start(name) for name in EXPORTERS]
        stack.enter_context(haproxy(tmp_path, port, exporters))
        paths = ["/metrics", "/metrics", *(f"/metrics?target=db{number}:8008" for number in range(6))]
        load = Load(port)
        with load.running(paths):
            until(lambda: all(scrapes()[name] >= 20 for name in EXPORTERS))

            os.killpg(first.process.pid, signal.SIGKILL)
            first.process.wait(10)
            load.wait(50)
            before = scrapes()
            load.wait(200)
            until(lambda: all(scrapes()[name] > before[name] for name in ("2", "3")))
            assert scrapes()["1"] == before["1"]

            start("1")
            until(lambda: scrapes()["1"] >= before["1"] + 20)
            load.wait(50)
    assert load.failed == []


def test_response_that_is_cut_off_is_tried_again(tmp_path: Path, upstream: Upstream) -> None:
    def break_off(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", "1000")
        handler.end_headers()
        handler.wfile.write(b"# HELP patroni_up")
        handler.close_connection = True

    recorded(upstream).answers.update({"/-/ready": (200, b""), "/metrics": break_off})
    with free_port() as port, free_port() as second, exporter(tmp_path, second, upstream.url):
        ports = {"1": upstream.server_port, "2": second, "3": upstream.server_port}
        with haproxy(tmp_path, port, ports) as served:
            answers = [served.get() for _ in range(3)]
    assert [(status, "\npatroni_up 1.0\n" in text) for status, text in answers] == [(200, True)] * 3
    assert "/metrics" in upstream.paths


def test_large_response(tmp_path: Path, upstream: Upstream) -> None:
    page = b"patroni_up 1.0\n" * 50_000
    upstream.answers.update({"/-/ready": (200, b""), "/metrics": (200, page)})
    with free_port() as port, haproxy(tmp_path, port, dict.fromkeys(EXPORTERS, upstream.server_port)) as served:
        assert served.get() == (200, page.decode())


def test_configuration_is_valid() -> None:
    environ = {f"EXPORTER_{number}": f"127.0.0.1:{9000 + int(number)}" for number in EXPORTERS}
    environ["EXPORTER_LISTEN"] = "127.0.0.1:9547"
    assert run([path_of("haproxy"), "-c", "-q", "-f", CONFIGURATION], cwd=ROOT, environ=environ) == (0, "")
