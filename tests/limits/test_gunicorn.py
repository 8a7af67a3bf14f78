"""The limits of a real gunicorn: what its processes hold, what they log, and which requests they serve meanwhile."""

import http.client
import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest

from tests.conftest import Upstream
from tests.limits.scrapes import PATRONI, STAYTUS, Samples, read_samples
from tests.limits.servers import Odd, saying, silent, whole
from tests.live.processes import MODULE, free_port, serving, until

#: `python -m exporter` with three seconds in place of a minute, for requests and for repeated lines of the log.
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
        "STAYTUS_API_TOKEN": "t0ken",
        "STAYTUS_API_SECRET": "s3cret",
        **settings,
    }


def threads(process: int) -> int:
    return len(list(Path(f"/proc/{process}/task").iterdir()))


def scrape(port: int, timeout: float = 30) -> tuple[Samples, float]:
    """The samples of one scrape, and its duration in seconds."""
    start = time.monotonic()
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=30)) as connection:
        connection.request("GET", "/metrics", headers={"X-Prometheus-Scrape-Timeout-Seconds": str(timeout)})
        response = connection.getresponse()
        assert response.status == 200
        return read_samples(response.read().decode()), time.monotonic() - start


def test_hung_request_is_abandoned(upstream: Upstream, tmp_path: Path, port: int) -> None:
    """Then an upstream that has recovered is requested again."""
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
            samples, _ = scrape(port)
            assert samples["patroni_scrape_collector_success"][("cluster",)] == 0.0
            until(lambda: server.open == 0)
            assert server.connections == 5
            samples, _ = scrape(port)
            assert samples["patroni_scrape_collector_success"][("cluster",)] == 1.0


def test_repeated_line_is_logged_once_a_minute(upstream: Upstream, tmp_path: Path, port: int) -> None:
    """The next line has the count of those that were held back."""
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
    lines = [{key: value for key, value in event.items() if key != "time"} for event in exporter.events("exporter")]
    failed = {
        "level": "WARN",
        "logger": "exporter.scrape.scrape",
        "msg": "scrape failed",
        "module": "patroni",
        "url": server.url,
        "reason": "HTTP 200: expected valid JSON, found 6 bytes",
    }
    assert lines == [failed, {**failed, "held_back": "9"}]
    assert {event["level"] for event in exporter.events("gunicorn")} == {"INFO"}


def test_largest_document(upstream: Upstream, tmp_path: Path, port: int) -> None:
    """While 8 MiB of JSON are parsed, other requests are served and the other module is up."""
    issue = {"identifier": "?", "title": "t", "state": "resolved", "service_status": {"permalink": "p", "name": "q"}}
    issues = [{**issue, "identifier": str(number)} for number in range(68_000)]
    body = json.dumps({"status": "success", "data": issues}).encode()
    assert 7 * 1024 * 1024 < len(body) <= 8 * 1024 * 1024
    upstream.serve(PATRONI)
    with Odd(saying(whole(body))) as server:
        settings = environ(port, upstream.url, server.url, STAYTUS_COLLECT="issues")
        with serving(tmp_path, port, environ=settings) as exporter, ThreadPoolExecutor(1) as prometheus:
            running = prometheus.submit(scrape, port)
            waits = []
            while not running.done():
                start = time.monotonic()
                assert exporter.get("/-/healthy") == (200, "OK\n")
                waits.append(time.monotonic() - start)
                time.sleep(0.05)
            samples, seconds = running.result()
            assert (samples["patroni_up"], samples["staytus_issues"][("resolved",)]) == ({(): 1.0}, 68_000)
            # Python's JSON decoder holds the interpreter lock.
            assert (seconds < 5, max(waits) < 2) == (True, True)
