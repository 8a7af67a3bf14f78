"""What a Patroni node knows of its whole cluster: `GET /cluster`, with its members as the DCS last saw them."""

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from exporter.collectors.base import Collector, Family, Number, Subject, Values, gauge, gauges, info, stateset
from exporter.collectors.document import Answer, Fields, distinct, encodable
from exporter.collectors.patroni import SCOPE, counting

# Model ----------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Member:
    """One member; None means unknown or left out. Positions and lags are bytes, times are Unix seconds."""

    name: str
    role: str | None
    state: str | None
    host: str
    port: str
    api_url: str
    timeline: int | None
    lag: int | None
    receive_lag: int | None
    replay_lag: int | None
    lsn: int | None
    receive_lsn: int | None
    replay_lsn: int | None
    pending_restart: bool
    pending_restart_parameters: tuple[str, ...]
    scheduled_restart: float | None
    tags: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Switchover:
    """A switchover that is scheduled for `at`, in Unix seconds; a member that was not chosen is empty."""

    at: float
    leader: str
    candidate: str


@dataclass(frozen=True)
class Cluster:
    """The cluster; its scope is None before Patroni 3.2. `repeated` are names of members that were passed over."""

    scope: str | None
    paused: bool
    switchover: Switchover | None
    members: tuple[Member, ...]
    repeated: tuple[str, ...]


# parse ----------------------------------------------------------------------------------------------------------------


def parse(answer: Answer) -> Cluster:
    """Returns the cluster; of two members with one name the first.

    Raises ParseError when the answer is not Patroni's list of members.
    """
    fields = counting(answer).fields()
    members, repeated = distinct(map(_member, fields.items("members")), lambda member: member.name)
    return Cluster(
        scope=fields.text("scope"),  # Patroni 3.2
        paused=fields.flag("pause"),
        switchover=_switchover(fields.fields("scheduled_switchover")),
        members=members,
        repeated=repeated,
    )


def _member(item: Fields) -> Member:
    port = item.whole("port")
    reason = item.fields("pending_restart_reason")  # Patroni 3.3
    restart = item.fields("scheduled_restart")
    tags = item.fields("tags")
    return Member(
        name=item.required_text("name"),
        role=item.text("role"),
        state=item.text("state"),
        host=item.text("host") or "",
        port="" if port is None else str(port),
        api_url=item.text("api_url") or "",
        timeline=item.known_whole("timeline"),
        lag=item.known_whole("lag"),
        receive_lag=item.known_whole("receive_lag"),  # this and the rest of its kind: Patroni 4.1
        replay_lag=item.known_whole("replay_lag"),
        lsn=item.position("lsn"),
        receive_lsn=item.position("receive_lsn"),
        replay_lsn=item.position("replay_lsn"),
        pending_restart=item.flag("pending_restart"),
        pending_restart_parameters=tuple(parameter for parameter, _ in reason or ()),
        scheduled_restart=None if restart is None else restart.moment("schedule"),
        tags=tuple((tag, _tag_text(value)) for tag, value in tags or ()),
    )


def _tag_text(value: object) -> str:
    """Returns a tag's value, which is anything that YAML can say, as one would write it there."""
    return encodable(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))


def _switchover(fields: Fields | None) -> Switchover | None:
    at = None if fields is None else fields.moment("at")
    if fields is None or at is None:
        return None
    return Switchover(at, fields.text("from") or "", fields.text("to") or "")


# FAMILIES -------------------------------------------------------------------------------------------------------------


def _each_member(name: str, help: str, value: Callable[[Member], Number], *, since: str = "") -> Family[Cluster]:
    def values(cluster: Cluster) -> Iterable[tuple[Values, Number]]:
        return [((member.name,), value(member)) for member in cluster.members]

    return gauges(name, help, ("name",), values, subject=SCOPE, since=since)


FAMILIES: tuple[Family[Cluster], ...] = (
    gauge(
        "patroni_cluster_members",
        "How many members the cluster lists.",
        lambda cluster: len(cluster.members),
        subject=SCOPE,
    ),
    gauge(
        "patroni_cluster_paused",
        "1 when the cluster is in maintenance mode, so that nothing fails over by itself, else 0.",
        lambda cluster: cluster.paused,
        subject=SCOPE,
    ),
    gauges(
        "patroni_cluster_scheduled_switchover_timestamp_seconds",
        "When the leader is to be switched over, in Unix seconds; absent when that is not scheduled. "
        "`to` is empty when no candidate was chosen.",
        ("from", "to"),
        lambda cluster: (
            [((cluster.switchover.leader, cluster.switchover.candidate), cluster.switchover.at)]
            if cluster.switchover
            else []
        ),
        subject=SCOPE,
    ),
    info(
        "patroni_member_info",
        "1, with the address of the member's PostgreSQL and of its REST API.",
        ("name", "host", "port", "api_url"),
        lambda cluster: [(member.name, member.host, member.port, member.api_url) for member in cluster.members],
        subject=SCOPE,
    ),
    stateset(
        "patroni_member_role",
        "1 for the role that the member has, 0 for the others.",
        ("name", "role"),
        ("leader", "standby_leader", "sync_standby", "quorum_standby", "replica"),
        lambda cluster: [(member.name, member.role) for member in cluster.members if member.role],
        subject=SCOPE,
    ),
    info(
        "patroni_member_state",
        "1 for the state that the member is in, as Patroni words it.",
        ("name", "state"),
        lambda cluster: [(member.name, member.state) for member in cluster.members if member.state],
        subject=SCOPE,
    ),
    _each_member(
        "patroni_member_timeline", "Timeline of the member; absent when unknown.", lambda member: member.timeline
    ),
    _each_member(
        "patroni_member_lag_bytes",
        "Bytes that the member is behind the leader, from the greater of what it received and what it replayed: "
        "a replica that received and did not replay has 0 here; absent on the leader and when unknown.",
        lambda member: member.lag,
    ),
    _each_member(
        "patroni_member_receive_lag_bytes",
        "Bytes that the member has not received yet; absent on the leader, when unknown, and before Patroni 4.1.",
        lambda member: member.receive_lag,
        since="4.1.0",
    ),
    _each_member(
        "patroni_member_replay_lag_bytes",
        "Bytes that the member has not replayed yet; absent on the leader, when unknown, and before Patroni 4.1.",
        lambda member: member.replay_lag,
        since="4.1.0",
    ),
    _each_member(
        "patroni_member_lsn_bytes",
        "Position of the member in the write-ahead log in bytes, the greater of received and replayed; "
        "absent on the leader, when unknown, and before Patroni 4.1.",
        lambda member: member.lsn,
        since="4.1.0",
    ),
    _each_member(
        "patroni_member_receive_lsn_bytes",
        "Position that the member received in bytes; absent on the leader, when unknown, and before Patroni 4.1.",
        lambda member: member.receive_lsn,
        since="4.1.0",
    ),
    _each_member(
        "patroni_member_replay_lsn_bytes",
        "Position that the member replayed in bytes; absent on the leader, when unknown, and before Patroni 4.1.",
        lambda member: member.replay_lsn,
        since="4.1.0",
    ),
    _each_member(
        "patroni_member_pending_restart",
        "1 when the member waits for a restart of PostgreSQL, else 0.",
        lambda member: member.pending_restart,
    ),
    info(
        "patroni_member_pending_restart_parameter_info",
        "1 for each parameter that waits for a restart of PostgreSQL; absent when none does and before Patroni 3.3.",
        ("name", "parameter"),
        lambda cluster: [
            (member.name, parameter) for member in cluster.members for parameter in member.pending_restart_parameters
        ],
        subject=SCOPE,
        since="3.3.0",
    ),
    _each_member(
        "patroni_member_scheduled_restart_timestamp_seconds",
        "When the member is to be restarted, in Unix seconds; absent when that is not scheduled.",
        lambda member: member.scheduled_restart,
    ),
    info(
        "patroni_member_tag_info",
        "1 for each tag of the member; a value that is not text is written as JSON.",
        ("name", "tag", "value"),
        lambda cluster: [(member.name, tag, value) for member in cluster.members for tag, value in member.tags],
        subject=SCOPE,
    ),
)

# COLLECTOR ------------------------------------------------------------------------------------------------------------


def _subject(cluster: Cluster) -> Subject:
    return {} if cluster.scope is None else {"scope": cluster.scope}


COLLECTOR = Collector(
    "cluster",
    "cluster",
    parse,
    FAMILIES,
    subject=_subject,
    remarks=lambda cluster: [f"a second member with the name {name!r}" for name in cluster.repeated],
)
