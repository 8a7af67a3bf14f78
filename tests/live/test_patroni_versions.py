"""Older Patroni, alive: two nodes of each version, and what changed between them is told as Patroni itself tells it."""

import time
from collections.abc import Iterator

import pytest

from tests.live.cluster import Lab, eventually, lab

#: Each version, and the collectors whose document it has.
VERSIONS = {
    "2.1.7": {"node", "cluster", "history", "config"},
    "3.3.11": {"node", "cluster", "history", "config", "failsafe"},
    "4.0.11": {"node", "cluster", "history", "config", "failsafe"},
}


@pytest.fixture(scope="module", params=VERSIONS)
def pair(request: pytest.FixtureRequest) -> Iterator[Lab]:
    with lab(request.param, 2) as lab_of_two:
        yield lab_of_two


def test_exporters_tell_what_patroni_tells(pair: Lab) -> None:
    leader, (replica,) = pair.leader, pair.replicas
    assert pair.disagreements() == {}
    number = int("".join(part.zfill(2) for part in pair.cluster.version.split(".")))
    assert pair.each("patroni_version") == pair.all(number)
    assert pair.each("patroni_up") == pair.all(1)
    assert pair.each("patroni_primary") == pair.only(leader)
    assert pair.each("patroni_master") == pair.only(leader)
    assert pair.each("patroni_replica") == pair.only(replica)
    states = {(leader.name, "leader"), (replica.name, "replica")}
    assert pair.ones("patroni_member_role", "name", "role") == pair.all(states)


def test_document_that_the_version_does_not_have_is_neither_success_nor_failure(pair: Lab) -> None:
    collectors = {(name,): 1.0 for name in VERSIONS[pair.cluster.version]}
    assert pair.every("patroni_scrape_collector_success", "collector") == pair.all(collectors)
    assert pair.each("patroni_failsafe_mode_enabled") == pair.all(0)
    assert pair.each("patroni_failsafe_member") == pair.all(0)


def test_maintenance_mode_is_told(pair: Lab) -> None:
    names = ("patroni_is_paused", "patroni_patroni_pause", "patroni_cluster_paused")
    pair.cluster.pause()
    eventually(lambda: [pair.each(name) for name in names], [pair.all(1)] * 3)
    assert pair.disagreements() == {}
    pair.cluster.resume()
    eventually(lambda: [pair.each(name) for name in names], [pair.all(0)] * 3)


def test_parameter_that_waits_for_a_restart_is_told_by_name_where_the_version_does(pair: Lab) -> None:
    info = ("patroni_member_pending_restart_parameter_info", "name", "parameter")
    named = set() if pair.cluster.version == "2.1.7" else {(node.name, "max_connections") for node in pair.nodes}
    pair.cluster.patch_config({"postgresql": {"parameters": {"max_connections": 50}}})
    eventually(lambda: pair.each("patroni_pending_restart"), pair.all(1))
    eventually(lambda: pair.ones("patroni_member_pending_restart", "name"), pair.all({(n.name,) for n in pair.nodes}))
    eventually(lambda: pair.ones(*info), pair.all(named))
    assert pair.disagreements() == {}
    pair.cluster.patch_config({"postgresql": {"parameters": {"max_connections": 40}}})
    eventually(lambda: pair.each("patroni_pending_restart"), pair.all(0))
    eventually(lambda: pair.ones(*info), pair.all(set()))
    assert pair.disagreements() == {}


def test_synchronous_standby_is_told_by_the_cluster_and_by_a_node_that_knows(pair: Lab) -> None:
    leader, (replica,) = pair.leader, pair.replicas
    told = pair.all(0) if pair.cluster.version == "2.1.7" else pair.only(replica)  # a node says so since 3.0.2
    pair.cluster.patch_config({"synchronous_mode": True})
    roles = {(leader.name, "leader"), (replica.name, "sync_standby")}
    eventually(lambda: pair.ones("patroni_member_role", "name", "role"), pair.all(roles))
    eventually(lambda: pair.each("patroni_sync_standby"), told)
    assert pair.disagreements() == {}
    pair.cluster.patch_config({"synchronous_mode": None})
    eventually(lambda: pair.each("patroni_sync_standby"), pair.all(0))


def test_switchover_counts_in_the_history(pair: Lab) -> None:
    old, (new,) = pair.leader, pair.replicas
    switches = pair.each("patroni_timeline_switches")[old.name] or 0
    assert pair.cluster.switchover() == new
    eventually(lambda: pair.each("patroni_timeline_switches"), pair.all(switches + 1))
    assert pair.history() == pair.listed_history()
    for told in pair.every("patroni_last_timeline_switch_timestamp_seconds", "leader").values():
        assert [(leader, 0 <= time.time() - when < 60) for leader, when in told.items()] == [((new.name,), True)]
    eventually(lambda: pair.each("patroni_primary"), pair.only(new))
    assert pair.disagreements() == {}
