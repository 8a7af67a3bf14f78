"""The drill: a cluster goes wrong before a real Prometheus with the shipped rules; these alerts fire, and no others.

`make drill` runs it alone. The rules are taken at another pace, as a quarter of an hour is too long for a test: how
long something must last (`for`) is divided by PACE, the windows that are looked back over by LOOK_BACK. Patroni's times
are as they are; its ttl is the least that it takes, 20 seconds. Some thresholds are others, as thresholds.yml is for.
"""

import re
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from demo.node import Node
from demo.processes import send
from tests.live.cluster import Lab, lab
from tests.live.installed import needs
from tests.live.processes import ROOT
from tests.live.prometheus import Prometheus, prometheus

pytestmark = needs("prometheus")

PACE = 8
LOOK_BACK = 30

THRESHOLDS = {
    "patroni:threshold_lag_bytes": 8 << 20,
    "patroni:threshold_paused_seconds": 15,
    "patroni:threshold_leader_changed_seconds": 20,
}

SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def faster(duration: str, times: int) -> str:
    """The duration of a rule, so many times shorter."""
    number, unit = int(duration[:-1]), duration[-1]
    return f"{number * SECONDS[unit] * 1000 // times}ms"


def quickened(folder: Path) -> list[Path]:
    """The shipped rules at the pace of the drill, written into the folder; nothing else of them is changed."""
    files = []
    for shipped in sorted((ROOT / "monitoring" / "rules").glob("*.yml")):
        document = yaml.safe_load(shipped.read_text())
        for rule in (rule for group in document["groups"] for rule in group["rules"]):
            rule["expr"] = re.sub(
                r"(\[|offset )(\d+[smhd])", lambda found: found[1] + faster(found[2], LOOK_BACK), rule["expr"]
            )
            if "for" in rule:
                rule["for"] = faster(rule["for"], PACE)
            if rule.get("record") in THRESHOLDS:
                rule["expr"] = f"vector({THRESHOLDS[rule['record']]})"
        files.append(folder / shipped.name)
        files[-1].write_text(yaml.safe_dump(document))
    return files


@dataclass(frozen=True)
class Drill:
    """A cluster with its exporters, and the Prometheus that watches them."""

    lab: Lab
    prometheus: Prometheus
    started: float

    def expect(self, *alerts: str, seconds: float) -> None:
        """Waits until these alerts fire, and no others."""
        deadline = time.monotonic() + seconds
        while (found := self.prometheus.firing()) != set(alerts):
            if time.monotonic() > deadline:
                pytest.fail(f"after {seconds:g} s\nexpected {sorted(alerts)},\nfiring   {sorted(found)}")
            time.sleep(0.5)

    def fired(self) -> set[str]:
        """All that fired since the beginning of this test."""
        return self.prometheus.fired(self.started, time.time())


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Lab, Prometheus]]:
    folder = tmp_path_factory.mktemp("drill")
    with lab("4.1.5", 3) as lab_of_three:
        targets = [f"127.0.0.1:{exporter.port}" for exporter in lab_of_three.exporters.values()]
        configuration = {
            "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
            "rule_files": [str(file) for file in quickened(folder)],
            "scrape_configs": [{"job_name": "patroni", "static_configs": [{"targets": targets}]}],
        }
        with prometheus(folder, configuration) as running:
            yield lab_of_three, running


@pytest.fixture
def drill(watched: tuple[Lab, Prometheus]) -> Drill:
    """All is well whatever the test before left, Prometheus knows every member, and no alert fires."""
    lab_of_three, running = watched
    for node in lab_of_three.nodes:
        if not lab_of_three.cluster.runs(node):
            lab_of_three.cluster.start_node(node)
    lab_of_three.cluster.resume()
    lab_of_three.cluster.wait_healthy(60, lab_of_three.nodes)
    lab_of_three.cluster.wait("the members", lambda: running.query("sum(patroni:member_up)") == [({}, 3.0)], 30)
    drill = Drill(lab_of_three, running, time.time())
    drill.expect(seconds=90)
    return Drill(lab_of_three, running, time.time())


def test_rules_at_the_pace_of_the_drill_are_the_shipped_ones(tmp_path: Path) -> None:
    expected = {
        "PatroniNoLeader": ("7500ms", []),
        "PatroniMemberMissing": ("37500ms", ["[120000ms"]),
        "PatroniFailover": ("7500ms", ["[30000ms"] * 3),
        "PatroniReplicaLagGrowing": ("75000ms", ["[30000ms", "offset 10000ms", "[120000ms"]),
        "PatroniPaused": (None, []),
    }
    rules = [
        rule for file in quickened(tmp_path) for g in yaml.safe_load(file.read_text())["groups"] for rule in g["rules"]
    ]
    found = {rule.get("alert"): (rule.get("for"), re.findall(r"(?:\[|offset )\d+\w+", rule["expr"])) for rule in rules}
    assert {alert: found[alert] for alert in expected} == expected


def test_nothing_fires_in_peace(drill: Drill) -> None:
    time.sleep(12)
    assert drill.fired() == set()


def test_switchover_is_told_as_a_change_of_the_leader_and_as_nothing_else(drill: Drill) -> None:
    drill.lab.cluster.switchover()
    drill.expect("PatroniLeaderChanged", seconds=20)
    drill.expect(seconds=60)
    assert drill.fired() == {"PatroniLeaderChanged"}


def test_maintenance_with_one_replica_stopped_and_the_other_one_lagging(drill: Drill) -> None:
    stopped, lagging = drill.lab.replicas
    drill.lab.pause()
    drill.lab.cluster.stop_postgres(stopped)
    receiver = _receiver(drill.lab, lagging)
    send([receiver], signal.SIGSTOP)
    try:
        _write(drill.lab, mebibytes=12)
        expected = {
            "PatroniPaused",
            "PatroniConfigChanged",
            f"PatroniMemberDown {stopped.name}",
            f"PatroniReplicaLag {lagging.name}",
            "PatroniNoFailoverCandidate",
        }
        drill.lab.cluster.wait("them to fire", lambda: drill.fired() >= expected, 90)
    finally:
        send([receiver], signal.SIGCONT)
    drill.lab.cluster.resume()
    drill.expect(seconds=90)
    assert drill.fired() == expected


def test_lost_leader_is_told_until_it_is_back(drill: Drill) -> None:
    lost = drill.lab.leader
    drill.lab.cluster.kill_node(lost)
    expected = {
        "PatroniUnreachable",
        "PatroniLeaderChanged",
        f"PatroniFailover {lost.name}",
        f"PatroniMemberMissing {lost.name}",
    }
    drill.lab.cluster.wait("them to fire", lambda: drill.fired() >= expected, 120)
    drill.lab.cluster.start_node(lost)
    drill.lab.cluster.wait_healthy(60, drill.lab.nodes)
    drill.expect(seconds=60)
    assert drill.fired() == expected


def _receiver(lab_of_three: Lab, node: Node) -> int:
    """The process that receives WAL on a replica."""
    return int(lab_of_three.cluster.sql(node, "SELECT pid FROM pg_stat_wal_receiver")[0][0])


def _write(lab_of_three: Lab, mebibytes: int) -> None:
    """Has the leader write so much WAL."""
    statement = (
        f"SELECT pg_logical_emit_message(true, 'drill', repeat('x', 1048576)) FROM generate_series(1, {mebibytes})"
    )
    lab_of_three.cluster.sql(lab_of_three.leader, statement)
