"""Runs a Patroni cluster with exporters until Ctrl-C; with --once, prints the first scrapes and exits."""

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
from demo.node import HOST, Node, Ports, dynamic_config
from demo.processes import end, first_response
from demo.prometheus import LOG, alert_after, prometheus
from demo.staytus import Staytus

ROOT = Path(__file__).parents[1]
FIRST_PORT = 9547
SHOWN = re.compile(r"patroni_up\b.*|patroni_(primary|replica)(\{.*\})? 1\.0")
STATUS = re.compile(r"service_status\{.*\} 1\.0")


def say(line: str = "") -> None:
    """Print and flush, for pipes."""
    print(line, flush=True)


@dataclass(frozen=True)
class Exporter:
    """The exporter process of one node."""

    node: Node
    port: int
    log: Path
    process: subprocess.Popen[Any]

    @property
    def url(self) -> str:
        """The URL that Prometheus scrapes."""
        return f"http://{self.address}/metrics"

    @property
    def address(self) -> str:
        """The target in Prometheus' configuration."""
        return f"{HOST}:{self.port}"

    @classmethod
    def start(cls, node: Node, port: int, cluster: Cluster, staytus: Staytus) -> Exporter:
        """Start the exporter for this node and for Staytus. The end of the cluster ends it too."""
        argv = ["--bind", HOST, "--port", str(port), "--patroni-url", node.url + "/patroni"]
        environ = {
            "STAYTUS_API_URL": staytus.url, "STAYTUS_API_TOKEN": staytus.token, "STAYTUS_API_SECRET": staytus.secret,
        }  # fmt: skip
        log = cluster.folder / f"exporter-{node.name}.log"
        with log.open("wb") as out:
            process = subprocess.Popen(
                [sys.executable, "-m", "exporter", *argv], cwd=ROOT, env={**os.environ, **environ, **cluster.environ},
                stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT, start_new_session=True,
            )  # fmt: skip
        return cls(node, port, log, process)

    def scrape(self) -> str:
        """Return the text of /metrics; raises OSError if the scrape fails."""
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(self.url, timeout=10) as response:
            return str(response.read().decode())

    def first_scrape(self) -> str:
        """Wait for the first successful scrape and return it."""
        return first_response(f"the exporter of {self.node.name}", self.process, self.log, self.scrape)


@contextlib.contextmanager
def exporters(cluster: Cluster, staytus: Staytus) -> Iterator[list[Exporter]]:
    """Run one exporter per node, on port 9547 and the next ones if they are free, else on other free ports."""
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
    """Print the URLs of all nodes and exporters, and the first scrape of each exporter."""
    scrapes = [(exporter, exporter.first_scrape().splitlines()) for exporter in running]
    leader = cluster.leader()
    say(f"\n{'node':6}{'role':10}{'Patroni REST':34}exporter")
    for exporter in running:
        role = "leader" if exporter.node == leader else "replica"
        say(f"{exporter.node.name:6}{role:10}{exporter.node.url + '/patroni':34}{exporter.url}")
    for exporter, lines in scrapes:
        say(f"\nfirst scrape of {exporter.node.name}:")
        for line in filter(SHOWN.fullmatch, lines):
            say(f"  {line}")
    say("\nStaytus (a fake), the same from each exporter:")
    for line in filter(STATUS.fullmatch, scrapes[0][1]):
        say(f"  {line}")


def stay(cluster: Cluster, staytus: Staytus, running: list[Exporter]) -> None:
    """Start Prometheus if it is installed, print the URLs and what to try, and wait for Ctrl-C."""
    with prometheus(cluster, [exporter.address for exporter in running]) as alerts:
        say("\nURLs:")
        for exporter in running:
            say(f"  landing page of {exporter.node.name}  http://{exporter.address}/")
        if alerts:
            say(f"  alerts              {alerts} (see RUNBOOK.md; those of Staytus fire from the start)")
        else:
            say("  alerts              none: Prometheus is not installed (no `prometheus` on PATH)")
        say("  dashboards          import the files in monitoring/grafana into Grafana")
        token, secret = (f"-H '{name}: {value}'" for name, value in staytus.headers.items())
        say(f"  Staytus (a fake)    curl {token} {secret} {staytus.url}api/v1/services/all")
        say("\nlogs:")
        for path in (*(node.log for node in cluster.nodes), *(exporter.log for exporter in running)):
            say(f"  {path}")
        if alerts:
            say(f"  {cluster.folder}/{LOG}")
            say("\ntry, in another terminal; nothing is started again:")
            for fault in faults(cluster, running):
                say(f"  {fault}")
        say("\npress Ctrl-C to stop everything")
        while True:
            signal.pause()


def faults(cluster: Cluster, running: list[Exporter]) -> Iterator[str]:
    """Commands that break something, and the alerts to expect, with the time until they fire."""
    ttl = float(dynamic_config()["ttl"])  # seconds until the leader key of a killed leader expires
    leader = cluster.leader()
    replica, *_, other = (exporter for exporter in running if exporter.node != leader)
    if leader:
        expected = [alert_after("PatroniSplitBrainPossible", ttl), alert_after("PatroniFailover", ttl)]
        yield f"kill -9 {cluster.pid(leader)}  # Patroni of {leader.name}, the leader: expect {', '.join(expected)}"
    name, expected = replica.node.name, [alert_after("PatroniUnreachable")]
    yield f"kill -9 {cluster.pid(replica.node)}  # Patroni of {name}, a replica: expect {', '.join(expected)}"
    yield f"kill {other.process.pid}  # the exporter of {other.node.name}: expect {alert_after('ExporterDown')}"


def demo(once: bool) -> None:
    """Run cluster, fake Staytus, exporters and Prometheus; with `once`, return after the first scrapes."""
    with Cluster(say=say) as cluster, Staytus() as staytus:
        say("starting a fake Staytus that replays recorded responses")
        say("starting one exporter per node")
        with exporters(cluster, staytus) as running:
            show(cluster, running)
            if not once:
                stay(cluster, staytus, running)


def _stop(_signal: int, _frame: FrameType | None) -> None:
    """Stop at the first signal and ignore further ones during the shutdown."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    os.write(1, b"\nstopping everything\n")
    raise KeyboardInterrupt


def main() -> int:
    """Run the demo and return the exit status: 1 after an error, else 0."""
    parser = argparse.ArgumentParser(prog="python -m demo", description=__doc__)
    parser.add_argument("--once", action="store_true", help="print the first scrapes, stop everything and exit")
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
    say("everything is stopped")
    return 0


if __name__ == "__main__":
    sys.exit(main())
