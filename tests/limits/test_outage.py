"""An outage of thousands of targets: the CPU of a probe and the lines of the log do not grow with their number."""

import http.client
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, closing
from functools import partial
from pathlib import Path
from typing import Any

from exporter.log import TARGETS_WRITTEN
from tests.conftest import Upstream
from tests.limits.servers import Odd, silent
from tests.live.processes import Served, cpu_seconds, free_port, recorded, running_exporter, until

MODULES = "modules: {fleet: {collector: patroni, timeout: 60s, targets: [127.0.0.0/8]}}\n"


def exporter(folder: Path, code: str = "") -> AbstractContextManager[Served]:
    """An exporter that starts after this code."""
    file = folder / "modules.yml"
    file.write_text(MODULES)
    return running_exporter(folder, "--config.file", str(file), before=code)


def probe(served: Served, targets: list[str]) -> None:
    """Probes these targets, which are down, one after the other over one connection."""
    with closing(http.client.HTTPConnection("127.0.0.1", served.port, timeout=10)) as connection:
        for target in targets:
            connection.request("GET", f"/probe?module=fleet&target={target}&name[]=patroni_up")
            response = connection.getresponse()
            assert (response.status, response.read().splitlines()[-1]) == (200, b"patroni_up 0.0")


def dead(count: int, port: int) -> list[str]:
    """Targets that refuse the connection."""
    return [f"127.1.{number // 250}.{number % 250 + 1}:{port}" for number in range(count)]


def failed(served: Served) -> list[dict[str, str]]:
    """The lines of the log about scrapes that failed."""
    events = [event for event in served.events("exporter.scrape") if event["msg"].startswith("scrape failed")]
    return [{key: value for key, value in event.items() if key not in ("time", "level", "logger")} for event in events]


def test_last_of_many_targets_cost_as_much_as_the_first(tmp_path: Path) -> None:
    with free_port("0.0.0.0") as port, exporter(tmp_path) as served:
        (worker,) = served.workers()
        targets = dead(3000, port)
        probe(served, targets[:100])
        start = time.monotonic()
        cpu = []
        for begin in range(0, 3000, 1000):
            before = cpu_seconds(worker)
            probe(served, targets[begin : begin + 1000])
            cpu.append(cpu_seconds(worker) - before)
        minutes = 1 + int((time.monotonic() - start) // 60)
        assert cpu[-1] < 1.5 * cpu[0], cpu
        lines = failed(served)
    assert len(lines) <= minutes * (TARGETS_WRITTEN + 1)
    assert [line["url"] for line in lines[:TARGETS_WRITTEN]] == [f"http://{target}" for target in targets[:20]]


def test_one_line_for_each_target_and_one_for_those_beyond_the_limit(tmp_path: Path) -> None:
    with free_port("0.0.0.0") as port, exporter(tmp_path, "import exporter.log as log; log.PERIOD = 3") as served:
        targets = dead(50, port)
        probe(served, targets)
        time.sleep(3.1)
        probe(served, targets[:1])
        until(lambda: len(failed(served)) == TARGETS_WRITTEN + 2)
        lines = failed(served)
    reason = "no connection: connection refused"
    line = {"msg": "scrape failed", "module": "fleet", "url": f"http://{targets[0]}", "reason": reason}
    assert lines[0] == line
    assert lines[TARGETS_WRITTEN:] == [
        {"msg": "scrape failed for many targets", "module": "fleet", "targets": "50", "held_back": "30"},
        line,
    ]


def up(served: Served, target: str, **headers: Any) -> str:
    """Returns the sample patroni_up of a target, or the error of its probe; tries again while the CPU is overloaded."""
    path = f"/probe?module=fleet&collect[]=node&target={target}&name[]=patroni_up"
    while True:
        line = served.request(path, seconds=60, **headers).body.decode().splitlines()[-1]
        if not line.startswith("the CPU is overloaded"):
            return line
        time.sleep(1)


def test_target_that_is_up_while_hundreds_hang(tmp_path: Path, upstream: Upstream) -> None:
    with (
        socket.create_server(("0.0.0.0", 0), backlog=1024) as hanging,  # accepts no connection
        exporter(tmp_path) as served,
        ThreadPoolExecutor(400) as prometheus,
    ):
        scrapes = [prometheus.submit(up, served, target) for target in dead(400, hanging.getsockname()[1])]
        assert up(served, recorded(upstream).url) == "patroni_up 1.0"
        assert not any(each.done() for each in scrapes)
        hanging.close()
        assert {each.result() for each in scrapes} == {"patroni_up 0.0"}


def test_host_that_starts_no_more_threads(tmp_path: Path, upstream: Upstream) -> None:
    """Probes wait for a thread or are refused, and some threads are left for /-/healthy and for the next scrape."""
    limit = "resource.setrlimit(resource.RLIMIT_AS, (8 << 30, 8 << 30)); threading.stack_size(1 << 30)"
    with (
        Odd(silent) as one,
        Odd(silent) as two,
        exporter(tmp_path, f"import resource, threading; {limit}") as served,
        ThreadPoolExecutor(20) as prometheus,
    ):
        scrape = partial(up, served, X_Prometheus_Scrape_Timeout_Seconds="3")
        workers = served.workers()
        assert "patroni_up 0.0" in list(prometheus.map(scrape, [one.url] * 10))
        scrapes = prometheus.map(scrape, [two.url] * 20)
        until(lambda: served.get("/-/healthy", seconds=1) == (200, "OK\n"))
        (refusal,) = set(scrapes) - {"patroni_up 0.0"}
        assert refusal.endswith(" probes are being served, and the host starts no more threads: try again later")
        until(lambda: up(served, recorded(upstream).url) == "patroni_up 1.0")
        assert served.workers() == workers
        assert [event["msg"] for event in served.events("exporter.web")] == ["no thread started"]
