"""Rules that others published for Patroni's own names, unmodified, on the series that this exporter gives."""

from pathlib import Path

import pytest

from tests.live.installed import needs
from tests.monitoring.promtool import Phase, firing, picture, rules, run, series

PUBLISHED = Path(__file__).with_name("published_rules.yml")
MINUTES = 8

#: One of the rules wants a synchronous standby, which few of these clusters have.
ASYNC = {"SyncStandbyMissing"}
NO_PRIMARY = {"SumOfMastersIsZero", "NotExactlyOnePrimary"}
NO_LEADER = {"PatroniHasNoLeaderByMaster", "PatroniHasNoLeaderByPrimary", *NO_PRIMARY}
UNLOCKED = {"ClusterUnlocked", "OldUnlocked"}
NOT_STREAMING = {"ReplicaNotStreaming", "OldNoStandby"}
DOWN = {"PostgresNotRunning", "PostgresNotRunningByState", "OldNotRunning", "ReplicaLags", "TimelinesDiffer"}
MOVED = {"LeaderMoved", "TimelineJumped", "OldTimelineJumped"}

STATES: dict[tuple[str, str], set[str]] = {
    # Before 3.0.4 Patroni does not tell whether it streams, so that the exporter says 0 and this one fires.
    ("2.1.7", "healthy-async"): ASYNC | {"ReplicaNotStreaming"},
    ("3.0.4", "healthy-async"): ASYNC,
    ("3.3.11", "sync"): set(),
    ("4.0.11", "sync"): set(),
    ("4.1.5", "sync-2"): set(),
    ("4.1.5", "healthy-async"): ASYNC,
    ("4.1.5", "standby-cluster"): ASYNC | NO_PRIMARY,
    ("2.1.7", "leader-lost-unlocked"): ASYNC | NO_LEADER | UNLOCKED | NOT_STREAMING,
    ("3.3.11", "leader-lost-unlocked"): ASYNC | NO_LEADER | UNLOCKED | NOT_STREAMING,
    ("3.3.11", "postgres-down-replicas"): ASYNC | NOT_STREAMING | DOWN | {"Paused", "OldPaused"},
    ("4.1.5", "dcs-down"): ASYNC | NO_LEADER | UNLOCKED | {"DcsNotSeen", "DcsStandsStill", "ReplicaNotStreaming"},
    ("4.1.5", "dcs-down-failsafe"): ASYNC | UNLOCKED | {"DcsNotSeen", "DcsStandsStill", "FailsafeActive"},
    ("4.1.5", "paused"): ASYNC | {"Paused", "OldPaused"},
    ("4.1.5", "pending-restart"): ASYNC | {"PendingRestart", "OldPendingRestart"},
    ("4.0.11", "replay-paused"): ASYNC | {"ReplayPaused"},
    ("4.1.5", "not-streaming"): ASYNC | NOT_STREAMING,
    ("4.1.5", "lag"): ASYNC | {"ReplicaLags", "ReplayLags"},
    ("4.1.5", "start-failed"): ASYNC | NOT_STREAMING | DOWN,
}

AFTER_HEALTHY: dict[tuple[str, str], set[str]] = {
    ("3.3.11", "switchover-after"): ASYNC | MOVED,
    ("4.1.5", "leader-killed-during-06"): ASYNC | MOVED,
    ("4.1.5", "healthy-fresh"): ASYNC,
}


def fired(folder: Path, version: str, state: str, before: str | None = None) -> set[str]:
    phases = [Phase(picture(version, state), MINUTES, frozen="dcs-down" in state)]
    if before:
        phases.insert(0, Phase(picture(version, before), 5))
    (found,) = firing(folder, series(*phases), MINUTES, files=[PUBLISHED])
    return {alert.split()[0] for alert in found}


@needs("promtool")
def test_promtool_accepts_them() -> None:
    assert run("check", "rules", PUBLISHED) == ""


@needs("promtool")
@pytest.mark.parametrize(("version", "state"), STATES)
def test_they_fire_on_what_is_broken_and_not_on_what_is_well(tmp_path: Path, version: str, state: str) -> None:
    assert fired(tmp_path, version, state) == STATES[version, state]


@needs("promtool")
@pytest.mark.parametrize(("version", "state"), AFTER_HEALTHY)
def test_those_on_changes_fire_when_something_has_changed(tmp_path: Path, version: str, state: str) -> None:
    assert fired(tmp_path, version, state, before="healthy-async") == AFTER_HEALTHY[version, state]


def test_each_of_them_is_seen_firing_but_the_one_on_two_primaries_of_which_there_is_no_recording() -> None:
    seen = set().union(*STATES.values(), *AFTER_HEALTHY.values())
    assert {rule["alert"] for rule in rules([PUBLISHED])} - seen == {"MoreThanOnePrimary"}
