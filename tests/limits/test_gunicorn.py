"""The same walls around a real gunicorn: what its processes hold, what it says, and who is served meanwhile."""

import http.client
import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.conftest import Upstream
from tests.limits.scrapes import PATRONI, STAYTUS, descriptors, read_samples
from tests.limits.servers import Odd, saying, silent, whole
from tests.live.processes import MODULE, free_port, serving, until

KEYS = {"STAYTUS_API_TOKEN": "t0ken", "STAYTUS_API_SECRET": "s3cret"}

#: `python -m exporter` with a shorter minute, for what is given up and for what is logged.
QUICK = (
    MODULE[0],
    "-c",
    "import exporter.upstream.client, exporter.log, exporter.__main__ as command, sys;"
    "exporter.upstream.client.ABANDON_AFTER = exporter.log.PERIOD = 3.0;"
    "sys.exit(command.main())",
)


@pytest.fixture
def port() -> Iterator[int]:
    with free_port() as number:
        yield number


def environ(port: int, patroni: str, staytus: str, **settings: str) -> dict[str, str]:
    return {
        "PATRONI_EXPORTER_PORT": str(port),
        "PATRONI_EXPORTER_URL": patroni,
        "STAYTUS_API_URL": staytus,
        **KEYS,
        **settings,
    }


def threads(process: int) -> int:
    return len(list(Path(f"/proc/{process}/task").iterdir()))


def resident(process: int) -> int:
    """Bytes of memory that the process has to itself."""
    pages = Path(f"/proc/{process}/statm").read_text().split()
    return (int(pages[1]) - int(pages[2])) * 4096


def scrape(port: int, allowed: float = 30) -> tuple[dict[str, dict[tuple[str, ...], float]], float]:
    """The samples of one scrape, and the seconds that it took."""
    start = time.monotonic()
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.request("GET", "/metrics", headers={"X-Prometheus-Scrape-Timeout-Seconds": str(allowed)})
        answer = connection.getresponse()
        assert answer.status == 200
        return read_samples(answer.read().decode()), time.monotonic() - start
    finally:
        connection.close()


def test_forty_scrapes_hang_and_process_and_other_module_answer(upstream: Upstream, tmp_path: Path, port: int) -> None:
    upstream.serve(STAYTUS)
    settings = environ(port, "http://127.0.0.1:1", upstream.url, PATRONI_EXPORTER_TIMEOUT="3", EXPORTER_THREADS="64")
    with Odd(silent) as hung, ThreadPoolExecutor(40) as prometheus:
        settings["PATRONI_EXPORTER_URL"] = hung.url
        with serving(tmp_path, port, environ=settings) as exporter:
            (process,) = exporter.workers()
            start = time.monotonic()
            scrapes = [prometheus.submit(scrape, port) for _ in range(40)]
            until(lambda: hung.connections == 5 and threads(process) > 40)
            asked = time.monotonic()
            assert [exporter.get(path) for path in ("/-/healthy", "/-/ready")] == [(200, "OK\n")] * 2
            told, _ = scrape(port, 1.0)
            assert time.monotonic() - asked < 2
            assert (told["patroni_up"], told["staytus_up"]) == ({(): 0.0}, {(): 1.0})
            assert not any(scrape.done() for scrape in scrapes)
            for running in scrapes:
                told, _ = running.result()
                assert (told["patroni_up"], told["staytus_up"]) == ({(): 0.0}, {(): 1.0})
            assert 3 <= time.monotonic() - start < 6
            assert hung.connections == 5


def test_thousand_scrapes_of_hung_upstreams_hold_no_more_than_one(
    upstream: Upstream, tmp_path: Path, port: int
) -> None:
    upstream.serve({**PATRONI, **STAYTUS})
    with Odd(silent) as hung, ThreadPoolExecutor(4) as prometheus:
        settings = environ(port, hung.url, hung.url, EXPORTER_THREADS="4")
        with serving(tmp_path, port, environ=settings) as exporter:
            (process,) = exporter.workers()

            def held() -> tuple[int, int]:
                return threads(process), descriptors(process)

            list(prometheus.map(lambda _: scrape(port, 0.01), range(100)))
            until(lambda: hung.open == 7)
            before, memory = held(), resident(process)
            list(prometheus.map(lambda _: scrape(port, 0.01), range(1000)))
            until(lambda: held()[0] <= before[0] and held()[1] <= before[1])
            assert hung.connections == 7
            assert resident(process) - memory < 2 * 1024 * 1024


def test_what_hangs_is_given_up_after_its_minute_and_an_upstream_that_is_back_is_read_again(
    upstream: Upstream, tmp_path: Path, port: int
) -> None:
    upstream.serve({**PATRONI, **STAYTUS})

    def behave(connection: object) -> None:
        (silent if hangs else saying(whole(b"{}")))(connection)  # type: ignore[arg-type]

    hangs = True
    with Odd(behave) as server:
        settings = environ(port, server.url, upstream.url, PATRONI_EXPORTER_TIMEOUT="0.2")
        with serving(tmp_path, port, QUICK, environ=settings):
            scrape(port)
            until(lambda: server.open == 5)
            hangs = False
            told, _ = scrape(port)
            assert told["patroni_scrape_collector_success"][("cluster",)] == 0.0
            until(lambda: server.open == 0)
            assert server.connections == 5
            told, _ = scrape(port)
            assert told["patroni_scrape_collector_success"][("cluster",)] == 1.0


def test_reason_is_logged_once_in_its_minute_and_then_with_a_count_and_never_a_traceback(
    upstream: Upstream, tmp_path: Path, port: int
) -> None:
    upstream.serve(STAYTUS)
    with Odd(saying(b"HTTP/1.1 200 OK\r\nSet-Cookie: \xff=;;\r\n\r\n<html>")) as server:
        settings = environ(port, server.url, upstream.url, PATRONI_EXPORTER_COLLECT="node,cluster")
        with serving(tmp_path, port, QUICK, environ=settings) as exporter:
            start = time.monotonic()
            for _ in range(10):
                scrape(port)
            assert time.monotonic() - start < 3
            until(lambda: time.monotonic() - start > 3.5)
            scrape(port)
            exporter.end()
    reason = "HTTP 200: expected valid JSON, found 6 bytes"
    said = [{key: value for key, value in event.items() if key != "time"} for event in exporter.events("exporter")]
    document = {"level": "WARN", "logger": "exporter.scrape.scrape", "msg": "scrape failed", "module": "patroni"}
    node = {**document, "collector": "node", "url": f"{server.url}/patroni", "reason": reason}
    cluster = {**document, "collector": "cluster", "url": f"{server.url}/cluster", "reason": reason}
    assert said == [node, cluster, {**node, "held_back": "9"}, {**cluster, "held_back": "9"}]
    assert {event["level"] for event in exporter.events("gunicorn")} == {"INFO"}


def test_documents_as_large_as_they_may_be_keep_nobody_waiting_for_long(
    upstream: Upstream, tmp_path: Path, port: int
) -> None:
    service = {"permalink": "?", "name": "n", "status": {"status_type": "ok", "permalink": "p", "name": "q"}}
    services = [{**service, "permalink": str(number)} for number in range(160_000)]
    body = json.dumps({"status": "success", "data": services}).encode()
    assert 15 * 1024 * 1024 < len(body) <= 16 * 1024 * 1024
    upstream.serve(PATRONI)
    with Odd(saying(whole(body))) as server:
        settings = environ(port, upstream.url, server.url, STAYTUS_TIMEOUT="1")
        with serving(tmp_path, port, environ=settings) as exporter, ThreadPoolExecutor(1) as prometheus:
            running = prometheus.submit(scrape, port)
            waits = []
            while not running.done():
                start = time.monotonic()
                assert exporter.get("/-/healthy") == (200, "OK\n")
                waits.append(time.monotonic() - start)
                time.sleep(0.05)
            told, seconds = running.result()
            assert (told["patroni_up"], told["staytus_up"]) == ({(): 1.0}, {(): 0.0})
            # All that waits beyond that is for Python, which reads 16 MiB of JSON without letting anybody else go on.
            assert seconds < 1 + 2
            assert max(waits) < 2
