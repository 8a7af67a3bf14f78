"""A name lookup that hangs: libcurl calls the C library for it, which has no short timeout."""

from pathlib import Path

from tests.conftest import Upstream
from tests.limits.resolver import resolver
from tests.limits.scrapes import STAYTUS, descriptors
from tests.limits.test_gunicorn import environ, scrape, threads
from tests.live.installed import needs
from tests.live.processes import free_port, serving

HANGING = """
    if (node && !strcmp(node, "hangs.example")) {
        sleep(30);
        return EAI_AGAIN;
    }
"""


@needs("gcc")
def test_hanging_lookup_ends_at_the_timeout(upstream: Upstream, tmp_path: Path) -> None:
    upstream.serve(STAYTUS)
    with free_port() as port:
        settings = environ(port, "http://hangs.example", upstream.url, PATRONI_EXPORTER_TIMEOUT="0.5")
        with serving(tmp_path, port, environ={**settings, **resolver(tmp_path, HANGING)}) as exporter:
            (process,) = exporter.workers()
            samples, seconds = scrape(port)
            assert (samples["patroni_up"], samples["staytus_up"]) == ({(): 0.0}, {(): 1.0})
            assert 0.5 <= seconds < 2
            (failure,) = exporter.events("exporter.scrape.scrape")
            assert failure["url"] == "http://hangs.example"
            assert failure["reason"] in ("no connection within 0.5 s", "no response within 0.5 s")  # both end then
            held = threads(process), descriptors(process)
            for _ in range(20):
                samples, _ = scrape(port, 0.05)
                assert (samples["patroni_up"], samples["staytus_up"]) == ({(): 0.0}, {(): 1.0})
            # libcurl has at most 20 threads for lookups, and does not wait for one that hangs.
            assert threads(process) <= held[0] + 20
            assert descriptors(process) <= held[1] + 5
            assert exporter.end() == 0
