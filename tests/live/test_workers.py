"""Two workers of gunicorn return the same counters, which never go back."""

import os
import signal
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.client import HTTPException
from pathlib import Path
from threading import Event

import pytest

from tests.conftest import Upstream
from tests.limits.scrapes import Samples, read_samples
from tests.live.processes import MODULE, Served, serving, until
from tests.web_config import ALICE, basic, users, web_config


class Exporter:
    """An exporter with two workers. Each scrape has a connection of its own, so that any worker can accept it."""

    def __init__(self, served: Served) -> None:
        self.served = served
        self.counters: dict[tuple[str, tuple[str, ...]], float] = {}

    def scrape(self) -> Samples:
        """The samples of a scrape, none of which is a counter that went back or that is missing now."""
        text = self.served.request("/metrics", Authorization=basic(*ALICE)).body.decode()
        samples = read_samples(text)
        types = [line.split()[2:] for line in text.splitlines() if line.startswith("# TYPE")]
        families = [name.removesuffix("_total") for name, kind in types if kind == "counter"]
        counters = {(family, labels): value for family in families for labels, value in samples[family].items()}
        assert {key: value for key, value in self.counters.items() if counters.get(key, -1) < value} == {}
        self.counters = counters
        return samples

    def logins(self) -> float:
        """How many requests had no login."""
        return self.scrape()["patroni_staytus_exporter_logins_refused"][("missing",)]

    def in_flight(self) -> float:
        """How many requests are in flight. It does not wait for a response."""
        name = "patroni_staytus_exporter_requests_in_flight"
        text = self.served.request(f"/metrics?name[]={name}", Authorization=basic(*ALICE)).body.decode()
        return read_samples(text)[name][()]

    def files(self) -> list[Path]:
        """The files of its counters."""
        return [Path(path) for path in self.served.files() if path.endswith(".db")]

    def refuse(self) -> int | str:
        """The status of a probe without a login, or its error."""
        try:
            return self.served.request("/probe").status
        except (OSError, HTTPException):
            return "error"


@pytest.fixture
def exporter(upstream: Upstream, tmp_path: Path, port: int) -> Iterator[Exporter]:
    web = web_config(tmp_path, users(alice=ALICE[1]))
    options = ("--workers", "2", "--port", str(port), "--web.config.file", web)
    # Staytus, because its responses are used again: a scrape has not always requests in flight.
    staytus = {"URL": upstream.url, "TOKEN": "token", "SECRET": "secret"}
    environ = {"POLLING_INTERVAL_SECONDS": "60", **{f"STAYTUS_API_{name}": value for name, value in staytus.items()}}
    with serving(tmp_path, port, (*MODULE, *options), environ=environ) as served:
        until(lambda: len(served.workers()) == 2)
        yield Exporter(served)
        assert served.end() == 0


@contextmanager
def stopped(worker: int) -> Iterator[None]:
    """Lets the other worker accept all connections."""
    os.kill(worker, signal.SIGSTOP)
    yield
    os.kill(worker, signal.SIGCONT)


def test_each_worker_returns_the_counters_of_all(exporter: Exporter) -> None:
    first, second = sorted(exporter.served.workers())
    for total, worker in enumerate([first, second] * 2):
        with stopped(worker):
            assert exporter.logins() == 5 * total
            assert [exporter.refuse() for _ in range(5)] == [401] * 5
            assert exporter.logins() == 5 * total + 5
    samples = exporter.scrape()
    assert samples["process_resident_memory_bytes"][()] > 40_000_000
    os.kill(first, signal.SIGKILL)
    until(lambda: first not in exporter.served.workers())
    assert exporter.logins() == 20
    assert exporter.scrape()["process_start_time_seconds"] == samples["process_start_time_seconds"]
    names = ["counter_1.db", "counter_2.db", "gauge_livesum_1.db", "gauge_livesum_2.db"]
    until(lambda: sorted(path.name for path in exporter.files()) == names)
    directory = exporter.files()[0].parent
    assert exporter.served.end() == 0
    assert not directory.exists()


def test_requests_in_flight_are_those_of_live_workers(exporter: Exporter, upstream: Upstream) -> None:
    first, second = exporter.served.workers()
    upstream.answers["/api/v1/services/all"] = (404, b"")
    release = upstream.hold("/api/v1/services/all")
    for number, worker in enumerate((second, first), 1):
        with stopped(worker):
            until(lambda expected=number: exporter.in_flight() == expected, 60)  # type: ignore[misc]
    exporter.served.process.send_signal(signal.SIGHUP)
    until(lambda: not {first, second} & exporter.served.workers())
    release.set()
    until(lambda: exporter.in_flight() == 0)


def test_no_counter_goes_back(exporter: Exporter) -> None:
    served, ended, statuses = exporter.served, Event(), Counter[int | str]()

    def refuse() -> None:
        while not ended.is_set():
            statuses[exporter.refuse()] += 1

    def scrape_until_replaced(ending: set[int]) -> None:
        until(lambda: exporter.scrape() and len(now := served.workers()) == 2 and not now & ending)

    with ThreadPoolExecutor(2) as pool:
        refusing = [pool.submit(refuse) for _ in range(2)]
        for _ in range(3):
            worker = min(served.workers())
            os.kill(worker, signal.SIGKILL)
            scrape_until_replaced({worker})
            before = served.workers()
            served.process.send_signal(signal.SIGHUP)
            scrape_until_replaced(before)
        ended.set()
        for each in refusing:
            each.result(20)
    assert statuses[401] > 100
    assert statuses[401] <= exporter.logins() <= statuses.total()
