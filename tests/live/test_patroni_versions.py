"""The oldest Patroni with its own /metrics: the exporters of two nodes agree with it. Recordings have the others."""

from tests.live.cluster import eventually, lab


def test_patroni_2_1_7() -> None:
    with lab("2.1.7", 2) as pair:
        leader, (replica,) = pair.leader, pair.replicas
        assert pair.differences() == {}
        assert pair.each("patroni_version") == pair.all(20107)
        assert pair.each("patroni_primary") == pair.only(leader)
        assert pair.each("patroni_replica") == pair.only(replica)
        successes = {(name,): 1.0 for name in ("node", "cluster", "history", "config")}
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
        assert pair.ones(*info) == pair.all(set())  # since Patroni 3.3
        assert pair.differences() == {}
        pair.cluster.patch_config({"postgresql": {"parameters": {"max_connections": 40}}, "synchronous_mode": True})
        roles = {(leader.name, "leader"), (replica.name, "sync_standby")}
        eventually(lambda: pair.ones("patroni_member_role", "name", "role"), pair.all(roles))
        assert pair.each("patroni_sync_standby") == pair.all(0)  # since Patroni 3.0.2
        eventually(lambda: pair.each("patroni_pending_restart"), pair.all(0))
        assert pair.differences() == {}
        pair.cluster.patch_config({"synchronous_mode": None})

        switches = pair.each("patroni_timeline_switches")[leader.name] or 0
        assert pair.cluster.switchover() == replica
        eventually(lambda: pair.each("patroni_timeline_switches"), pair.all(switches + 1))
        assert pair.history() == pair.listed_history()
        eventually(lambda: pair.each("patroni_primary"), pair.only(replica))
        assert pair.differences() == {}
