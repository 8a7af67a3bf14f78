"""Soak test: a real gunicorn with an upstream that has random faults must not leak, log errors or change its samples.

    python -m tests.soak --seconds 180 --seed 7

The faults depend on the seed, which is printed, and on the number of requests.
"""

import argparse
import gzip
import http.client
import math
import os
import random
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics_families
from prometheus_client.parser import text_string_to_metric_families

from exporter.collectors import COLLECTORS
from tests.limits.faults import Faulty
from tests.limits.scrapes import descriptors
from tests.limits.servers import Odd
from tests.live.processes import MODULE, Served, free_port, serving

#: `python -m exporter` with a shorter ABANDON_AFTER, which prints on SIGPROF how many blocks of memory Python has
#: allocated: the resident memory also depends on fragmentation.
ABANDON_AFTER = 5
COMMAND = (
    MODULE[0],
    "-c",
    f"""
import exporter.upstream.client, exporter.__main__ as command, gc, signal, sys
exporter.upstream.client.ABANDON_AFTER = {ABANDON_AFTER}.0
signal.signal(signal.SIGPROF, lambda *_: (gc.collect(), print("BLOCKS", sys.getallocatedblocks(), flush=True)))
sys.exit(command.main())
""",
)

#: Seconds of the modules' timeout, seconds that a slow machine may add, and concurrent clients.
TIMEOUT, SLACK, CLIENTS = 0.5, 5.0, 24

MIB = 1024 * 1024


OPENMETRICS = "application/openmetrics-text; version=1.0.0"
URLS = ["/metrics"] * 12 + ["/metrics?name[]=patroni_up&name[]=staytus_up", "/health", "/-/healthy", "/", "/nothing"]


class Wrong(Exception):
    """Something that no fault of an upstream may cause."""


def get(port: int, url: str, headers: dict[str, str]) -> tuple[int, str]:
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=30)) as connection:
        connection.request("GET", url, headers=headers)
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


@dataclass(frozen=True)
class Held:
    """The resources of all workers, and the samples of healthy upstreams."""

    threads: int
    descriptors: int
    blocks: int
    resident: int
    samples: dict[str, Any]


def settled(exporter: Served, port: int) -> Held:
    """Measures when hung requests have been abandoned and threads have ended."""
    workers = exporter.workers()
    time.sleep(ABANDON_AFTER + 2 * TIMEOUT + 2)
    for _ in range(40):
        status, text = get(port, "/metrics", {})
    own = ("python_", "process_", "patroni_staytus_exporter_")
    stable = {k: v for k, v in samples(text).items() if not k.startswith(own) and "_duration_" not in k}
    time.sleep(3)
    for worker in workers:
        os.kill(worker, signal.SIGPROF)
        time.sleep(1)
    blocks = [int(line.split()[1]) for line in exporter.log.read_text().splitlines() if line.startswith("BLOCKS ")]
    statm = [Path(f"/proc/{worker}/statm").read_text().split() for worker in workers]
    return Held(
        threads=sum(len(list(Path(f"/proc/{worker}/task").iterdir())) for worker in workers),
        descriptors=sum(descriptors(worker) for worker in workers),
        blocks=sum(blocks[-len(workers) :]),
        resident=sum(int(pages[1]) - int(pages[2]) for pages in statm) * 4096,
        samples={**stable, "status": status},
    )


def stress(port: int, seed: int, seconds: float) -> Counter[str]:
    """Sends requests for so many seconds; returns their number for each endpoint."""
    deadline = time.monotonic() + seconds
    endpoints: Counter[str] = Counter()
    lock = threading.Lock()

    def prometheus(number: int) -> None:
        chance = random.Random(f"{seed} {number}")
        while time.monotonic() < deadline:
            endpoint = request(port, chance)
            with lock:
                endpoints[endpoint] += 1

    with ThreadPoolExecutor(CLIENTS) as pool:
        for running in [pool.submit(prometheus, number) for number in range(CLIENTS)]:
            running.result()
    return endpoints


def soak(seconds: float, seed: int, say: Callable[[str], object]) -> list[str]:
    """Runs the test and returns what is wrong."""
    upstream = Faulty(seed)
    with tempfile.TemporaryDirectory() as folder, free_port() as port, Odd(upstream.behave) as server:
        settings = {
            "PATRONI_EXPORTER_PORT": str(port), "PATRONI_EXPORTER_URL": server.url, "STAYTUS_API_URL": server.url,
            "STAYTUS_API_TOKEN": "t0ken", "STAYTUS_API_SECRET": "s3cret", "POLLING_INTERVAL_SECONDS": "1",
            "PATRONI_EXPORTER_TIMEOUT": str(TIMEOUT), "STAYTUS_TIMEOUT": str(TIMEOUT), "EXPORTER_WORKERS": "2",
            "EXPORTER_THREADS": str(CLIENTS // 3),
        }  # fmt: skip
        with serving(Path(folder), port, COMMAND, environ=settings) as exporter:
            held = []
            for part in (seconds / 4, seconds * 3 / 4):  # memory that the first faults allocate for good is not a leak
                upstream.faulty = True
                endpoints = stress(port, seed, part)
                upstream.faulty = False
                held.append(settled(exporter, port))
                say(f"{part:.0f} s: {dict(endpoints)}")
                now = held[-1]
                say(
                    f"  {now.threads} threads, {now.descriptors} descriptors, {now.blocks} blocks, {now.resident} bytes"
                )
            log = exporter.log.read_text().splitlines()
    say(f"requests: {dict(upstream.requests)}")
    say(f"faults: {dict(upstream.faults)}")
    say(f"log: {len(log)} lines")
    before, after = held
    tracebacks = [line for line in log if "Traceback" in line or " level=ERROR " in line]
    wrong = [f"in the log: {line}" for line in tracebacks]
    wrong += [
        f"{name}: {before.samples.get(name)} before, {after.samples.get(name)} after"
        for name in before.samples.keys() | after.samples.keys() | {f"{service}_up" for service in COLLECTORS}
        if before.samples.get(name) != after.samples.get(name) or name not in before.samples
    ]
    bounds = {
        "threads": before.threads + 2,
        "descriptors": before.descriptors + 2,
        "blocks": 1.01 * before.blocks,
        "resident": 2 * before.resident + 64 * MIB,  # one kept response can have 16 MiB
    }
    wrong += [
        f"{what}: {getattr(before, what)} before, {getattr(after, what)} after"
        for what, bound in bounds.items()
        if getattr(after, what) > bound
    ]
    return wrong


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=180, help="duration, without two waits of 11 s")
    parser.add_argument("--seed", type=int, default=random.randrange(10**6), help="seed of the faults")
    given = parser.parse_args()

    def say(line: str) -> None:
        sys.stdout.write(line + "\n")
        sys.stdout.flush()

    say(f"seed {given.seed}")
    wrong = soak(given.seconds, given.seed, say)
    for line in wrong:
        say(f"WRONG: {line}")
    say("failed" if wrong else "passed")
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main())
