"""The members of a Patroni cluster, as the DCS has them: `GET /cluster`."""

import json
from collections.abc import Callable
from dataclasses import dataclass

from exporter.collectors.base import Collector, Family, Number, gauge, gauges, info, stateset, with_labels
from exporter.collectors.document import Answer, Fields, distinct, encodable
from exporter.collectors.patroni import SCOPE, require_ok

# Model


@dataclass(frozen=True)
class Member:
    """One member; None means unknown or missing. Positions and lags are in bytes, timestamps in Unix seconds."""

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

    @property
    def is_leader(self) -> bool:
        """Whether it is the leader of its cluster or standby cluster."""
        return self.role in ("leader", "standby_leader")

    @property
    def is_running(self) -> bool:
        """Whether PostgreSQL is running."""
        # Before Patroni 3.0.4 a replica that streams is "running".
        return self.state in ("running", "streaming", "in archive recovery")


@dataclass(frozen=True)
class Switchover:
    """A scheduled switchover at a time in Unix seconds; `leader` and `candidate` are empty if not chosen."""

    at: float
    leader: str
    candidate: str


@dataclass(frozen=True)
class Cluster:
    """The cluster; its scope is None before Patroni 3.2."""

    scope: str | None
    paused: bool
    switchover: Switchover | None
    members: tuple[Member, ...]
    warnings: tuple[str, ...]


def parse(answer: Answer) -> Cluster:
    """Returns the cluster, of members with the same name the first; raises ParseError if it is no list of members."""
    fields = require_ok(answer, "1.6.1").fields()
    members, warnings = distinct("member", map(read_member, fields.items("members")), lambda member: member.name)
    return Cluster(
        scope=fields.text("scope"),  # Patroni 3.2
        paused=fields.flag("pause"),
        switchover=_switchover(fields.fields("scheduled_switchover")),
        members=members,
        warnings=warnings,
    )


def read_member(item: Fields) -> Member:
    """Returns a member of the document; raises ParseError."""
    port = item.integer("port")
    reason = item.fields("pending_restart_reason")  # Patroni 3.3
    restart = item.fields("scheduled_restart")
    return Member(
        name=item.required_text("name"),
        role=item.text("role"),
        state=item.text("state"),
        host=item.text("host") or "",
        port="" if port is None else str(port),
        api_url=item.text("api_url") or "",
        timeline=item.integer_or_unknown("timeline"),
        lag=item.integer_or_unknown("lag"),
        receive_lag=item.integer_or_unknown("receive_lag"),  # this and the next four: Patroni 4.1
        replay_lag=item.integer_or_unknown("replay_lag"),
        lsn=item.lsn("lsn"),
        receive_lsn=item.lsn("receive_lsn"),
        replay_lsn=item.lsn("replay_lsn"),
        pending_restart=item.flag("pending_restart"),
        pending_restart_parameters=tuple(parameter for parameter, _ in reason or ()),
        scheduled_restart=None if restart is None else restart.timestamp("schedule"),
        tags=tuple((tag, _tag_value(value)) for tag, value in item.fields("tags") or ()),
    )


def _tag_value(value: object) -> str:
    """Returns the value of a tag, which can be any YAML value, as text or JSON."""
    return encodable(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))


def _switchover(fields: Fields | None) -> Switchover | None:
    if fields is None or (at := fields.timestamp("at")) is None:
        return None
    return Switchover(at, fields.text("from") or "", fields.text("to") or "")


# Families


def _each_member(name: str, help: str, value: Callable[[Member], Number], since: str = "") -> Family[Cluster]:
    return gauges(
        name, help, ("name",), lambda cluster: [((member.name,), value(member)) for member in cluster.members], since
    )


FAMILIES: tuple[Family[Cluster], ...] = with_labels(
    SCOPE,
    gauge("patroni_cluster_members", "Number of members of the cluster.", lambda cluster: len(cluster.members)),
    gauge("patroni_cluster_paused", "1 if the cluster is in maintenance mode (no automatic failover), 0 otherwise.",
        lambda cluster: cluster.paused),
    gauges("patroni_cluster_scheduled_switchover_timestamp_seconds",
        "Time of the scheduled switchover in Unix seconds; `to` is empty if no candidate was chosen; "
        "absent if no switchover is scheduled.", ("from", "to"),
        lambda cluster: [((each.leader, each.candidate), each.at)] if (each := cluster.switchover) else []),
    info("patroni_member_info",
        "Addresses of the member's PostgreSQL and REST API, always 1; an unknown label is empty.",
        ("name", "host", "port", "api_url"),
        lambda cluster: [(member.name, member.host, member.port, member.api_url) for member in cluster.members]),
    stateset("patroni_member_role", "1 for the role of the member, 0 for the other roles; absent if unknown.",
        ("name", "role"), ("leader", "standby_leader", "sync_standby", "quorum_standby", "replica"),
        lambda cluster: [(member.name, member.role) for member in cluster.members if member.role]),
    info("patroni_member_state", "State of the member as Patroni reports it, always 1; absent if unknown.",
        ("name", "state"), lambda cluster: [(member.name, member.state) for member in cluster.members if member.state]),
    _each_member("patroni_member_timeline", "Timeline of the member; absent if unknown.",
        lambda member: member.timeline),
    _each_member("patroni_member_lag_bytes",
        "Lag of the member behind the leader in bytes, from the greater of its received and replayed positions: "
        "0 on a replica that has received all WAL but not replayed it; absent on the leader and if unknown.",
        lambda member: member.lag),
    _each_member("patroni_member_receive_lag_bytes",
        "WAL that the member has not received yet, in bytes; absent on the leader, if unknown, and before Patroni 4.1.",
        lambda member: member.receive_lag, "4.1.0"),
    _each_member("patroni_member_replay_lag_bytes",
        "WAL that the member has not replayed yet, in bytes; absent on the leader, if unknown, and before Patroni 4.1.",
        lambda member: member.replay_lag, "4.1.0"),
    _each_member("patroni_member_lsn_bytes",
        "WAL position of the member in bytes, the greater of received and replayed; "
        "absent on the leader, if unknown, and before Patroni 4.1.", lambda member: member.lsn, "4.1.0"),
    _each_member("patroni_member_receive_lsn_bytes",
        "WAL position received by the member in bytes; absent on the leader, if unknown, and before Patroni 4.1.",
        lambda member: member.receive_lsn, "4.1.0"),
    _each_member("patroni_member_replay_lsn_bytes",
        "WAL position replayed by the member in bytes; absent on the leader, if unknown, and before Patroni 4.1.",
        lambda member: member.replay_lsn, "4.1.0"),
    _each_member("patroni_member_pending_restart", "1 if PostgreSQL on the member needs a restart, 0 otherwise.",
        lambda member: member.pending_restart),
    info("patroni_member_pending_restart_parameter_info",
        "Parameter that takes effect after a restart of PostgreSQL, always 1; "
        "absent if no restart is pending and before Patroni 3.3.", ("name", "parameter"),
        lambda cluster: [(each.name, key) for each in cluster.members for key in each.pending_restart_parameters],
        "3.3.0"),
    _each_member("patroni_member_scheduled_restart_timestamp_seconds",
        "Time of the scheduled restart of PostgreSQL in Unix seconds; absent if no restart is scheduled.",
        lambda member: member.scheduled_restart),
    info("patroni_member_tag_info",
        "Tag of the member, always 1; a value that is not a string is JSON; absent if the member has no tags.",
        ("name", "tag", "value"),
        lambda cluster: [(member.name, tag, value) for member in cluster.members for tag, value in member.tags]),
)  # fmt: skip

COLLECTOR = Collector(
    "cluster",
    "cluster",
    parse,
    FAMILIES,
    common_labels=lambda cluster: {} if cluster.scope is None else {"scope": cluster.scope},
    warnings=lambda cluster: cluster.warnings,
)
