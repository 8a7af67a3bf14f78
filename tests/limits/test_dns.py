"""A resolver that hangs, which no timeout of the resolver's own ends in time: the C library's, as libcurl asks it."""

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
def test_name_that_is_looked_up_for_ever_costs_its_module_its_timeout_and_nothing_piles_up(
    upstream: Upstream, tmp_path: Path
) -> None:
    upstream.serve(STAYTUS)
    with free_port() as port:
        settings = environ(port, "http://hangs.example", upstream.url, PATRONI_EXPORTER_TIMEOUT="0.5")
        with serving(tmp_path, port, environ={**settings, **resolver(tmp_path, HANGING)}) as exporter:
            (process,) = exporter.workers()
            told, seconds = scrape(port)
            assert (told["patroni_up"], told["staytus_up"]) == ({(): 0.0}, {(): 1.0})
            assert 0.5 <= seconds < 2
            (failure,) = [event for event in exporter.events("exporter.scrape.scrape") if event["collector"] == "node"]
            assert (failure["url"], failure["reason"]) == ("http://hangs.example/patroni", "no response within 0.5 s")
            held = threads(process), descriptors(process)
            for _ in range(20):
                told, _ = scrape(port, 0.05)
                assert (told["patroni_up"], told["staytus_up"]) == ({(): 0.0}, {(): 1.0})
            # libcurl has at most 20 threads that look names up, and one that hangs is not waited for.
            assert threads(process) <= held[0] + 20
            assert descriptors(process) <= held[1] + 5
            assert exporter.end() == 0
