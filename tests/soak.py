"""The soak: random faults over thousands of scrapes of a real gunicorn, which then holds and tells what it did before.

    python -m tests.soak --seconds 180 --seed 7

What each request is answered follows from the seed, which is printed, and from how many were asked before it.
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

#: `python -m exporter` that gives a hung request up after five seconds in place of sixty, and tells on SIGPROF how many
#: blocks of memory Python has in use: the resident memory alone depends on how they lie.
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

#: Seconds of the modules' timeout, those that a slow machine may take on top, and scrapes at once.
TIMEOUT, SLACK, AT_ONCE = 0.5, 5.0, 24

MIB = 1024 * 1024


# Scrapes --------------------------------------------------------------------------------------------------------------

OPENMETRICS = "application/openmetrics-text; version=1.0.0"
DOORS = ["/metrics"] * 12 + ["/metrics?name[]=patroni_up&name[]=staytus_up", "/health", "/-/healthy", "/", "/nothing"]


class Wrong(Exception):
    """Something that no fault of an upstream may bring about."""


def ask(port: int, path: str, headers: dict[str, str]) -> tuple[int, str]:
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=30)) as connection:
        connection.request("GET", path, headers=headers)
        answer = connection.getresponse()
        body = answer.read()
    if answer.headers.get("Content-Encoding") == "gzip":
        body = gzip.decompress(body)
    return answer.status, body.decode()


def visit(port: int, chance: random.Random) -> str:
    """Comes through one of the doors and looks at the answer; returns which door it was."""
    path = chance.choice(DOORS)
    accept = chance.choice(("", OPENMETRICS))
    headers = {"Accept": accept, "Accept-Encoding": chance.choice(("", "gzip"))}
    if chance.random() < 0.3:
        headers["X-Prometheus-Scrape-Timeout-Seconds"] = chance.choice(("0.01", "0.6", "0.9", "10", "soon"))
    start = time.monotonic()
    status, text = ask(port, path, headers)
    seconds = time.monotonic() - start
    door = path.partition("?")[0]
    expected = {"/health": (200, 503), "/nothing": (404,)}.get(door, (200,))
    if status not in expected:
        raise Wrong(f"{path}: HTTP {status}: {text[:200]}")
    if seconds > TIMEOUT + SLACK:
        raise Wrong(f"{path}: {seconds:.1f} s")
    if door == "/metrics":
        told = samples(text, accept)
        if "?" not in path:
            look_at(told)
    return door


def samples(text: str, accept: str = "") -> dict[str, dict[tuple[tuple[str, str], ...], float]]:
    """The samples by family and labels; raises Wrong for two of one kind and for what is no number."""
    parse = openmetrics_families if accept else text_string_to_metric_families
    told: dict[str, dict[tuple[tuple[str, str], ...], float]] = {}
    for family in parse(text):
        found = told.setdefault(family.name, {})
        for sample in family.samples:
            labels = (("", sample.name), *sorted(sample.labels.items()))
            if labels in found or not math.isfinite(sample.value):
                raise Wrong(f"{sample.name}{sample.labels}: {sample.value}, and twice: {labels in found}")
            found[labels] = sample.value
    return told


def look_at(told: dict[str, dict[tuple[tuple[str, str], ...], float]]) -> None:
    """Raises Wrong where a document that failed tells something, or a module is up by another's document."""
    for service, collectors in COLLECTORS.items():
        successes = {dict(labels)["collector"]: v for labels, v in told[f"{service}_scrape_collector_success"].items()}
        for collector in collectors:
            rest = [family.name for family in collector.families if family.name in told]
            if rest and successes.get(collector.name) == 0:
                raise Wrong(f"{collector.name} failed and tells {rest}")
        (up,) = told[f"{service}_up"].values()
        if up != successes[collectors[0].name]:
            raise Wrong(f"{service}_up {up}, but {successes}")


# What is compared -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Held:
    """What all workers hold together, and what they tell of healthy upstreams."""

    threads: int
    descriptors: int
    blocks: int
    resident: int
    told: dict[str, Any]


def settled(exporter: Served, port: int) -> Held:
    """Waits until what hangs has been given up and threads have ended, and measures; `told` is the same to the end."""
    workers = exporter.workers()
    time.sleep(ABANDON_AFTER + 2 * TIMEOUT + 2)
    for _ in range(40):
        status, text = ask(port, "/metrics", {})
    own = ("python_", "process_")
    told = {k: v for k, v in samples(text).items() if not k.startswith(own) and "_duration_" not in k}
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
        told={**told, "status": status},
    )


def stress(port: int, seed: int, seconds: float) -> Counter[str]:
    """Scrapes from many sides for so many seconds; returns how often it came through each door."""
    deadline = time.monotonic() + seconds
    doors: Counter[str] = Counter()
    lock = threading.Lock()

    def prometheus(number: int) -> None:
        chance = random.Random(f"{seed} {number}")
        while time.monotonic() < deadline:
            door = visit(port, chance)
            with lock:
                doors[door] += 1

    with ThreadPoolExecutor(AT_ONCE) as pool:
        for running in [pool.submit(prometheus, number) for number in range(AT_ONCE)]:
            running.result()
    return doors


def soak(seconds: float, seed: int, say: Callable[[str], object]) -> list[str]:
    """Runs it, and returns what is wrong at its end."""
    upstream = Faulty(seed)
    with tempfile.TemporaryDirectory() as folder, free_port() as port, Odd(upstream.behave) as server:
        settings = {
            "PATRONI_EXPORTER_PORT": str(port), "PATRONI_EXPORTER_URL": server.url, "STAYTUS_API_URL": server.url,
            "STAYTUS_API_TOKEN": "t0ken", "STAYTUS_API_SECRET": "s3cret", "POLLING_INTERVAL_SECONDS": "1",
            "PATRONI_EXPORTER_TIMEOUT": str(TIMEOUT), "STAYTUS_TIMEOUT": str(TIMEOUT), "EXPORTER_WORKERS": "2",
            "EXPORTER_THREADS": str(AT_ONCE // 3),
        }  # fmt: skip
        with serving(Path(folder), port, COMMAND, environ=settings) as exporter:
            held = []
            for part in (seconds / 4, seconds * 3 / 4):  # what memory the first faults take for good is no leak
                upstream.faulty = True
                doors = stress(port, seed, part)
                upstream.faulty = False
                held.append(settled(exporter, port))
                say(f"{part:.0f} s: {dict(doors)}")
                now = held[-1]
                say(
                    f"  {now.threads} threads, {now.descriptors} descriptors, {now.blocks} blocks, {now.resident} bytes"
                )
            log = exporter.log.read_text().splitlines()
    say(f"requests: {dict(upstream.asked)}")
    say(f"faults: {dict(upstream.faults)}")
    say(f"log: {len(log)} lines")
    before, after = held
    tracebacks = [line for line in log if "Traceback" in line or " level=ERROR " in line]
    wrong = [f"in the log: {line}" for line in tracebacks]
    if after.told != before.told or not all(before.told.get(f"{service}_up") for service in COLLECTORS):
        wrong.append(f"healthy upstreams are not told as before: {before.told} {after.told}")
    bounds = {
        "threads": before.threads + 2,
        "descriptors": before.descriptors + 2,
        "blocks": 1.01 * before.blocks,
        "resident": 2 * before.resident + 64 * MIB,  # each answer that were kept would be 16 MiB
    }
    wrong += [
        f"{what}: {getattr(before, what)} before, {getattr(after, what)} after"
        for what, bound in bounds.items()
        if getattr(after, what) > bound
    ]
    return wrong


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=180, help="how long to scrape, two waits of 11 s not counted")
    parser.add_argument("--seed", type=int, default=random.randrange(10**6), help="what the faults follow from")
    given = parser.parse_args()

    def say(line: str) -> None:
        sys.stdout.write(line + "\n")
        sys.stdout.flush()

    say(f"seed {given.seed}")
    wrong = soak(given.seconds, given.seed, say)
    for line in wrong:
        say(f"WRONG: {line}")
    say("failed" if wrong else "all is as it was")
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main())
