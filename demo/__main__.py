"""Brings up everything that the exporter is about: `python -m demo` stays until Ctrl-C, `--once` shows it and ends."""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from demo import DemoError
from demo.cluster import Cluster
from demo.node import HOST, Node, Ports
from demo.processes import end, first_answer
from demo.prometheus import prometheus
from demo.staytus import Staytus

ROOT = Path(__file__).parents[1]
FIRST_PORT = 9547
SHOWN = re.compile(r"patroni_up\b.*|patroni_(primary|replica)(\{.*\})? 1\.0")
STATUS = re.compile(r"service_status\{.*\} 1\.0")


def say(line: str = "") -> None:
    """Print at once, also into a pipe."""
    print(line, flush=True)


@dataclass(frozen=True)
class Exporter:
    """The exporter of one node, as a process of its own."""

    node: Node
    port: int
    log: Path
    process: subprocess.Popen[Any]

    @property
    def url(self) -> str:
        """What Prometheus scrapes."""
        return f"http://{self.address}/metrics"

    @property
    def address(self) -> str:
        """The target of Prometheus."""
        return f"{HOST}:{self.port}"

    @classmethod
    def start(cls, node: Node, port: int, cluster: Cluster, staytus: Staytus) -> Exporter:
        """Start it, for this node and for Staytus; ends with the cluster at the latest."""
        argv = ["--bind", HOST, "--port", str(port), "--patroni-url", node.url + "/patroni"]
        given = {
            "STAYTUS_API_URL": staytus.url, "STAYTUS_API_TOKEN": staytus.token, "STAYTUS_API_SECRET": staytus.secret,
        }  # fmt: skip
        log = cluster.folder / f"exporter-{node.name}.log"
        with log.open("wb") as out:
            process = subprocess.Popen(
                [sys.executable, "-m", "exporter", *argv], cwd=ROOT, env={**os.environ, **given, **cluster.marked},
                stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT, start_new_session=True,
            )  # fmt: skip
        return cls(node, port, log, process)

    def scrape(self) -> str:
        """The text of /metrics; raises OSError when there is none."""
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(self.url, timeout=10) as answer:
            return str(answer.read().decode())

    def first_scrape(self) -> str:
        """The first scrape that works, waiting for it."""
        return first_answer(f"the exporter of {self.node.name}", self.process, self.log, self.scrape)


@contextlib.contextmanager
def exporters(cluster: Cluster, staytus: Staytus) -> Iterator[list[Exporter]]:
    """One exporter per node, on the usual port and the following ones where they are free, else on any."""
    ports, running = Ports(), list[Exporter]()
    try:
        for index, node in enumerate(cluster.nodes):
            port = ports.prefer(FIRST_PORT + index, cluster.programs.cache)
            running.append(Exporter.start(node, port, cluster, staytus))
        yield running
    finally:
        for exporter in running:
            exporter.process.terminate()
        for exporter in running:
            end(exporter.process)
        ports.release()


def show(cluster: Cluster, running: list[Exporter]) -> None:
    """Print where everything is, and what a first scrape of each exporter says."""
    scrapes = [(exporter, exporter.first_scrape().splitlines()) for exporter in running]
    leader = cluster.leader()
    say(f"\n{'node':6}{'role':10}{'Patroni REST':26}exporter")
    for exporter in running:
        role = "leader" if exporter.node == leader else "replica"
        say(f"{exporter.node.name:6}{role:10}{exporter.node.url:26}{exporter.url}")
    for exporter, lines in scrapes:
        say(f"\nfirst scrape of {exporter.node.name}:")
        for line in filter(SHOWN.fullmatch, lines):
            say(f"  {line}")
    say("\nand of Staytus (the stand-in), the same from each exporter:")
    for line in filter(STATUS.fullmatch, scrapes[0][1]):
        say(f"  {line}")


def stay(cluster: Cluster, running: list[Exporter]) -> None:
    """Start Prometheus where it is installed, say where to look, and stay until Ctrl-C."""
    with prometheus(cluster, [exporter.address for exporter in running]) as alerts:
        say("\nwhere to look:")
        say(f"  a page for people   http://{running[0].address}/")
        if alerts:
            say(f"  alerts              {alerts} (RUNBOOK.md says what each means)")
        else:
            say("  alerts              nowhere: Prometheus is not installed (no `prometheus` on PATH)")
        say("  dashboards          monitoring/grafana, to import into Grafana")
        say("\nCtrl-C takes everything down")
        while True:
            signal.pause()


def demo(once: bool) -> None:
    """The whole demo: cluster, stand-in, exporters, Prometheus; with `once` it ends when it has shown first scrapes."""
    with Cluster(say=say) as cluster, Staytus() as staytus:
        say(f"Staytus: {staytus.url} is a stand-in that replays recorded answers, not a real Staytus")
        say("starting one exporter per node")
        with exporters(cluster, staytus) as running:
            show(cluster, running)
            if not once:
                stay(cluster, running)


def _stop(_signal: int, _frame: FrameType | None) -> None:
    """The first signal ends the demo; further ones must not disturb it while it takes everything down."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    os.write(1, b"\ntaking everything down\n")
    raise KeyboardInterrupt


def main() -> int:
    """Run the demo; 0 when it was stopped or has shown everything, 1 when something did not work."""
    parser = argparse.ArgumentParser(prog="python -m demo", description=__doc__)
    parser.add_argument("--once", action="store_true", help="show the first scrapes, take everything down and end")
    once = parser.parse_args().once
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _stop)
    try:
        demo(once)
    except KeyboardInterrupt:
        pass
    except (DemoError, OSError) as error:
        print(f"demo: {error}", file=sys.stderr)
        return 1
    say("everything is down")
    return 0


if __name__ == "__main__":
    sys.exit(main())
