"""Clients that must be served whatever happens: scrapes with random headers, and a Prometheus with a deadline."""

import contextlib
import gzip
import http.client
import math
import random
import time
from collections import defaultdict
from dataclasses import dataclass, field

from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics_families
from prometheus_client.parser import text_string_to_metric_families

from exporter.collectors import COLLECTORS
from tests.conftest import Upstream
from tests.live.processes import recorded
from tests.web_config import ALICE, basic

AUTHORIZATION = basic(*ALICE)

#: Seconds of the modules' timeout, and seconds that a slow machine may add.
TIMEOUT, SLACK = 0.5, 5.0

#: Seconds of the scrape timeout of Prometheus, and between two scrapes here.
SCRAPE_TIMEOUT, INTERVAL = 10.0, 0.3

OPENMETRICS = "application/openmetrics-text; version=1.0.0"
URLS = ["/metrics"] * 12 + ["/metrics?name[]=patroni_up&name[]=staytus_up", "/health", "/-/healthy", "/", "/nothing"]


class Wrong(Exception):
    """Something that no fault of an upstream and no other client may cause."""


def get(port: int, url: str, headers: dict[str, str] | None = None, timeout: float = 30) -> tuple[int, str]:
    """Returns the status and the body of a response to a client with a login."""
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, timeout=timeout)) as connection:
        connection.request("GET", url, headers={"Authorization": AUTHORIZATION, **(headers or {})})
        response = connection.getresponse()
        body = response.read()
    if response.headers.get("Content-Encoding") == "gzip":
        body = gzip.decompress(body)
    return response.status, body.decode()


def request(port: int, chance: random.Random) -> str:
    """Sends a random request and checks the response; returns the endpoint."""
    url = chance.choice(URLS)
    accept = chance.choice(("", OPENMETRICS))
    headers = {"Accept": accept, "Accept-Encoding": chance.choice(("", "gzip"))}
    if chance.random() < 0.3:
        headers["X-Prometheus-Scrape-Timeout-Seconds"] = chance.choice(("0.01", "0.6", "0.9", "10", "soon"))
    start = time.monotonic()
    status, text = get(port, url, headers)
    seconds = time.monotonic() - start
    endpoint = url.partition("?")[0]
    if status not in {"/health": (200, 503), "/nothing": (404,)}.get(endpoint, (200,)):
        raise Wrong(f"{url}: HTTP {status}: {text[:200]}")
    if seconds > TIMEOUT + SLACK:
        raise Wrong(f"{url}: {seconds:.1f} s")
    if endpoint == "/metrics":
        scraped = samples(text, accept)
        if "?" not in url:
            check(scraped)
    return endpoint


Samples = dict[str, dict[tuple[tuple[str, str], ...], float]]


def samples(text: str, accept: str = "") -> Samples:
    """The samples by family and labels; raises Wrong for duplicates and for values that are not finite."""
    parse = openmetrics_families if accept else text_string_to_metric_families
    parsed: Samples = {}
    for family in parse(text):
        found = parsed.setdefault(family.name, {})
        for sample in family.samples:
            labels = (("", sample.name), *sorted(sample.labels.items()))
            if labels in found or not math.isfinite(sample.value):
                raise Wrong(f"{sample.name}{sample.labels}: {sample.value}, duplicate: {labels in found}")
            found[labels] = sample.value
    return parsed


def check(scraped: Samples) -> None:
    """Raises Wrong if a document that failed has samples, or a module is up without its first document."""
    for service, collectors in COLLECTORS.items():
        successes = {
            dict(labels)["collector"]: v for labels, v in scraped[f"{service}_scrape_collector_success"].items()
        }
        for collector in collectors:
            families = [family.name for family in collector.families if family.name in scraped]
            if families and successes.get(collector.name) == 0:
                raise Wrong(f"{collector.name} failed and has {families}")
        (up,) = scraped[f"{service}_up"].values()
        if up != successes[collectors[0].name]:
            raise Wrong(f"{service}_up {up}, but {successes}")


# Prometheus

#: What each of the exporter's counters counts, by its name and reason.
Counters = dict[str, float]


def counters(scraped: Samples) -> Counters:
    """The exporter's own counters."""
    return {
        f"{dict(labels)['']}{{{dict(labels).get('reason', '')}}}": value
        for family, found in scraped.items()
        for labels, value in found.items()
        if family.startswith("patroni_staytus_exporter_") and dict(labels)[""].endswith("_total")
    }


@dataclass
class Scraped:
    """What a Prometheus got: the seconds of each response by endpoint, failures, and the exporter's counters."""

    seconds: defaultdict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    failures: list[str] = field(default_factory=list)
    counters: Counters = field(default_factory=dict)
    went_back: list[str] = field(default_factory=list)

    def quantile(self, endpoint: str, share: float) -> float:
        """The seconds that this share of the responses did not exceed."""
        ordered = sorted(self.seconds[endpoint])
        return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


def prometheus(port: int, seconds: float) -> Scraped:
    """Scrapes /metrics and a healthy target, and requests /-/healthy, for so many seconds.

    It runs in a process of its own, so that neither the attackers nor the faulty upstreams delay it.
    """
    scraped = Scraped()
    end = time.monotonic() + seconds
    with Upstream() as healthy:
        recorded(healthy)
        probe = f"/probe?module=healthy&target={healthy.url}"
        while time.monotonic() < end:
            for url in ("/metrics", probe, "/-/healthy"):
                endpoint = url.partition("?")[0]
                start = time.monotonic()
                try:
                    text = _scrape(port, url)
                    if endpoint == "/metrics":
                        _compare(scraped, counters(samples(text)))
                    elif endpoint == "/probe" and "\npatroni_up 1.0\n" not in text:
                        raise Wrong("the healthy target is not up")
                except (OSError, http.client.HTTPException, Wrong) as error:
                    scraped.failures.append(f"{endpoint}: {error or type(error).__name__}")
                scraped.seconds[endpoint].append(time.monotonic() - start)
            healthy.requests.clear()
            time.sleep(INTERVAL)
    return scraped


def _scrape(port: int, url: str) -> str:
    headers = {"X-Prometheus-Scrape-Timeout-Seconds": f"{SCRAPE_TIMEOUT:g}"}
    status, text = get(port, url, headers, SCRAPE_TIMEOUT)
    if status != 200:
        raise Wrong(f"HTTP {status}: {text[:200]}")
    return text


def _compare(scraped: Scraped, now: Counters) -> None:
    scraped.went_back += [
        f"{name}: {before:g}, then {now.get(name)}"
        for name, before in scraped.counters.items()
        if now.get(name, -1.0) < before
    ]
    scraped.counters = now
