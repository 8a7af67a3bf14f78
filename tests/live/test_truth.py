"""A cluster of three nodes changes, and the exporters agree with Patroni at each step."""

import re
import time
from collections.abc import Callable, Iterator

import pytest

from demo.node import HOST, Config
from tests.live.cluster import MIB, Lab, Values, eventually, lab

TAGS: dict[str, Config] = {
    "n2": {"tags": {"failover_priority": 2}},
    "n3": {
        "tags": {"nofailover": True, 'a "quoted" \\ tag': "north\nsouth", "weight": 1.5, "rack": {"row": [1, None]}}
    },
}

#: Resets the configuration that the tests change.
CONFIGURATION = {
    "synchronous_mode": None,
    "failsafe_mode": None,
    "postgresql": {"parameters": {"max_connections": 40}},
}

ROLES = ("patroni_member_role", "name", "role")
STATES = ("patroni_member_state", "name", "state")
TTL = 20


@pytest.fixture(scope="module")
def started() -> Iterator[Lab]:
    with lab("4.1.5", 3, TAGS) as lab_of_three:
        yield lab_of_three


@pytest.fixture
def healthy(started: Lab) -> Lab:
    """The cluster, repaired after the previous test."""
    for node in started.nodes:
        if not started.cluster.runs(node):
            started.cluster.start_node(node)
    started.cluster.patch_config(CONFIGURATION)
    started.cluster.resume()
    started.cluster.wait_healthy(60, started.nodes)
    return started


def agree(healthy: Lab, read: Callable[[], object], expected: object, seconds: float = 20) -> None:
    """Waits for this value, and compares the exporters with Patroni."""
    eventually(read, expected, seconds)
    assert healthy.differences() == {}


def test_healthy_cluster(healthy: Lab) -> None:
    nodes, leader, replicas = healthy.nodes, healthy.leader, healthy.replicas
    assert healthy.differences() == {}
    assert healthy.each("patroni_up") == healthy.all(1)
    assert healthy.every("patroni_scrape_collector_success", "collector") == healthy.all(
        {("node",): 1, ("cluster",): 1, ("history",): 1, ("config",): 1, ("failsafe",): 1}
    )
    assert healthy.each("patroni_primary") == healthy.only(leader)
    assert healthy.each("patroni_master") == healthy.only(leader)
    assert healthy.each("patroni_replica") == healthy.only(*replicas)
    assert healthy.each("patroni_cluster_members") == healthy.all(3)
    assert healthy.ones(*ROLES) == healthy.all({(leader.name, "leader"), *((n.name, "replica") for n in replicas)})
    assert healthy.ones(*STATES) == healthy.all({(leader.name, "running"), *((n.name, "streaming") for n in replicas)})
    assert healthy.ones("patroni_member_info", "name", "host", "port", "api_url") == healthy.all(
        {(node.name, HOST, str(node.pg_port), f"{node.url}/patroni") for node in nodes}
    )
    standbys = healthy.ones("patroni_replication_info", "application_name", "state", "sync_state")
    assert standbys[leader.name] == {(node.name, "streaming", "async") for node in replicas}
    assert [healthy.each(f"patroni_config_{key}_seconds") for key in ("ttl", "loop_wait", "retry_timeout")] == [
        healthy.all(TTL),
        healthy.all(1),
        healthy.all(3),
    ]


def test_tags(healthy: Lab) -> None:
    assert healthy.differences() == {}
    assert healthy.each("patroni_failover_priority") == {"n1": 1, "n2": 2, "n3": 0}
    assert healthy.ones("patroni_member_tag_info", "name", "tag", "value") == healthy.all(
        {
            ("n2", "failover_priority", "2"),
            ("n3", "nofailover", "true"),
            ("n3", 'a "quoted" \\ tag', "north\nsouth"),
            ("n3", "weight", "1.5"),
            ("n3", "rack", '{"row": [1, null]}'),
        }
    )


def test_switchover(healthy: Lab) -> None:
    old = healthy.leader
    switches = healthy.each("patroni_timeline_switches")[old.name] or 0
    timeline = healthy.each("patroni_postgres_timeline")[old.name] or 0
    new = healthy.cluster.switchover()
    assert new != old
    eventually(lambda: healthy.each("patroni_timeline_switches"), healthy.all(switches + 1))
    assert healthy.history() == healthy.listed_history()
    for found in healthy.every("patroni_last_timeline_switch_timestamp_seconds", "leader").values():
        assert [(leader, 0 <= time.time() - when < 60) for leader, when in found.items()] == [((new.name,), True)]
    eventually(lambda: healthy.each("patroni_primary"), healthy.only(new))
    agree(healthy, lambda: healthy.each("patroni_postgres_timeline"), healthy.all(timeline + 1))
    replicas = {(node.name, "replica") for node in healthy.nodes if node != new}
    assert healthy.ones(*ROLES) == healthy.all({(new.name, "leader"), *replicas})


def test_pause(healthy: Lab) -> None:
    names = ("patroni_is_paused", "patroni_patroni_pause", "patroni_cluster_paused")
    for change, value in ((healthy.cluster.pause, 1), (healthy.cluster.resume, 0)):
        change()
        agree(healthy, lambda: [healthy.each(name) for name in names], [healthy.all(value)] * 3)
        assert ("Maintenance mode: on" in healthy.cluster.patronictl("list")) == bool(value)


def test_pending_restart(healthy: Lab) -> None:
    def waiting() -> list[object]:
        return [
            healthy.each("patroni_pending_restart"),
            healthy.each("patroni_postgresql_pending_restart"),
            healthy.ones("patroni_member_pending_restart", "name"),
            healthy.ones("patroni_member_pending_restart_parameter_info", "name", "parameter"),
        ]

    nothing = [healthy.all(0), healthy.all(0), healthy.all(set()), healthy.all(set())]
    names = {(node.name,) for node in healthy.nodes}
    parameters = {(node.name, "max_connections") for node in healthy.nodes}
    eventually(waiting, nothing)
    healthy.cluster.patch_config({"postgresql": {"parameters": {"max_connections": 50}}})
    agree(healthy, waiting, [healthy.all(1), healthy.all(1), healthy.all(names), healthy.all(parameters)])
    healthy.cluster.patch_config({"postgresql": {"parameters": {"max_connections": 40}}})
    agree(healthy, waiting, nothing)


def test_scheduled_restart_and_switchover(healthy: Lab) -> None:
    leader, replica = healthy.leader, healthy.replicas[0]
    candidate = next(node for node in healthy.replicas if node.name != "n3")  # n3 has the tag nofailover
    at = int(time.time()) + 3600
    when = time.strftime("%Y-%m-%dT%H:%M:%S+00:00", time.gmtime(at))

    def found() -> list[dict[str, Values]]:
        return [
            healthy.every("patroni_cluster_scheduled_switchover_timestamp_seconds", "from", "to"),
            healthy.every("patroni_member_scheduled_restart_timestamp_seconds", "name"),
        ]

    ctl = healthy.cluster.patronictl
    ctl("restart", "demo", replica.name, "--scheduled", when, "--force")
    ctl("switchover", "demo", "--candidate", candidate.name, "--scheduled", when, "--force")
    agree(healthy, found, [healthy.all({(leader.name, candidate.name): at}), healthy.all({(replica.name,): at})])
    ctl("flush", "demo", "restart", "--force")
    ctl("flush", "demo", "switchover", "--force")
    agree(healthy, found, [healthy.all({}), healthy.all({})])


def test_paused_replay(healthy: Lab) -> None:
    leader, replica = healthy.leader, healthy.replicas[0]
    wal = "SELECT count(pg_logical_emit_message(false, '', repeat('x', 1048576))) FROM generate_series(1, 5)"
    lags = [f"patroni_member_{what}lag_bytes" for what in ("", "receive_", "replay_")]

    def large() -> list[bool]:
        """Whether the lag is larger than what was written, for each lag and exporter."""
        return [
            found.get((replica.name,), -1) > 5 * MIB for lag in lags for found in healthy.every(lag, "name").values()
        ]

    healthy.pause()  # Patroni would resume the replay
    healthy.cluster.pause_replay(replica)
    healthy.cluster.sql(leader, wal)
    eventually(large, [False] * 6 + [True] * 3)
    agree(healthy, lambda: healthy.each("patroni_xlog_paused"), healthy.only(replica))
    healthy.cluster.resume_replay(replica)
    eventually(lambda: [healthy.every(lag, "name")[leader.name].get((replica.name,)) for lag in lags], [0, 0, 0])
    agree(healthy, lambda: healthy.each("patroni_xlog_paused"), healthy.all(0))


@pytest.mark.parametrize(
    ("value", "mode", "role", "sync_state"),
    [(True, "on", "sync_standby", "sync"), ("quorum", "quorum", "quorum_standby", "quorum")],
)
def test_synchronous_mode(healthy: Lab, value: object, mode: str, role: str, sync_state: str) -> None:
    leader = healthy.leader
    before = healthy.each("patroni_config_hash")
    healthy.cluster.patch_config({"synchronous_mode": value})

    def standbys() -> list[set[str]]:
        """The standbys in /cluster, in the replication of the leader, and in the status of each node."""
        rows = healthy.ones("patroni_replication_info", "application_name", "sync_state")[leader.name]
        return [
            {name for name, other in healthy.ones(*ROLES)[leader.name] if other == role},
            {name for name, state in rows if state == sync_state},
            {name for name, value in healthy.each(f"patroni_{role}").items() if value == 1},
        ]

    healthy.cluster.wait(f"a {role}", lambda: standbys()[0], 20)
    eventually(lambda: len(set(map(frozenset, standbys()))), 1)
    modes = {(other,): float(other == mode) for other in ("off", "on", "quorum")}
    agree(healthy, lambda: healthy.every("patroni_config_synchronous_mode", "mode"), healthy.all(modes))
    assert set(healthy.each("patroni_config_hash").values()).isdisjoint(before.values())
    healthy.cluster.patch_config({"synchronous_mode": None})
    eventually(standbys, [set()] * 3)
    agree(healthy, lambda: healthy.every("patroni_config_synchronous_mode", "mode"), healthy.all({}))
    assert healthy.each("patroni_config_hash") == before


def test_failsafe_mode(healthy: Lab) -> None:
    def found() -> list[dict[str, float | None]]:
        names = ("patroni_failsafe_mode_enabled", "patroni_config_failsafe_mode", "patroni_failsafe_member")
        return [healthy.each(name) for name in names]

    before = healthy.each("patroni_config_hash")
    assert found() == [healthy.all(0), healthy.all(None), healthy.all(0)]
    healthy.cluster.patch_config({"failsafe_mode": True})
    agree(healthy, found, [healthy.all(1)] * 3)
    assert set(healthy.each("patroni_config_hash").values()).isdisjoint(before.values())
    healthy.cluster.patch_config({"failsafe_mode": None})
    eventually(found, [healthy.all(0), healthy.all(None), healthy.all(1)])  # Patroni keeps the topology
    assert healthy.each("patroni_config_hash") == before


def test_stopped_replica(healthy: Lab) -> None:
    leader, (replica, other) = healthy.leader, healthy.replicas
    healthy.pause()  # Patroni would start it again
    healthy.cluster.stop_postgres(replica)
    members = {(leader.name, "running"), (other.name, "streaming"), (replica.name, "stopped")}
    eventually(lambda: healthy.ones(*STATES), healthy.all(members))
    assert healthy.each("patroni_postgres_running") == healthy.only(leader, other)
    assert healthy.each("patroni_postgres_state") == {**healthy.all(5), replica.name: 12}
    agree(healthy, lambda: healthy.each("patroni_up"), healthy.all(1))
    healthy.cluster.resume()
    healthy.cluster.wait_healthy()
    assert healthy.each("patroni_postgres_running") == healthy.all(1)
    assert healthy.differences() == {}


def test_stopped_leader(healthy: Lab) -> None:
    leader = healthy.leader
    healthy.pause()
    healthy.cluster.stop_postgres(leader)
    eventually(lambda: healthy.ones(*ROLES), healthy.all({(node.name, "replica") for node in healthy.nodes}))
    eventually(lambda: healthy.each("patroni_cluster_unlocked"), healthy.all(1))
    eventually(lambda: healthy.each("patroni_postgres_state"), {**healthy.all(5), leader.name: 12})
    assert healthy.each("patroni_primary") == healthy.only(leader)  # as in Patroni's /metrics
    assert healthy.differences() == {}
    healthy.cluster.resume()
    healthy.cluster.wait_healthy()
    agree(healthy, lambda: healthy.each("patroni_cluster_unlocked"), healthy.all(0))
    eventually(lambda: healthy.history() == healthy.listed_history(), True)


def test_killed_patroni(healthy: Lab) -> None:
    leader, (killed, other) = healthy.leader, healthy.replicas
    members = {(leader.name, "running"), (other.name, "streaming"), (killed.name, "streaming")}
    healthy.cluster.kill_patroni(killed)
    assert healthy.each("patroni_up") == healthy.only(leader, other)
    names = {name for name, _ in healthy.samples(killed)}
    assert {name for name in names if re.match("patroni_(?!staytus_exporter_)", name)} == {
        "patroni_up",
        "patroni_scrape_collector_success",
        "patroni_scrape_collector_duration_seconds",
    }
    assert set(healthy.every("patroni_scrape_collector_success", "collector")[killed.name].values()) == {0}
    agree(healthy, lambda: healthy.ones(*STATES), {**healthy.all(members), killed.name: set()})
    members.remove((killed.name, "streaming"))
    agree(healthy, lambda: healthy.ones(*STATES), {**healthy.all(members), killed.name: set()}, TTL + 20)
    assert healthy.each("patroni_cluster_members") == {**healthy.all(2), killed.name: None}
    healthy.cluster.start_node(killed)
    healthy.cluster.wait_healthy(60, healthy.nodes)
    agree(healthy, lambda: healthy.each("patroni_up"), healthy.all(1))
