"""Soak test: a real gunicorn with faulty upstreams and hostile clients serves Prometheus, and then is as it was.

    python -m tests.soak --seconds 180 --seed 7

The faults depend on the seed, which is printed, and on the number of requests.
"""

import argparse
import contextlib
import multiprocessing
import random
import resource
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from http.client import HTTPException
from pathlib import Path

from exporter.collectors import COLLECTORS
from tests.limits.faults import Faulty
from tests.limits.servers import Odd
from tests.live.processes import Served, free_port, serving
from tests.soak.attacks import TARGETS, Attack
from tests.soak.resources import COMMAND, Held, lines_per_minute, resident, settled
from tests.soak.scrapes import TIMEOUT, Scraped, Wrong, get, prometheus, request
from tests.web_config import ALICE, hashed, web_config

#: Threads of the exporter, scrapes with random headers at once, and the cost of bcrypt that Prometheus recommends.
THREADS, CLIENTS, COST = 64, 8, 10

MODULES = """\
modules:
  healthy: {collector: patroni, targets: [127.0.0.1]}
  fleet: {collector: patroni, timeout: 1s, targets: [127.0.0.0/8]}
  paths: {collector: patroni, collect: [node, cluster], allow_paths: true, timeout: 1s, targets: [127.0.0.0/8]}
  large: {collector: staytus, token: t, secret: s, targets: [127.0.0.1]}
"""

#: Bounds: seconds in which 99 of 100 responses arrive, lines of the log in a minute, and MiB of memory that remain.
P99, LINES, MEMORY = 2.0, 300, 30

#: Counters that show that the attacks took place.
ATTACKED = (
    "requests_refused_total{host}",
    "requests_abandoned_total{}",
    "probes_refused_total{requests}",
    "connections_closed_total{request}",
    "connections_closed_total{connections}",
    "logins_refused_total{wrong}",
    "logins_refused_total{busy}",
)


class Soak:
    """One exporter with its upstreams; `wrong` are the assertions that failed."""

    def __init__(self, seed: int, say: Callable[[str], object]) -> None:
        self._seed = seed
        self._say = say
        self.wrong: list[str] = []
        self._upstream = Faulty(seed)

    def run(self, seconds: float) -> None:
        with self._exporter() as exporter, free_ports() as (hung, mortal, large):
            self._warm_up(exporter)
            before = settled(exporter, exporter.port)
            self._say(f"before: {before}")
            attack = Attack(exporter.port, self._seed, hung, mortal, large)
            scraped = self._attack(exporter, attack, seconds)
            after = settled(exporter, exporter.port)
            self._say(f"after: {after}")
            log = exporter.log.read_text().splitlines()
        self._say(f"requests of the exporter: {dict(self._upstream.requests)}")
        self._say(f"faults: {dict(self._upstream.faults)}")
        self._say(f"attacks: {dict(attack.counts)}")
        self._say(f"counters: {scraped.counters}")
        self.wrong += attack.wrong
        self._check_scrapes(scraped)
        self._check_resources(before, after)
        self._check_log(log)

    @contextlib.contextmanager
    def _exporter(self) -> Iterator[Served]:
        with tempfile.TemporaryDirectory() as name, free_port() as port, Odd(self._upstream.behave) as server:
            modules = Path(name, "modules.yml")
            modules.write_text(MODULES)
            user, password = ALICE
            settings = {
                "PATRONI_EXPORTER_PORT": str(port), "PATRONI_EXPORTER_URL": server.url, "STAYTUS_API_URL": server.url,
                "STAYTUS_API_TOKEN": "t0ken", "STAYTUS_API_SECRET": "s3cret", "POLLING_INTERVAL_SECONDS": "1",
                "PATRONI_EXPORTER_TIMEOUT": str(TIMEOUT), "STAYTUS_TIMEOUT": str(TIMEOUT),
                "EXPORTER_THREADS": str(THREADS), "EXPORTER_CONFIG_FILE": str(modules),
                "EXPORTER_WEB_CONFIG_FILE": web_config(
                    Path(name), f"basic_auth_users: {{{user}: {hashed(password, COST)}}}"
                ),
            }  # fmt: skip
            with serving(Path(name), port, COMMAND, environ=settings) as exporter:
                yield exporter

    def _warm_up(self, exporter: Served) -> None:
        """Lets the exporter remember the login and start threads."""
        get(exporter.port, "/metrics")
        with ThreadPoolExecutor(2 * THREADS) as pool:
            list(pool.map(lambda _: get(exporter.port, "/metrics"), range(10 * THREADS)))

    def _attack(self, exporter: Served, attack: Attack, seconds: float) -> Scraped:
        """Does everything at once for so many seconds."""
        self._upstream.faulty = True
        attackers = threading.Thread(target=attack.run)
        attackers.start()
        spawn = multiprocessing.get_context("spawn")
        try:
            with ProcessPoolExecutor(1, spawn) as process, ThreadPoolExecutor(CLIENTS) as pool:
                running = process.submit(prometheus, exporter.port, seconds)
                end = time.monotonic() + seconds
                scrapes = [pool.submit(self._scrape, exporter.port, number, end) for number in range(CLIENTS)]
                while not running.done():
                    time.sleep(min(15.0, seconds))
                    self._say(f"  {resident(exporter):.1f} MiB, {sum(attack.counts.values())} attacks")
                scraped = running.result()
                endpoints = sum((scrape.result() for scrape in scrapes), Counter[str]())
        finally:
            attack.stop()
            attackers.join()
            self._upstream.faulty = False
        self._say(f"random scrapes: {dict(endpoints)}")
        return scraped

    def _scrape(self, port: int, number: int, end: float) -> Counter[str]:
        chance = random.Random(f"{self._seed} {number}")
        endpoints: Counter[str] = Counter()
        while time.monotonic() < end:
            try:
                endpoints[request(port, chance)] += 1
            except (OSError, HTTPException, Wrong) as error:
                self.wrong.append(f"random scrape: {error or type(error).__name__}")
        return endpoints

    def _check_scrapes(self, scraped: Scraped) -> None:
        for endpoint, seconds in scraped.seconds.items():
            p99 = scraped.quantile(endpoint, 0.99)
            self._say(
                f"{endpoint}: {len(seconds)} responses, p50 {scraped.quantile(endpoint, 0.5):.3f} s, p99 {p99:.3f} s, "
                f"slowest {max(seconds):.3f} s"
            )
            if p99 > P99:
                self.wrong.append(f"{endpoint}: p99 {p99:.3f} s")
        self.wrong += scraped.failures
        self.wrong += [f"a counter went back: {text}" for text in scraped.went_back]
        counters = {name.removeprefix("patroni_staytus_exporter_"): n for name, n in scraped.counters.items()}
        self.wrong += [f"the attack did not take place: {name} is 0" for name in ATTACKED if not counters.get(name)]

    def _check_resources(self, before: Held, after: Held) -> None:
        self.wrong += [
            f"{name}: {before.samples.get(name)} before, {after.samples.get(name)} after"
            for name in before.samples.keys() | after.samples.keys() | {f"{service}_up" for service in COLLECTORS}
            if before.samples.get(name) != after.samples.get(name) or name not in before.samples
        ]
        bounds = {
            "threads": before.threads + 2,
            "descriptors": before.descriptors + 2,
            "blocks": 1.1 * before.blocks,
            "resident": before.resident + MEMORY,
            "in_flight": 0,
        }
        self.wrong += [
            f"{what}: {getattr(before, what)} before, {getattr(after, what)} after, at most {bound}"
            for what, bound in bounds.items()
            if getattr(after, what) > bound
        ]

    def _check_log(self, log: list[str]) -> None:
        most = max(lines_per_minute(log).values())
        self._say(f"log: {len(log)} lines, at most {most} in a minute")
        if most > LINES:
            self.wrong.append(f"the log has {most} lines in a minute")
        self.wrong += [f"in the log: {line}" for line in log if "traceback" in line.lower() or " level=ERROR " in line]


@contextlib.contextmanager
def free_ports(number: int = 3) -> Iterator[list[int]]:
    """Ports that are free on all addresses."""
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(free_port("0.0.0.0")) for _ in range(number)]


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=180, help="duration, without starting and settling")
    parser.add_argument("--seed", type=int, default=random.randrange(10**6), help="seed of the faults")
    given = parser.parse_args()
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))

    def say(line: str) -> None:
        sys.stdout.write(line + "\n")
        sys.stdout.flush()

    say(f"seed {given.seed}, {TARGETS} targets")
    soak = Soak(given.seed, say)
    soak.run(given.seconds)
    for text, times in Counter(soak.wrong).items():
        say(f"WRONG: {text}" + (f" ({times} times)" if times > 1 else ""))
    say("failed" if soak.wrong else "passed: Prometheus was served throughout, and all is as it was")
    return bool(soak.wrong)


if __name__ == "__main__":
    sys.exit(main())
