"""Three real exporters behind a real HAProxy as it is shipped; one of them is killed under load."""

import contextlib
import http.client
import os
import signal
import subprocess
import threading
from collections import Counter
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from tests.conftest import Upstream
from tests.live.installed import needs, path_of
from tests.live.processes import MODULE, ROOT, Served, free_port, recorded, serving, until

pytestmark = [pytest.mark.timeout(120), needs("haproxy")]

CONFIGURATION = str(ROOT / "deploy" / "haproxy" / "haproxy.cfg")
EXPORTERS = ("1", "2", "3")


class Fleet:
    """Three exporters, and which of them asked Patroni how often: each asks below a path of its own."""

    def __init__(self, folder: Path, upstream: Upstream, ports: list[int]):
        self._folder = folder
        self._upstream = upstream
        self.ports = dict(zip(EXPORTERS, ports, strict=True))
        # With the five that Python lets wait, three exporters have to try again after a second.
        upstream.socket.listen(128)
        for path, answer in list(recorded(upstream).answers.items()):
            upstream.answers.update({f"/{exporter}{path}": answer for exporter in EXPORTERS})

    def start(self, exporter: str) -> contextlib.AbstractContextManager[Served]:
        url = f"{self._upstream.url}/{exporter}/patroni"
        return serving(
            self._folder, self.ports[exporter], (*MODULE, "--port", str(self.ports[exporter]), "--patroni-url", url)
        )

    def scrapes(self) -> Counter[str]:
        """How many scrapes each exporter has read."""
        return Counter(path.split("/")[1] for path in self._upstream.paths if path.endswith("/patroni"))


@contextlib.contextmanager
def haproxy(folder: Path, port: int, exporters: dict[str, int]) -> Iterator[Served]:
    """HAProxy as shipped before these exporters."""
    environ = {f"EXPORTER_{name}": f"127.0.0.1:{number}" for name, number in exporters.items()}
    environ["EXPORTER_LISTEN"] = f"127.0.0.1:{port}"
    with serving(folder, port, (path_of("haproxy"), "-db", "-f", CONFIGURATION), environ=environ) as served:
        yield served


class Load:
    """Scrapes without pause over several connections; `lost` tells of each that did not give the whole exposition."""

    def __init__(self, port: int, paths: list[str]):
        self.done = 0
        self.lost: list[str] = []
        self._port = port
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._scrape, args=(path,)) for path in paths]

    def __enter__(self) -> "Load":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()

    def _scrape(self, path: str) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=20)
        while not self._over.is_set():
            try:
                connection.request("GET", path)
                answer = connection.getresponse()
                text = answer.read().decode()
                if answer.status != 200 or "\npatroni_up 1.0\n" not in text:
                    self.lost.append(f"{path}: {answer.status} {text[:200]}")
            except (OSError, http.client.HTTPException) as error:
                self.lost.append(f"{path}: {error!r}")
                connection.close()
            self.done += 1
        connection.close()

    def more(self, scrapes: int) -> None:
        """Waits until so many more are done."""
        goal = self.done + scrapes
        until(lambda: self.done >= goal)


def test_no_scrape_is_lost_when_an_exporter_is_killed_and_it_gets_scrapes_again_when_it_is_back(
    tmp_path: Path, upstream: Upstream
) -> None:
    with contextlib.ExitStack() as stack:
        port, *ports = (stack.enter_context(free_port()) for _ in range(4))
        fleet = Fleet(tmp_path, upstream, ports)
        first, *_ = [stack.enter_context(fleet.start(exporter)) for exporter in EXPORTERS]
        stack.enter_context(haproxy(tmp_path, port, fleet.ports))
        paths = ["/metrics", "/metrics", *(f"/metrics?target=db{number}:8008" for number in range(6))]
        with Load(port, paths) as load:
            until(lambda: all(fleet.scrapes()[exporter] >= 20 for exporter in EXPORTERS))

            os.killpg(first.process.pid, signal.SIGKILL)
            first.process.wait(10)
            load.more(50)
            dead = fleet.scrapes()
            load.more(200)
            until(lambda: all(fleet.scrapes()[exporter] > dead[exporter] for exporter in ("2", "3")))
            assert fleet.scrapes()["1"] == dead["1"]

            stack.enter_context(fleet.start("1"))
            until(lambda: fleet.scrapes()["1"] >= dead["1"] + 20)
            load.more(50)
    assert load.lost == []


def test_an_answer_that_breaks_off_is_asked_of_another_exporter(tmp_path: Path, upstream: Upstream) -> None:
    def break_off(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", "1000")
        handler.end_headers()
        handler.wfile.write(b"# HELP patroni_up")
        handler.close_connection = True

    recorded(upstream).answers.update({"/-/ready": (200, b""), "/metrics": break_off})
    with contextlib.ExitStack() as stack:
        port, exporter = (stack.enter_context(free_port()) for _ in range(2))
        command = (*MODULE, "--port", str(exporter), "--patroni-url", upstream.url + "/patroni")
        stack.enter_context(serving(tmp_path, exporter, command))
        exporters = {"1": upstream.server_port, "2": exporter, "3": upstream.server_port}
        served = stack.enter_context(haproxy(tmp_path, port, exporters))
        answers = [served.get() for _ in range(3)]
    assert [(status, "\npatroni_up 1.0\n" in text) for status, text in answers] == [(200, True)] * 3
    assert "/metrics" in upstream.paths


def test_an_answer_larger_than_the_buffer_is_passed_on(tmp_path: Path, upstream: Upstream) -> None:
    page = b"patroni_up 1.0\n" * 50_000
    upstream.answers.update({"/-/ready": (200, b""), "/metrics": (200, page)})
    with free_port() as port, haproxy(tmp_path, port, dict.fromkeys(EXPORTERS, upstream.server_port)) as served:
        assert served.get() == (200, page.decode())


def test_haproxy_has_nothing_to_say_about_its_configuration() -> None:
    environ = {f"EXPORTER_{number}": f"127.0.0.1:{9000 + int(number)}" for number in EXPORTERS}
    environ["EXPORTER_LISTEN"] = "127.0.0.1:9547"
    command = [path_of("haproxy"), "-c", "-q", "-f", CONFIGURATION]
    checked = subprocess.run(command, env=environ, capture_output=True, text=True, check=False)
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, "", "")
