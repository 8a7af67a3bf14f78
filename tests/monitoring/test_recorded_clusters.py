"""The alerts on recorded clusters that stay as they are for some minutes: these and no others."""

from pathlib import Path

import pytest

from tests.live.installed import needs
from tests.monitoring.promtool import Phase, Render, Series, firing, picture, series, view_series
from tests.monitoring.situations import twice, two_rulers
from tests.recorded import VERSIONS

#: Longer than every `for` below an hour.
MINUTES = 18

#: Seconds between two scrapes and two evaluations: the clusters do not change.
INTERVAL = 60

NODES = ("n1", "n2", "n3")
DOWN = {"PatroniMemberDown n2", "PatroniMemberDown n3", "PatroniNoFailoverCandidate"}
NO_DCS = {"ExporterEndpointFailing", "PatroniDCSUnreachable", "PatroniConfigUnknown"}
NOT_SEEN = {f"PatroniDCSNotSeen {name}" for name in NODES}
NO_STREAM = {"PatroniReplicaNotStreaming n2", "PatroniReplicaNotStreaming n3"}

QUIET = (
    *((version, "healthy-async") for version in VERSIONS),
    ("1.6.5", "creating-replica"),
    ("1.6.5", "standby-cluster"),
    ("2.1.7", "cascading"),
    ("2.1.7", "timeline-null"),
    ("3.0.4", "creating-replica"),
    ("3.0.4", "healthy-fresh"),
    ("3.3.11", "failsafe-enabled"),
    ("3.3.11", "sync"),
    ("3.3.11", "switchover-after"),
    ("4.0.11", "creating-replica"),
    ("4.0.11", "basebackup"),
    ("4.1.5", "history-4-timelines"),
    ("4.1.5", "lag"),  # 4 MB
    ("4.1.5", "quorum"),
    ("4.1.5", "single-node"),
    ("4.1.5", "standby-cluster"),
    ("4.1.5", "sync-2"),
    ("4.1.5", "tags"),
    ("4.1.5", "timeline-null"),
    ("4.1.5", "paused"),  # not for long
    ("4.1.5", "pending-restart"),  # not for long
)

FIRING: dict[tuple[str, str], set[str]] = {
    ("1.6.5", "leader-lost-unlocked"): {"PatroniNoLeader", "PatroniClusterUnlocked", "PatroniNoFailoverCandidate"},
    ("2.1.7", "replay-paused"): {"PatroniReplayPaused"},
    ("2.1.7", "scheduled"): {"PatroniSwitchoverScheduled"},
    ("3.0.4", "dcs-down"): {*NO_DCS, "PatroniNoLeader", "PatroniClusterUnlocked", "PatroniDCSNotSeen"},
    ("3.3.11", "not-streaming"): NO_STREAM,
    ("3.3.11", "postgres-down-all"): {"PatroniPausedNoLeader"},
    ("3.3.11", "postgres-down-replicas"): set(),  # in maintenance mode
    ("3.3.11", "standby-cluster-source-gone"): {"PatroniStandbyLeaderNotStreaming n1"},
    ("3.3.11", "starting"): {"PatroniReplicaNotStreaming n2", "PatroniNoFailoverCandidate"},
    ("4.0.11", "sync-strict-alone"): {*DOWN, "PatroniTooFewSyncStandbys", "PatroniCommitsBlocked"},
    ("4.1.5", "dcs-down"): {*NO_DCS, *NOT_SEEN, "PatroniNoLeader", "PatroniClusterUnlocked"},
    ("4.1.5", "dcs-down-failsafe"): {*NO_DCS, *NOT_SEEN, "PatroniFailsafeActive", "PatroniClusterUnlocked"},
    ("4.1.5", "paused-dcs-down"): {*NO_DCS, *NOT_SEEN},
    ("4.1.5", "node-stopped"): {"PatroniMemberDown n3", "PatroniUnreachable"},
    ("4.1.5", "paused-leader-lost"): {*NO_STREAM, "PatroniPausedNoLeader", "PatroniUnreachable"},
    ("4.1.5", "patroni-dead-expired"): {"PatroniUnreachable"},
    ("4.1.5", "postgres-frozen-replica"): {"PatroniPostgresHung"},
    ("4.0.11", "replay-paused"): {"PatroniReplayPaused n2"},
    ("4.1.5", "start-failed"): {"PatroniMemberDown n2", "PatroniNoFailoverCandidate"},
}

#: Only the view is asked for another document than /patroni.
WITH_VIEW: dict[tuple[str, str], set[str]] = {("4.1.5", "postgres-frozen-replica"): {"PatroniUnreachable"}}

#: Nodes of a recording that answered nothing.
DEAD = {"node-stopped": ["n3"], "paused-leader-lost": ["n1"], "patroni-dead-expired": ["n3"]}


def clusters(version: str, state: str, *nodes: str, render: Render = series) -> list[Series]:
    answering = [node for node in picture(version, state) if not nodes or node.node in nodes]
    phase = Phase(answering, MINUTES, dead=DEAD.get(state, ()), frozen="dcs-down" in state)
    return render(phase, interval=INTERVAL)


def fired(folder: Path, version: str, state: str, *nodes: str, render: Render = series) -> set[str]:
    (found,) = firing(folder, clusters(version, state, *nodes, render=render), MINUTES, interval=INTERVAL)
    return found


@needs("promtool")
@pytest.mark.parametrize("render", [series, view_series])
@pytest.mark.parametrize(("version", "state"), QUIET)
def test_nothing_fires(tmp_path: Path, version: str, state: str, render: Render) -> None:
    assert fired(tmp_path, version, state, render=render) == set()


@needs("promtool")
@pytest.mark.parametrize(("version", "state"), FIRING)
def test_these_fire_with_one_view_of_the_cluster(tmp_path: Path, version: str, state: str) -> None:
    assert fired(tmp_path, version, state, render=view_series) == WITH_VIEW.get(
        (version, state), FIRING[version, state]
    )


@needs("promtool")
@pytest.mark.parametrize(("version", "state"), FIRING)
def test_these_fire_with_two_prometheus_servers_and_two_rulers(tmp_path: Path, version: str, state: str) -> None:
    (found,) = firing(tmp_path, twice(clusters(version, state)), MINUTES, files=two_rulers(tmp_path), interval=INTERVAL)
    assert found == FIRING[version, state]


@needs("promtool")
@pytest.mark.parametrize(
    ("state", "expected"),
    [
        ("healthy-async", set()),
        ("standby-cluster", set()),
        ("dcs-down", {*NO_DCS, "PatroniNoLeader", "PatroniClusterUnlocked", "PatroniDCSNotSeen n2"}),
        ("dcs-down-failsafe", {*NO_DCS, "PatroniFailsafeActive", "PatroniClusterUnlocked", "PatroniDCSNotSeen n2"}),
        ("paused-dcs-down", {*NO_DCS, "PatroniDCSNotSeen n2"}),
        ("start-failed", {"PatroniMemberDown n2", "PatroniNoFailoverCandidate"}),
    ],
)
def test_one_exporter_beside_a_replica_is_enough(tmp_path: Path, state: str, expected: set[str]) -> None:
    assert fired(tmp_path, "4.1.5", state, "n2") == expected
