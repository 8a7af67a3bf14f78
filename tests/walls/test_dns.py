"""A resolver that hangs, which no timeout of the resolver's own ends in time: the C library's, as libcurl asks it."""

import subprocess
from pathlib import Path

import pytest

from tests.conftest import Upstream
from tests.live.installed import needs, path_of
from tests.live.processes import free_port, serving
from tests.walls.scrapes import STAYTUS, descriptors
from tests.walls.test_gunicorn import environ, scrape, threads, worker

HANGING = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <netdb.h>
#include <string.h>
#include <unistd.h>

int getaddrinfo(const char *node, const char *service, const struct addrinfo *hints, struct addrinfo **found) {
    if (node && !strcmp(node, "hangs.example")) {
        sleep(30);
        return EAI_AGAIN;
    }
    int (*real)(const char *, const char *, const struct addrinfo *, struct addrinfo **);
    real = dlsym(RTLD_NEXT, "getaddrinfo");
    return real(node, service, hints, found);
}
"""


@pytest.fixture(scope="session")
def hanging(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A library to preload, with which the name hangs.example is looked up for half a minute."""
    library = tmp_path_factory.mktemp("resolver") / "hanging.so"
    command = [path_of("gcc"), "-shared", "-fPIC", "-x", "c", "-o", str(library), "-", "-ldl"]
    subprocess.run(command, input=HANGING.encode(), check=True)
    return library


@needs("gcc")
def test_name_that_is_looked_up_for_ever_costs_its_module_its_timeout_and_nothing_piles_up(
    hanging: Path, upstream: Upstream, tmp_path: Path
) -> None:
    upstream.serve(STAYTUS)
    with free_port() as port:
        settings = environ(port, "http://hangs.example", upstream.url, PATRONI_EXPORTER_TIMEOUT="0.5")
        with serving(tmp_path, port, environ={**settings, "LD_PRELOAD": str(hanging)}) as exporter:
            process = worker(exporter)
            told, seconds = scrape(port)
            assert (told["patroni_up"], told["staytus_up"]) == ({(): 0.0}, {(): 1.0})
            assert 0.5 <= seconds < 2
            (failure,) = [event for event in exporter.events("exporter.scrape") if event["collector"] == "node"]
            assert (failure["url"], failure["reason"]) == ("http://hangs.example/patroni", "no answer within 0.5 s")
            held = threads(process), descriptors(process)
            for _ in range(20):
                told, _ = scrape(port, 0.05)
                assert (told["patroni_up"], told["staytus_up"]) == ({(): 0.0}, {(): 1.0})
            # libcurl has at most 20 threads that look names up, and one that hangs is not waited for.
            assert threads(process) <= held[0] + 20
            assert descriptors(process) <= held[1] + 5
            assert exporter.end() == 0
