"""A gunicorn whose upstream is slow in the C library or in Python's JSON decoder."""

import json
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from pathlib import Path

from tests.config.test_settings import KEYS
from tests.conftest import Upstream
from tests.limits.resolver import resolver
from tests.limits.scrapes import PATRONI, STAYTUS, Samples, descriptors, read_samples
from tests.limits.servers import Odd, saying, whole
from tests.live.installed import needs
from tests.live.processes import Served, cpu_seconds, running_exporter

HANGING = """
    if (node && !strcmp(node, "hangs.example")) {
        sleep(30);
        return EAI_AGAIN;
    }
"""


def exporter(folder: Path, patroni: str, staytus: str, **environ: str) -> AbstractContextManager[Served]:
    urls = {"PATRONI_EXPORTER_URL": patroni, "STAYTUS_API_URL": staytus}
    return running_exporter(folder, environ={**urls, **KEYS, **environ})


def scrape(served: Served) -> tuple[Samples, float]:
    """The samples of one scrape, and its duration in seconds."""
    start = time.monotonic()
    status, text = served.get(seconds=60)
    assert status == 200
    return read_samples(text), time.monotonic() - start


@needs("gcc")
def test_hanging_lookup(upstream: Upstream, tmp_path: Path) -> None:
    """It ends at the timeout of the module, and threads do not accumulate."""
    upstream.serve(STAYTUS)
    environ = {"PATRONI_EXPORTER_TIMEOUT": "0.5", **resolver(tmp_path, HANGING)}
    with exporter(tmp_path, "http://hangs.example", upstream.url, **environ) as served:
        (process,) = served.workers()
        held = []
        for _ in range(6):
            samples, seconds = scrape(served)
            assert (samples["patroni_up"], samples["staytus_up"]) == ({(): 0.0}, {(): 1.0})
            assert seconds < 2
            held.append((len(list(Path(f"/proc/{process}/task").iterdir())), descriptors(process)))
        assert held[-1][0] <= held[0][0] + 2  # a name is looked up once at a time
        assert held[-1][1] <= held[0][1] + 5
        reasons = {event["reason"] for event in served.events("exporter.scrape.scrape")}
        assert reasons <= {"no connection within 0.5 s", "no response within 0.5 s"}  # both end then
        assert reasons
        assert served.end() == 0


def test_largest_document(upstream: Upstream, tmp_path: Path) -> None:
    """While 8 MiB of JSON are parsed, other requests are served and the other module is up."""
    issue = {"identifier": "?", "title": "t", "state": "resolved", "service_status": {"permalink": "p", "name": "q"}}
    issues = [{**issue, "identifier": str(number)} for number in range(68_000)]
    body = json.dumps({"status": "success", "data": issues}).encode()
    assert 7 * 1024 * 1024 < len(body) <= 8 * 1024 * 1024
    upstream.serve(PATRONI)
    with (
        Odd(saying(whole(body))) as server,
        exporter(tmp_path, upstream.url, server.url, STAYTUS_COLLECT="issues", STAYTUS_TIMEOUT="60") as served,
        ThreadPoolExecutor(1) as prometheus,
    ):
        (worker,) = served.workers()
        running = prometheus.submit(scrape, served)
        waits = []
        while not running.done():
            start = time.monotonic()
            assert served.get("/-/healthy", seconds=60) == (200, "OK\n")
            waits.append(time.monotonic() - start)
            time.sleep(0.05)
        samples, seconds = running.result()
        assert (samples["patroni_up"], samples["staytus_issues"][("resolved",)]) == ({(): 1.0}, 68_000)
        assert cpu_seconds(worker) < 5
        assert max(waits) < max(2, seconds / 2)  # Python's JSON decoder holds the interpreter lock
