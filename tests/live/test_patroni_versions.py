"""Older versions of Patroni: the exporters of two nodes agree with them."""

import pytest

from tests.live.cluster import eventually, lab

#: The version, its number, and the collectors whose documents it has. The recordings have other versions too.
VERSIONS = [
    ("2.1.7", 20107, ["node", "cluster", "history", "config"]),
    ("4.0.11", 40011, ["node", "cluster", "history", "config", "failsafe"]),
]


@pytest.mark.parametrize(("version", "number", "collectors"), VERSIONS)
def test_version(version: str, number: int, collectors: list[str]) -> None:
    is_old = version == "2.1.7"
    with lab(version, 2) as pair:
        leader, (replica,) = pair.leader, pair.replicas
        assert pair.differences() == {}
        assert pair.each("patroni_version") == pair.all(number)
        assert pair.each("patroni_primary") == pair.only(leader)
        assert pair.each("patroni_replica") == pair.only(replica)
        successes = {(name,): 1.0 for name in collectors}
        assert pair.every("patroni_scrape_collector_success", "collector") == pair.all(successes)
        assert pair.each("patroni_failsafe_mode_enabled") == pair.all(0)

        pair.cluster.pause()
        for name in ("patroni_is_paused", "patroni_patroni_pause", "patroni_cluster_paused"):
            eventually(lambda: pair.each(name), pair.all(1))  # noqa: B023
        assert pair.differences() == {}
        pair.cluster.resume()

        info = ("patroni_member_pending_restart_parameter_info", "name", "parameter")
        pair.cluster.patch_config({"postgresql": {"parameters": {"max_connections": 50}}})
        eventually(lambda: pair.each("patroni_pending_restart"), pair.all(1))
        parameters = set() if is_old else {(node.name, "max_connections") for node in pair.nodes}
        eventually(lambda: pair.ones(*info), pair.all(parameters))
        assert pair.differences() == {}
        pair.cluster.patch_config({"postgresql": {"parameters": {"max_connections": 40}}, "synchronous_mode": True})
        eventually(lambda: pair.ones(*info), pair.all(set()))
        roles = {(leader.name, "leader"), (replica.name, "sync_standby")}
        eventually(lambda: pair.ones("patroni_member_role", "name", "role"), pair.all(roles))
        standby = pair.all(0) if is_old else pair.only(replica)  # a node reports it since Patroni 3.0.2
        eventually(lambda: pair.each("patroni_sync_standby"), standby)
        assert pair.differences() == {}
        pair.cluster.patch_config({"synchronous_mode": None})
        eventually(lambda: pair.each("patroni_sync_standby"), pair.all(0))

        switches = pair.each("patroni_timeline_switches")[leader.name] or 0
        assert pair.cluster.switchover() == replica
        eventually(lambda: pair.each("patroni_timeline_switches"), pair.all(switches + 1))
        assert pair.history() == pair.listed_history()
        eventually(lambda: pair.each("patroni_primary"), pair.only(replica))
        assert pair.differences() == {}
