"""Floods of probes of hung targets: the requests in flight are bounded for any paths, hosts and timeouts."""

import socket
import time
from collections import Counter
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from exporter.upstream import client as client_module
from exporter.upstream.client import PER_HOST
from tests.limits.scrapes import fetching, read_samples
from tests.limits.servers import Odd, silent
from tests.live.processes import until
from tests.web.test_probe import client_of, probe

MODULES = """\
modules:
  fleet: {collector: patroni, timeout: 500ms, targets: [127.0.0.0/8]}
  paths: {collector: patroni, timeout: 500ms, allow_paths: true, targets: [127.0.0.0/8]}
"""

TIMEOUT = {"X-Prometheus-Scrape-Timeout-Seconds": "0.002"}


def flood(client: FlaskClient, module: str, targets: Iterable[str], **headers: str) -> list[TestResponse]:
    """Probes all targets at once."""

    def one(target: str) -> TestResponse:
        return probe(client.application.test_client(), module, target, **headers)

    with ThreadPoolExecutor(30) as prometheus:
        return list(prometheus.map(one, targets))


def refused(client: FlaskClient, reason: str) -> tuple[float, float]:
    """The requests that were refused for this reason, and the probes that this refused."""
    samples = read_samples(client.get("/metrics").text)
    return (
        samples["patroni_staytus_exporter_requests_refused"][(reason,)],
        samples["patroni_staytus_exporter_probes_refused"][("requests",)],
    )


def statuses(responses: Iterable[TestResponse]) -> Counter[tuple[int, str | None]]:
    """The number of responses with each status and Retry-After."""
    return Counter((response.status_code, response.headers.get("Retry-After")) for response in responses)


def test_different_paths(tmp_path: Path) -> None:
    client = client_of(tmp_path, MODULES)
    with Odd(silent) as server:
        targets = [f"{server.url}/cluster/{number}" for number in range(60)]
        assert statuses(flood(client, "fleet", targets)) == {(403, None): 60}
        assert server.connections == 0
        responses = statuses(flood(client, "paths", targets))
        until(lambda: server.connections >= PER_HOST)
        assert (server.connections, fetching()) == (PER_HOST, PER_HOST)
    # A probe of a Patroni has five requests, and is refused where one of them is.
    assert responses == {(200, None): 60 - responses[503, "1"], (503, "1"): responses[503, "1"]}
    assert responses[200, None] <= PER_HOST // 5
    assert refused(client, "host") == (5 * 60 - PER_HOST, responses[503, "1"])


def test_tiny_timeouts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The requests that a probe leaves behind count until they end."""
    monkeypatch.setattr(client_module, "TOTAL", 100)
    client = client_of(tmp_path, MODULES, EXPORTER_PROBES="2")
    with socket.create_server(("0.0.0.0", 0), backlog=512) as server:
        port = server.getsockname()[1]
        responses = statuses(
            response
            for number in range(50)
            for response in [probe(client, "fleet", f"127.0.1.{number + 1}:{port}", **TIMEOUT)]
        )
        assert fetching() == 100
        assert responses == {(200, None): 20, (503, "1"): 30}
        assert refused(client, "total") == (150, 30)
    until(lambda: fetching() == 0)


def test_same_target_many_times_in_one_discovery(tmp_path: Path) -> None:
    client = client_of(tmp_path, MODULES)
    with Odd(silent) as server:
        start = time.monotonic()
        response = client.get("/sd?module=fleet" + f"&target={server.url}" * 20)
        assert 0.5 <= time.monotonic() - start < 2
        assert server.connections == 1
    reason = f"no target returned its cluster: {server.url}: no response within 0.5 s\n"
    assert (response.status_code, response.text) == (503, reason)
