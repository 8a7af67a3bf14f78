"""EXPORTER_PROBES and the threads of uWSGI and mod_wsgi: probes of a hung target leave a thread for /-/healthy."""

import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.conftest import Upstream
from tests.hosts.hosts import APACHE_HTTPD, UWSGI, Checkout, Host, params, settings
from tests.limits.servers import Odd, silent
from tests.live.processes import until

pytestmark = pytest.mark.timeout(90)

#: The threads of the shipped configurations.
THREADS = 64

MODULES = "modules: {slow: {collector: patroni, collect: [node], timeout: 8s, targets: [127.0.0.1]}}\n"


@pytest.mark.parametrize("host", params(UWSGI, APACHE_HTTPD))
def test_probes_leave_a_thread(host: Host, checkout: Checkout, upstream: Upstream, port: int) -> None:
    file = checkout.folder / "modules.yml"
    file.write_text(MODULES)
    file.chmod(0o644)
    checkout.write_env(settings(upstream, EXPORTER_CONFIG_FILE=str(file)))
    with host.serving(checkout, port) as served, Odd(silent) as hung, ThreadPoolExecutor(THREADS + 6) as prometheus:
        probes = [prometheus.submit(served.get, f"/probe?module=slow&target={hung.url}") for _ in range(THREADS + 6)]
        until(lambda: sum(probe.done() for probe in probes) >= 7)
        start = time.monotonic()
        assert served.get("/-/healthy") == (200, "OK\n")
        assert time.monotonic() - start < 3
        assert [probe.result()[0] for probe in probes if probe.done()] == [503] * 7
        hung.behave = lambda connection: None
        assert sorted(probe.result()[0] for probe in probes) == [200] * (THREADS - 1) + [503] * 7
        assert f'EXPORTER_PROBES reduced" probes=1000 threads={THREADS} limit={THREADS - 1}' in served.log.read_text()
