"""Which alerts fire on what real clusters said, had they stayed as they were for a while: these and no others."""

from pathlib import Path

import pytest

from tests.live.installed import needs
from tests.monitoring.promtool import BEFORE, RULES, firing, picture, series
from tests.recorded import VERSIONS

#: Longer than every `for` but that of PatroniVersionsDiffer, PatroniReplicaLagGrowing and StaytusAllOkWhileIssueOpen.
MINUTES = 8

DOWN = {"PatroniMemberDown n2", "PatroniMemberDown n3", "PatroniNoFailoverCandidate"}
NO_DCS = {"ExporterEndpointFailing", "PatroniClusterUnlocked", "PatroniDCSNotSeen n1", "PatroniDCSNotSeen n2"}
NO_DCS |= {"PatroniDCSNotSeen n3"}
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
    ("4.0.11", "creating-replica"),
    ("4.0.11", "basebackup"),
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
    ("3.0.4", "dcs-down"): {
        "PatroniNoLeader",
        "ExporterEndpointFailing",
        "PatroniClusterUnlocked",
        "PatroniDCSNotSeen",
    },
    ("3.3.11", "not-streaming"): NO_STREAM,
    ("3.3.11", "postgres-down-replicas"): DOWN,
    ("3.3.11", "standby-cluster-source-gone"): {"PatroniReplicaNotStreaming n1"},
    ("3.3.11", "starting"): {"PatroniReplicaNotStreaming n2", "PatroniNoFailoverCandidate"},
    ("3.3.11", "switchover-after"): {"PatroniLeaderChanged"},
    ("4.0.11", "sync-strict-alone"): {*DOWN, "PatroniTooFewSyncStandbys", "PatroniCommitsBlocked"},
    ("4.1.5", "dcs-down"): {*NO_DCS, "PatroniNoLeader"},
    ("4.1.5", "dcs-down-failsafe"): {*NO_DCS, "PatroniFailsafeActive"},
    ("4.1.5", "paused-dcs-down"): NO_DCS,
    ("4.1.5", "node-stopped"): {"PatroniMemberDown n3", "PatroniUnreachable"},
    ("4.1.5", "paused-leader-lost"): {*NO_STREAM, "PatroniNoLeader", "PatroniClusterUnlocked", "PatroniUnreachable"},
    ("4.1.5", "patroni-dead-expired"): {"PatroniUnreachable"},
    ("4.1.5", "postgres-frozen-replica"): {"PatroniUnreachable"},
    ("4.0.11", "replay-paused"): {"PatroniReplayPaused n2"},
    ("4.1.5", "start-failed"): {"PatroniMemberDown n2", "PatroniNoFailoverCandidate"},
}

#: The nodes of a recording that answered nothing.
DEAD = {
    "node-stopped": ("n3",),
    "paused-leader-lost": ("n1",),
    "patroni-dead-expired": ("n3",),
    "leader-killed-during-06": ("n1",),
}

#: What a healthy cluster turns into.
AFTER_HEALTHY: dict[tuple[str, str], set[str]] = {
    ("1.6.5", "switchover-after"): {"PatroniLeaderChanged"},
    ("3.3.11", "switchover-after"): {"PatroniLeaderChanged"},
    ("4.1.5", "leader-killed-during-06"): {
        "PatroniFailover n1",
        "PatroniLeaderChanged",
        "PatroniMemberMissing n1",
        "PatroniUnreachable",
    },
    ("4.1.5", "old-leader-back-04"): {"PatroniLeaderChanged"},
    ("4.1.5", "patroni-dead-expired"): {"PatroniMemberMissing n3", "PatroniUnreachable"},
}


def alerts(folder: Path, version: str, state: str, before: str | None = None) -> set[str]:
    given = series(
        picture(version, state),
        MINUTES,
        before=picture(version, before) if before else (),
        frozen="dcs-down" in state,
        dead=DEAD.get(state, ()),
    )
    return firing(folder, RULES, given, MINUTES + (BEFORE if before else 0))


@needs("promtool")
@pytest.mark.parametrize(("version", "state"), QUIET)
def test_nothing_fires(tmp_path: Path, version: str, state: str) -> None:
    assert alerts(tmp_path, version, state) == set()


@needs("promtool")
@pytest.mark.parametrize(("version", "state"), FIRING)
def test_what_must_fire_fires_and_nothing_else(tmp_path: Path, version: str, state: str) -> None:
    assert alerts(tmp_path, version, state) == FIRING[version, state]


@needs("promtool")
@pytest.mark.parametrize(("version", "state"), AFTER_HEALTHY)
def test_what_must_fire_after_a_change_fires_and_nothing_else(tmp_path: Path, version: str, state: str) -> None:
    assert alerts(tmp_path, version, state, before="healthy-async") == AFTER_HEALTHY[version, state]


@needs("promtool")
@pytest.mark.parametrize(
    ("state", "expected"),
    [
        ("healthy-async", set()),
        ("standby-cluster", set()),
        ("dcs-down", {"PatroniNoLeader", "PatroniClusterUnlocked", "PatroniDCSNotSeen n2", "ExporterEndpointFailing"}),
        (
            "dcs-down-failsafe",
            {"PatroniFailsafeActive", "PatroniClusterUnlocked", "PatroniDCSNotSeen n2", "ExporterEndpointFailing"},
        ),
        ("paused-dcs-down", {"PatroniClusterUnlocked", "PatroniDCSNotSeen n2", "ExporterEndpointFailing"}),
        ("start-failed", {"PatroniMemberDown n2", "PatroniNoFailoverCandidate"}),
    ],
)
def test_one_exporter_beside_a_replica_suffices(tmp_path: Path, state: str, expected: set[str]) -> None:
    seen = [node for node in picture("4.1.5", state) if node.node == "n2"]
    assert firing(tmp_path, RULES, series(seen, MINUTES, frozen="dcs-down" in state), MINUTES) == expected
