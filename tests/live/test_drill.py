"""The drill: clusters go wrong in front of a real Prometheus and a real Alertmanager.

`make drill` runs it alone and prints what fired, what was inhibited and what the pager got. The rules run faster: how
long something must last (`for`) is divided by PACE, the windows that they look back by LOOK_BACK. Patroni's `ttl` is
the least that it allows, 20 seconds.

Two clusters have the scope `main` and one etcd. `prod` has three members, which one exporter discovers in etcd and
probes, one of them as the view of the cluster. `dev` has one member with an exporter beside it.
"""

import re
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import yaml

from demo.cluster import Cluster
from demo.node import HOST, Node
from demo.processes import send
from monitoring.mixin import render
from tests.live.alertmanager import Alertmanager, alertmanager
from tests.live.cluster import leader_of
from tests.live.etcd import Etcd, EtcdCluster, etcd
from tests.live.installed import needs
from tests.live.processes import MODULE, ROOT, Served, free_port, serving, until
from tests.live.prometheus import Prometheus, prometheus

pytestmark = [needs("prometheus", "prometheus-alertmanager", "etcd"), pytest.mark.timeout(600)]

HTTP_SD = ROOT / "deploy" / "prometheus" / "http_sd.yml"

PACE = 8
LOOK_BACK = 30

#: Thresholds of the mixin for the drill. `for` of PatroniPaused is 15 seconds at its pace.
CONFIG = "{ lagBytes: 8388608, candidateLagBytes: 4194304, pausedFor: '2m' }"

SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}

PAGER, TEAM = "pager", "team"


def faster(duration: str, times: int) -> str:
    """The duration of a rule, so many times shorter."""
    number, unit = int(duration[:-1]), duration[-1]
    return f"{number * SECONDS[unit] * 1000 // times}ms"


def quickened(folder: Path) -> list[Path]:
    """The rules at the pace of the drill, written into the folder."""
    files = []
    for name, text in render(CONFIG).items():
        if not name.startswith("rules/"):
            continue
        document = yaml.safe_load(text)
        for group in document["groups"]:
            group.pop("interval", None)
            for rule in group["rules"]:
                rule["expr"] = re.sub(
                    r"(\[|offset )(\d+[smhd])", lambda found: found[1] + faster(found[2], LOOK_BACK), rule["expr"]
                )
                for key in rule.keys() & {"for", "keep_firing_for"}:
                    rule[key] = faster(rule[key], PACE)
        files.append(folder / Path(name).name)
        files[-1].write_text(yaml.safe_dump(document))
    return files


@dataclass
class Drill:
    """The clusters, and the servers that watch them."""

    prod: Cluster
    dev: Cluster
    dcs: Etcd
    sidecar: ExitStack
    prometheus: Prometheus
    alertmanager: Alertmanager
    started: float = 0
    inhibited: set[str] = field(default_factory=set)

    def begin(self) -> None:
        """Forgets what has fired until now."""
        self.started = time.time()
        self.inhibited = set()
        self.alertmanager.notified.clear()

    def fired(self) -> set[str]:
        """The alerts that fired since the beginning of this test, as `namespace alert member`."""
        return self.prometheus.fired(self.started, time.time())

    def wait(self, *alerts: str, seconds: float) -> None:
        """Waits until all these alerts have fired."""
        deadline = time.monotonic() + seconds
        while not self.fired() >= set(alerts):
            self.looked()
            if time.monotonic() > deadline:
                pytest.fail(
                    f"after {seconds:g} s {sorted(set(alerts) - self.fired())} did not fire: {sorted(self.fired())}"
                )
            time.sleep(0.5)
        until(lambda: set(alerts) <= self.looked() | self.notified(PAGER) | self.notified(TEAM), 30)

    def quiet(self, seconds: float) -> None:
        """Waits until no alert fires."""
        deadline = time.monotonic() + seconds
        while found := self.prometheus.firing():
            self.looked()
            if time.monotonic() > deadline:
                pytest.fail(f"after {seconds:g} s still firing: {sorted(found)}")
            time.sleep(0.5)

    def notified(self, receiver: str) -> set[str]:
        """The alerts that the receiver got."""
        return {named(labels) for labels in self.alertmanager.notified.get(receiver, [])}

    def looked(self) -> set[str]:
        """The alerts that were inhibited at any time since the beginning of this test."""
        self.inhibited |= {named(labels) for labels in self.alertmanager.alerts()[True]}
        return self.inhibited


def named(labels: dict[str, str]) -> str:
    return " ".join(filter(None, [labels.get("namespace"), labels["alertname"], labels.get("name")]))


def exporter(folder: Path, port: int, *arguments: str) -> tuple[Path, int, list[str]]:
    return folder, port, [*MODULE, "--bind", HOST, "--port", str(port), *arguments]


def beside(drill: Drill, node: Node, port: int) -> Served:
    """Starts the exporter beside the node of `dev`."""
    folder, port, command = exporter(drill.dev.folder, port, "--patroni-url", f"{node.url}/patroni")
    return drill.sidecar.enter_context(serving(folder, port, command, environ=drill.dev.environ))


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Drill, int]]:
    folder = tmp_path_factory.mktemp("drill")
    with ExitStack() as stack:
        dcs = stack.enter_context(etcd(folder))
        prod, dev = (
            stack.enter_context(EtcdCluster(dcs, namespace, nodes, "main", {"loop_wait": 1}))
            for namespace, nodes in (("prod", 3), ("dev", 1))
        )
        port, sidecar_port = stack.enter_context(free_port()), stack.enter_context(free_port())
        module = {
            "collector": "patroni",
            "targets": [HOST],
            "timeout": "2s",
            "discovery": {"etcd": {"endpoints": [f"http://{HOST}:{dcs.port}"], "prefix": "/prod/"}},
        }
        modules = folder / "modules.yml"
        modules.write_text(yaml.safe_dump({"modules": {"patroni": module}}))
        _, _, command = exporter(folder, port)
        stack.enter_context(serving(folder, port, [*command, "--config.file", str(modules)]))
        notifier = stack.enter_context(alertmanager(folder, group_wait="6s", group_interval="3s"))
        shipped = yaml.safe_load(HTTP_SD.read_text().replace("exporter.example.org:9547", f"{HOST}:{port}"))
        clusters, own = shipped["scrape_configs"]
        clusters.update(scrape_interval="2s", scrape_timeout="2s")
        clusters["http_sd_configs"][0]["refresh_interval"] = "2s"
        clusters["relabel_configs"].append({"target_label": "namespace", "replacement": "prod"})
        configuration = {
            "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
            "rule_files": [str(file) for file in quickened(folder)],
            "alerting": {"alertmanagers": [{"static_configs": [{"targets": [notifier.address]}]}]},
            "scrape_configs": [
                clusters,
                own,
                {
                    "job_name": "patroni",
                    "static_configs": [{"targets": [f"{HOST}:{sidecar_port}"], "labels": {"namespace": "dev"}}],
                },
            ],
        }
        watching = stack.enter_context(prometheus(folder, configuration))
        drill = Drill(prod, dev, dcs, stack.enter_context(ExitStack()), watching, notifier)
        beside(drill, dev.nodes[0], sidecar_port)
        yield drill, sidecar_port


@pytest.fixture
def drill(
    running: tuple[Drill, int], request: pytest.FixtureRequest, capsys: pytest.CaptureFixture[str]
) -> Iterator[Drill]:
    """All is well and no alert fires; afterwards the result is printed."""
    drill, _ = running
    drill.prod.wait_healthy(90, drill.prod.nodes)
    drill.dev.wait_healthy(90, drill.dev.nodes)
    drill.prod.wait("members", lambda: drill.prometheus.query("sum(patroni:member_up)") == [({}, 4.0)], 60)
    drill.quiet(90)
    time.sleep(4)  # Alertmanager sends what is resolved
    drill.begin()
    yield drill
    result = {"fired": drill.fired(), "inhibited": drill.inhibited & drill.fired(), "pager": drill.notified(PAGER)}
    lines = [f"    {what:9} {', '.join(sorted(alerts)) or '-'}" for what, alerts in result.items()]
    with capsys.disabled():
        sys.stdout.write("\n".join(["", f"  {request.node.name.removeprefix('test_')}", *lines, ""]))


def test_rules_at_the_pace_of_the_drill(tmp_path: Path) -> None:
    """Only durations differ from the rules that are rendered with the same configuration."""
    rules = [r for file in quickened(tmp_path) for g in yaml.safe_load(file.read_text())["groups"] for r in g["rules"]]
    found = {
        r.get("alert"): (r.get("for"), r.get("keep_firing_for"), re.findall(r"(?:\[|offset )\d+\w+", r["expr"]))
        for r in rules
    }
    assert {alert: found[alert] for alert in ("PatroniNoLeader", "PatroniReplicaLagGrowing", "PatroniPaused")} == {
        "PatroniNoLeader": ("7500ms", None, []),
        "PatroniReplicaLagGrowing": ("75000ms", "37500ms", ["[30000ms", "offset 10000ms", "[120000ms"]),
        "PatroniPaused": ("15000ms", None, ["[10000ms"]),
    }


def test_peace(drill: Drill) -> None:
    time.sleep(12)
    assert drill.fired() == set()


def test_switchover(drill: Drill) -> None:
    drill.prod.switchover()
    time.sleep(12)
    assert drill.fired() == set()


def test_maintenance_with_one_replica_stopped_and_the_other_one_lagging(drill: Drill) -> None:
    stopped, lagging = drill.prod.replicas()
    drill.prod.pause()
    drill.prod.stop_postgres(stopped)
    receiver = int(drill.prod.sql(lagging, "SELECT pid FROM pg_stat_wal_receiver")[0][0])
    send([receiver], signal.SIGSTOP)
    expected = {"prod PatroniPaused", f"prod PatroniReplicaLag {lagging.name}"}
    try:
        message = "SELECT pg_logical_emit_message(true, 'drill', repeat('x', 1048576)) FROM generate_series(1, 12)"
        drill.prod.sql(leader_of(drill.prod), message)
        drill.wait(*expected, seconds=120)
    finally:
        send([receiver], signal.SIGCONT)
        drill.prod.resume()
    drill.prod.wait_healthy(60, drill.prod.nodes)
    drill.quiet(120)
    assert drill.fired() - {f"prod PatroniReplicaNotStreaming {stopped.name}"} == expected
    assert drill.notified(PAGER) == set()


def test_host_of_a_replica_is_lost(drill: Drill) -> None:
    """Its target stays."""
    lost = drill.prod.replicas()[0]
    drill.prod.kill_node(lost)
    expected = {f"prod {alert} {lost.name}" for alert in ("PatroniMemberMissing", "PatroniUnreachable")}
    drill.wait(*expected, seconds=150)
    drill.prod.start_node(lost)
    drill.prod.wait_healthy(90, drill.prod.nodes)
    drill.quiet(90)
    assert drill.fired() == expected
    assert drill.notified(PAGER) == set()


def test_host_of_the_leader_is_lost(drill: Drill) -> None:
    """Behind one exporter this looks the same as a frozen Patroni."""
    lost = leader_of(drill.prod)
    drill.prod.kill_node(lost)
    expected = {
        f"prod {alert} {lost.name}"
        for alert in ("PatroniSplitBrainPossible", "PatroniFailover", "PatroniMemberMissing", "PatroniUnreachable")
    }
    drill.wait(*expected, seconds=150)
    drill.prod.start_node(lost)
    drill.prod.wait_healthy(90, drill.prod.nodes)
    drill.quiet(120)
    assert drill.fired() == expected
    assert drill.notified(PAGER) == {f"prod PatroniSplitBrainPossible {lost.name}"}


def test_patroni_of_the_leader_is_frozen_and_its_postgresql_runs(drill: Drill) -> None:
    frozen = leader_of(drill.prod)
    process = drill.prod._patroni[frozen.name].pid
    send([process], signal.SIGSTOP)
    expected = {
        f"prod {alert} {frozen.name}"
        for alert in ("PatroniSplitBrainPossible", "PatroniFailover", "PatroniMemberMissing", "PatroniUnreachable")
    }
    try:
        drill.wait(*expected, seconds=150)
        assert sorted(primary(drill.prod, node) for node in drill.prod.nodes) == [False, True, True]
        assert primary(drill.prod, frozen)
    finally:
        send([process], signal.SIGCONT)
    drill.prod.wait_healthy(120, drill.prod.nodes)
    drill.quiet(120)
    assert drill.fired() - {"prod PatroniMultipleLeaders"} == expected
    assert f"prod PatroniSplitBrainPossible {frozen.name}" in drill.notified(PAGER)


def test_dcs_is_lost(drill: Drill) -> None:
    drill.dcs.stop()
    causes = {"prod PatroniDCSUnreachable", "dev PatroniDCSUnreachable"}
    follow = {
        f"{namespace} {alert}"
        for namespace in ("prod", "dev")
        for alert in ("PatroniNoLeader", "PatroniClusterUnlocked")
    }
    follow |= {f"prod PatroniDCSNotSeen {node.name}" for node in drill.prod.nodes} | {"dev PatroniDCSNotSeen n1"}
    try:
        drill.wait(*causes, *follow, seconds=150)
    finally:
        drill.dcs.start()
    drill.prod.wait_healthy(120, drill.prod.nodes)
    drill.dev.wait_healthy(120, drill.dev.nodes)
    drill.quiet(150)
    assert causes | follow <= drill.fired()
    assert follow <= drill.inhibited
    assert drill.notified(PAGER) == causes


def test_one_of_two_clusters_of_one_scope_has_no_leader(drill: Drill) -> None:
    """PostgreSQL of `dev` hangs, so that its only member loses the leader lock."""
    (node,) = drill.dev.nodes
    drill.dev.freeze_postgres(node)
    expected = {"dev PatroniNoLeader", "dev PatroniPostgresHung n1"}
    try:
        drill.wait(*expected, seconds=150)
    finally:
        drill.dev.thaw_postgres(node)
    drill.dev.wait_healthy(120, drill.dev.nodes)
    drill.quiet(120)
    assert {alert.split()[0] for alert in drill.fired()} == {"dev"}
    assert drill.notified(PAGER) >= expected


def test_host_of_a_cluster_is_lost_with_its_exporter(drill: Drill, running: tuple[Drill, int]) -> None:
    (node,) = drill.dev.nodes
    drill.dev.kill_node(node)
    drill.sidecar.close()
    try:
        drill.wait("dev PatroniClusterLost", "dev ExporterDown n1", seconds=150)
    finally:
        beside(drill, node, running[1])
        drill.dev.start_node(node)
    drill.dev.wait_healthy(120, drill.dev.nodes)
    drill.quiet(120)
    assert "dev ExporterDown n1" in drill.inhibited
    assert drill.notified(PAGER) == {"dev PatroniClusterLost"}


def primary(cluster: Cluster, node: Node) -> bool:
    """Whether PostgreSQL of the node accepts writes."""
    return cluster.sql(node, "SELECT pg_is_in_recovery()") == [[False]]
