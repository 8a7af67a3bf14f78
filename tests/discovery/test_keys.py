"""The clusters that keys of Patroni describe."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exporter.collectors.document import ParseError
from exporter.collectors.patroni_cluster import Member
from exporter.discovery import keys as module
from exporter.discovery.clusters import FoundCluster
from exporter.discovery.keys import Keys
from tests.limits.documents import JSON, written

MEMBER = {
    "conn_url": "postgres://10.0.0.1:5433/postgres",
    "api_url": "http://10.0.0.1:8008/patroni",
    "state": "running",
    "role": "primary",
    "version": "4.1.5",
    "xlog_location": 50331648,
    "timeline": 3,
    "tags": {"zone": "b", "clonefrom": True},
    "pending_restart": True,
    "pending_restart_reason": {"max_connections": {"old_value": "100", "new_value": "200"}},
    "scheduled_restart": {"schedule": "2026-11-21T12:00:00+00:00"},
}


def read(values: dict[str, object], prefix: str = "/service/") -> Keys:
    """These keys; values that are not texts are JSON."""
    keys = Keys(prefix)
    for key, value in values.items():
        keys.add(key.encode(), (value if isinstance(value, str) else json.dumps(value)).encode())
    return keys


def clusters(values: dict[str, object], prefix: str = "/service/") -> list[FoundCluster]:
    keys = read(values, prefix)
    found = keys.clusters()
    assert keys.skipped == []
    return found


def roles(**values: object) -> dict[str, str | None]:
    """The roles of three members of a cluster with these keys."""
    members = {f"/service/a/members/{name}": {"state": "running"} for name in ("n1", "n2", "N3")}
    ((cluster),) = clusters({**{f"/service/a/{key}": value for key, value in values.items()}, **members})
    return {member.name: member.role for member in cluster.members}


def test_member() -> None:
    (cluster,) = clusters({"/service/a/leader": "n1", "/service/a/members/n1": MEMBER})
    assert cluster == FoundCluster(
        scope="a",
        view="",
        members=(
            Member(
                name="n1",
                role="leader",
                state="running",
                host="10.0.0.1",
                port="5433",
                api_url="http://10.0.0.1:8008/patroni",
                timeline=3,
                lag=None,
                receive_lag=None,
                replay_lag=None,
                lsn=None,
                receive_lsn=None,
                replay_lsn=None,
                pending_restart=True,
                pending_restart_parameters=("max_connections",),
                scheduled_restart=1795262400.0,
                tags=(("zone", "b"), ("clonefrom", "true")),
            ),
        ),
        path="/service/a",
    )


SYNC = {"leader": "n1", "sync_standby": "n2, n3"}


@pytest.mark.parametrize(
    ("config", "sync", "expected"),
    [
        ({}, SYNC, ("leader", "replica", "replica")),
        ({"synchronous_mode": False}, SYNC, ("leader", "replica", "replica")),
        ({"synchronous_mode": True}, SYNC, ("leader", "sync_standby", "sync_standby")),
        ({"synchronous_mode": "on"}, {**SYNC, "sync_standby": "n2"}, ("leader", "sync_standby", "replica")),
        ({"synchronous_mode": True}, {**SYNC, "sync_standby": None}, ("leader", "replica", "replica")),
        ({"synchronous_mode": True}, {**SYNC, "leader": None}, ("leader", "replica", "replica")),
        ({"synchronous_mode": True}, "{", ("leader", "replica", "replica")),
        ({"synchronous_mode": "quorum"}, SYNC, ("leader", "quorum_standby", "quorum_standby")),
        ({"standby_cluster": {"host": "h"}, "synchronous_mode": True}, SYNC, ("standby_leader", "replica", "replica")),
        ({"standby_cluster": {"host": ""}}, SYNC, ("leader", "replica", "replica")),
        ({"standby_cluster": None}, SYNC, ("leader", "replica", "replica")),
        ("[]", SYNC, ("leader", "replica", "replica")),
    ],
)
def test_roles(config: object, sync: object, expected: tuple[str, ...]) -> None:
    assert tuple(roles(leader="n1", config=config, sync=sync).values()) == expected


def test_no_leader() -> None:
    assert set(roles(config={}).values()) == {"replica"}


def test_state_of_a_replica_that_streams() -> None:
    value = {"state": "running", "replication_state": "streaming"}
    (cluster,) = clusters({"/service/a/leader": "n1", **{f"/service/a/members/{name}": value for name in ("n1", "n2")}})
    assert [(member.name, member.role, member.state) for member in cluster.members] == [
        ("n1", "leader", "running"),
        ("n2", "replica", "streaming"),
    ]


@pytest.mark.parametrize(
    ("conn_url", "address"),
    [
        ("postgres://db1/postgres", ("db1", "5432")),
        ("postgres://[::1]:5433/postgres", ("::1", "5433")),
        ("postgres://u:p@db1:5434/", ("db1", "5434")),
        ("postgres://db1:x/", ("", "")),
        ("postgres://[::1/", ("", "")),
        ("db1", ("", "")),
        (None, ("", "")),
        (7, ("", "")),
    ],
)
def test_address_of_postgresql(conn_url: object, address: tuple[str, str]) -> None:
    (cluster,) = clusters({"/service/a/members/n1": {"conn_url": conn_url}})
    assert [(member.host, member.port) for member in cluster.members] == [address]


def test_which_keys_are_clusters() -> None:
    values: dict[str, object] = {
        f"/{key}": {}
        for key in (
            *("service/a/members/n1", "service/a/members/n2/x", "service/a/optime/leader", "service/a/status"),
            *("service/gone/initialize", "service/gone/config", "service/other/config", "service/other/leader"),
            *(
                "service/b/4２/members/n1",
                "service/citus/0/members/c1",
                "service/citus/1/members/w1",
                "service/citus/1/initialize",
            ),
            *("service/members/members/n1", "service/members/config", "service/optime/members/n1"),
            *("service/team/b/members/leader", "service/42/members/n1", "service/members/x", "service//members/n1"),
        )
    }
    found = {
        cluster.path: (cluster.scope, *(member.name for member in cluster.members)) for cluster in clusters(values)
    }
    assert found == {
        "/service/a": ("a", "n1"),
        "/service/gone": ("gone",),
        "/service/b/4２": ("4２", "n1"),
        "/service/citus/0": ("citus", "c1"),
        "/service/citus/1": ("citus", "w1"),
        "/service/members": ("members", "n1"),
        "/service/optime": ("optime", "n1"),
        "/service/team/b": ("b", "leader"),
        "/service/42": ("42", "n1"),
    }
    assert {cluster.scope for cluster in clusters({"/service/x/members/n": {}}, "/")} == {"x"}


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("", "expected a JSON object"),
        ("{", "expected a JSON object"),
        ("[]", "expected a JSON object"),
        ("postgres://h/", "expected a JSON object"),
        ("[" * 100_000, "expected a JSON object"),
        ({"state": 1}, "state: expected a string, found 1"),
        ({"api_url": []}, "api_url: expected a string, found an array"),
        ({"tags": "x"}, "tags: expected an object, found a string"),
        ({"timeline": "x"}, "timeline: expected an integer, found a string"),
    ],
)
def test_member_that_is_not_valid(value: object, reason: str) -> None:
    keys = read({"/service/a/members/bad": value, "/service/a/members/good": MEMBER})
    assert [[member.name for member in cluster.members] for cluster in keys.clusters()] == [["good"]]
    assert keys.skipped == [f"/service/a/members/bad: {reason}"]


def test_size_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SIZE_LIMIT", 1024 * 1024)
    read({f"/service/a/members/n{number}": "x" * 131_072 for number in range(8)})
    with pytest.raises(ParseError, match=r"^the members take more than 1 MiB$"):
        read({f"/service/a/members/n{number}": "x" * 131_072 for number in range(9)})


PARTS = st.sampled_from((b"a", b"members", b"leader", b"config", b"sync", b"initialize", b"optime", b"0", b"", b"\xff"))
NAMES = ("members/n1", "members/n2", "config", "sync", "leader", "initialize")


@settings(deadline=None, max_examples=60)
@given(
    rows=st.lists(
        st.tuples(
            st.lists(PARTS, max_size=5).map(b"/".join) | st.binary(max_size=20),
            st.one_of(JSON.map(written), st.binary(max_size=40)),
        ),
        max_size=5,
    ),
    cluster=st.dictionaries(st.sampled_from(NAMES), st.one_of(JSON.map(written), st.binary(max_size=9))),
    data=st.dictionaries(st.sampled_from((*MEMBER, "replication_state")), JSON),
)
def test_any_keys(rows: list[tuple[bytes, bytes]], cluster: dict[str, bytes], data: dict[str, object]) -> None:
    keys = Keys("/service/")
    for key, value in rows:
        keys.add(b"/service/" + key, value)
    for name, value in cluster.items():
        keys.add(f"/service/a/{name}".encode(), value)
    keys.add(b"/service/a/members/n1", written({**MEMBER, **data}))
    for found in keys.clusters():
        for member in found.members:
            assert member.role in ("leader", "standby_leader", "replica", "sync_standby", "quorum_standby")
            for text in (member.name, member.api_url, member.state or "", member.host, *sum(member.tags, ())):
                text.encode()
