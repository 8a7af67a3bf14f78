"""What one Patroni node says of itself: `GET /patroni`, read whatever its HTTP status is."""

import re
from collections.abc import Callable
from dataclasses import dataclass

from exporter.collectors.base import Collector, Family, Number, Subject, gauge, info
from exporter.collectors.document import Answer, Fields, ParseError
from exporter.collectors.patroni import SCOPE_NAME

# Model ----------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Standby:
    """One row of pg_stat_replication, as its six columns read."""

    usename: str
    application_name: str
    client_addr: str
    state: str
    sync_state: str
    sync_priority: str


@dataclass(frozen=True)
class Node:
    """One node; None means that Patroni left it out, positions are bytes and times Unix seconds."""

    version: str
    scope: str
    name: str | None
    role: str
    is_primary: bool
    state: str
    postmaster_start_time: float | None
    server_version: int | None
    database_system_identifier: str | None
    location: int | None
    received_location: int | None
    replayed_location: int | None
    replayed_timestamp: float | None
    replay_paused: bool
    timeline: int | None
    replication_state: str | None
    replication: tuple[Standby, ...]
    dcs_last_seen: int | None
    cluster_unlocked: bool
    failsafe_mode_is_active: bool
    pause: bool
    pending_restart: bool
    sync_standby: bool
    quorum_standby: bool
    failover_priority: int


# parse ----------------------------------------------------------------------------------------------------------------


def parse(answer: Answer) -> Node:
    """Returns the node.

    Raises ParseError when the answer is not the status of a Patroni node.
    """
    fields = answer.fields()
    patroni = fields.fields("patroni")
    if patroni is None:
        raise ParseError(f"HTTP {answer.status} with JSON that is not Patroni's: it has no key 'patroni'")
    role = fields.required_text("role")
    state = fields.required_text("state")
    xlog = fields.fields("xlog") or Fields({}, "xlog")
    return Node(
        version=patroni.required_text("version"),
        scope=patroni.required_text("scope"),
        name=patroni.text("name"),  # Patroni 3.2
        role=role,
        is_primary=role in ("primary", "master"),  # "master" until Patroni 4.0
        # "initalizing" until Patroni 3.0.2
        state="initializing new cluster" if state == "initalizing new cluster" else state,
        postmaster_start_time=fields.moment("postmaster_start_time"),
        server_version=fields.whole("server_version"),
        database_system_identifier=fields.text("database_system_identifier"),
        location=xlog.whole("location"),
        received_location=xlog.whole("received_location"),
        replayed_location=xlog.whole("replayed_location"),
        replayed_timestamp=xlog.moment("replayed_timestamp"),
        replay_paused=xlog.flag("paused"),
        timeline=fields.whole("timeline"),
        replication_state=fields.text("replication_state"),
        replication=tuple(dict.fromkeys(_standby(row) for row in fields.items("replication"))),
        dcs_last_seen=fields.whole("dcs_last_seen"),
        cluster_unlocked=fields.flag("cluster_unlocked"),
        failsafe_mode_is_active=fields.flag("failsafe_mode_is_active"),
        pause=fields.flag("pause"),
        pending_restart=fields.flag("pending_restart"),
        sync_standby=fields.flag("sync_standby"),
        quorum_standby=fields.flag("quorum_standby"),
        failover_priority=_failover_priority(fields.fields("tags") or Fields({}, "tags")),
    )


def _standby(row: Fields) -> Standby:
    return Standby(
        usename=row.text("usename") or "",
        application_name=row.text("application_name") or "",
        client_addr=row.text("client_addr") or "",  # null over a Unix socket
        state=row.text("state") or "",
        sync_state=row.text("sync_state") or "",
        sync_priority=str(row.whole("sync_priority") or 0),
    )


def _failover_priority(tags: Fields) -> int:
    """Follows patroni/tags.py: `nofailover` wins over `failover_priority`, and tags are whatever YAML can say."""
    values = dict(tags)
    if values.get("nofailover"):
        return 0
    priority = values.get("failover_priority")
    if isinstance(priority, str) and re.fullmatch(r"\s*[+-]?\d{1,18}\s*", priority):
        priority = int(priority)
    return priority if isinstance(priority, int) and not isinstance(priority, bool) and abs(priority) < 10**18 else 1


# FAMILIES -------------------------------------------------------------------------------------------------------------

#: The states of PostgreSQL in the order of their numbers, from patroni/postgresql/misc.py of Patroni 4.1.
STATES = (
    "initializing new cluster",
    "initdb failed",
    "running custom bootstrap script",
    "custom bootstrap failed",
    "creating replica",
    "running",
    "starting",
    "starting after custom bootstrap",
    "start failed",
    "restarting",
    "restart failed",
    "stopping",
    "stopped",
    "stop failed",
    "crashed",
)


def version_number(version: str) -> int | None:
    """Returns Patroni's version as it numbers itself, two digits a part: 4.1.5 is 40105."""
    parts = re.match(r"(\d{1,4})\.(\d{1,2})(?:\.(\d{1,2}))?", version)
    return None if parts is None else int(parts[1]) * 10000 + int(parts[2]) * 100 + int(parts[3] or 0)


def _own(name: str, help: str, value: Callable[[Node], Number], since: str = "") -> Family[Node]:
    return gauge(name, help, value, subject=SCOPE_NAME, since=since)


# Patroni's own names and values, where 0 is also "unknown".
OWN_FAMILIES: tuple[Family[Node], ...] = (
    _own(
        "patroni_version",
        "Version of Patroni without periods, two digits a part: 4.1.5 is 40105.",
        lambda node: version_number(node.version),
    ),
    _own("patroni_postgres_running", "1 when PostgreSQL is running, else 0.", lambda node: node.state == "running"),
    _own(
        "patroni_postmaster_start_time",
        "When PostgreSQL was started, in Unix seconds; 0 when unknown.",
        lambda node: node.postmaster_start_time or 0,
    ),
    _own(
        "patroni_master",
        "1 when the role of this node is primary, else 0; the name that Patroni 4.0 dropped, for rules that use it.",
        lambda node: node.is_primary,
    ),
    _own(
        "patroni_primary",
        "1 when the role of this node is primary (master before Patroni 4.0), else 0.",
        lambda node: node.is_primary,
    ),
    _own(
        "patroni_xlog_location",
        "Position of the primary's write-ahead log in bytes; 0 when this node is not the primary.",
        lambda node: node.location or 0,
    ),
    _own(
        "patroni_standby_leader",
        "1 when the role of this node is standby_leader, else 0.",
        lambda node: node.role == "standby_leader",
    ),
    _own(
        "patroni_replica",
        "1 when the role of this node is replica, synchronous ones included, else 0.",
        lambda node: node.role == "replica",
    ),
    _own(
        "patroni_sync_standby",
        "1 when this node is a synchronous standby, else 0.",
        lambda node: node.sync_standby,
        since="3.0.2",
    ),
    _own(
        "patroni_quorum_standby",
        "1 when this node is a quorum standby, else 0.",
        lambda node: node.quorum_standby,
        since="4.0.0",
    ),
    _own(
        "patroni_xlog_received_location",
        "Position of the received write-ahead log in bytes; 0 when this node is not a replica.",
        lambda node: node.received_location or 0,
    ),
    _own(
        "patroni_xlog_replayed_location",
        "Position of the replayed write-ahead log in bytes; 0 when this node is not a replica.",
        lambda node: node.replayed_location or 0,
    ),
    _own(
        "patroni_xlog_replayed_timestamp",
        "Time of the last replayed transaction in Unix seconds; 0 when none was replayed since the start.",
        lambda node: node.replayed_timestamp or 0,
    ),
    _own(
        "patroni_xlog_paused",
        "1 when replay of the write-ahead log is paused, else 0.",
        lambda node: node.replay_paused,
    ),
    _own(
        "patroni_postgres_streaming",
        "1 when this node streams from another one, else 0.",
        lambda node: node.replication_state == "streaming",
        since="3.0.4",
    ),
    _own(
        "patroni_postgres_in_archive_recovery",
        "1 when this node replicates from an archive, else 0.",
        lambda node: node.replication_state == "in archive recovery",
        since="3.0.4",
    ),
    _own(
        "patroni_postgres_server_version",
        "Version of PostgreSQL as it numbers itself: 15.18 is 150018; 0 when it does not run.",
        lambda node: node.server_version or 0,
    ),
    _own(
        "patroni_cluster_unlocked",
        "1 when nobody holds the leader lock or Patroni cannot see it, else 0.",
        lambda node: node.cluster_unlocked,
    ),
    _own(
        "patroni_failsafe_mode_is_active",
        "1 when failsafe mode keeps the leader going without the DCS, else 0.",
        lambda node: node.failsafe_mode_is_active,
        since="3.0.0",
    ),
    _own(
        "patroni_postgres_timeline",
        "Timeline of PostgreSQL on this node; 0 when unknown.",
        lambda node: node.timeline or 0,
    ),
    _own(
        "patroni_dcs_last_seen",
        "When Patroni last reached its DCS, in Unix seconds; 0 when it does not say (before Patroni 2.1.2).",
        lambda node: node.dcs_last_seen or 0,
        since="2.1.2",
    ),
    _own(
        "patroni_pending_restart",
        "1 when this node waits for a restart of PostgreSQL, else 0.",
        lambda node: node.pending_restart,
    ),
    _own(
        "patroni_is_paused",
        "1 when the cluster is in maintenance mode, so that nothing fails over by itself, else 0.",
        lambda node: node.pause,
    ),
    _own(
        "patroni_postgres_state",
        "State of PostgreSQL as Patroni numbers it: "
        + ", ".join(f"{number}={state}" for number, state in enumerate(STATES))
        + "; -1 when it is none of these.",
        lambda node: STATES.index(node.state) if node.state in STATES else -1,
    ),
    _own(
        "patroni_failover_priority",
        "Priority of this node in a leader race: 0 with the tag nofailover, else the tag failover_priority, else 1.",
        lambda node: node.failover_priority,
        since="3.2.0",
    ),
)

# The names of the exporter that this one replaces, with its labels.
INHERITED_FAMILIES: tuple[Family[Node], ...] = (
    info(
        "patroni_patroni_info",
        "1, with what Patroni says of this node, in its own words; a label that it does not give is left out.",
        ("version", "scope", "name", "role", "state"),
        lambda node: [(node.version, node.scope, node.name, node.role, node.state)],
    ),
    info(
        "patroni_postgresql_info",
        "1, with what PostgreSQL says of itself; a label that it does not give is empty, absent with neither.",
        ("server_version", "database_system_identifier"),
        lambda node: [] if (row := _postgresql(node)) == ("", "") else [row],
    ),
    info(
        "patroni_replication_info",
        "1 for each standby that this node feeds; absent when it feeds none.",
        ("usename", "application_name", "client_addr", "state", "sync_state", "sync_priority"),
        lambda node: [
            (row.usename, row.application_name, row.client_addr, row.state, row.sync_state, row.sync_priority)
            for row in node.replication
        ],
    ),
    gauge(
        "patroni_postgresql_postmaster_start_time",
        "When PostgreSQL was started, in Unix seconds; absent when unknown.",
        lambda node: node.postmaster_start_time,
    ),
    gauge(
        "patroni_postgresql_timeline",
        "Timeline of PostgreSQL on this node; absent when unknown.",
        lambda node: node.timeline,
    ),
    gauge(
        "patroni_postgresql_pending_restart",
        "1 when this node waits for a restart of PostgreSQL, else 0.",
        lambda node: node.pending_restart,
    ),
    gauge(
        "patroni_patroni_cluster_unlocked",
        "1 when nobody holds the leader lock or Patroni cannot see it, else 0.",
        lambda node: node.cluster_unlocked,
    ),
    gauge("patroni_patroni_pause", "1 when the cluster is in maintenance mode, else 0.", lambda node: node.pause),
)


def _postgresql(node: Node) -> tuple[str, str]:
    version = "" if node.server_version is None else str(node.server_version)
    return version, node.database_system_identifier or ""


FAMILIES: tuple[Family[Node], ...] = OWN_FAMILIES + INHERITED_FAMILIES

# COLLECTOR ------------------------------------------------------------------------------------------------------------


def _subject(node: Node) -> Subject:
    return {"scope": node.scope, "name": node.name or ""}  # no name before Patroni 3.2: empty, as it has no such label


COLLECTOR = Collector("node", "patroni", parse, FAMILIES, subject=_subject)
