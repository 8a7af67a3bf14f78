"""The status of one Patroni node: `GET /patroni`, parsed whatever its HTTP status is."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count
from typing import NamedTuple

from exporter.collectors.base import Collector, Family, Number, gauge, info, inherited, with_labels
from exporter.collectors.document import Answer, Fields, ParseError
from exporter.collectors.patroni import SCOPE_NAME, version_number

# Model


class Standby(NamedTuple):
    """One row of pg_stat_replication as text."""

    usename: str
    application_name: str
    client_addr: str
    state: str
    sync_state: str
    sync_priority: str


@dataclass(frozen=True)
class Node:
    """One node; None means missing. Positions are in bytes, timestamps in Unix seconds."""

    version: str
    scope: str
    name: str | None
    role: str
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
    watchdog_failed: bool
    logger_records_lost: int | None
    certificate_not_after: float | None

    @property
    def is_primary(self) -> bool:
        """Whether the role is primary."""
        return self.role in ("primary", "master")  # "master" until Patroni 4.0


def parse(answer: Answer) -> Node:
    """Returns the node; raises ParseError if the document is not the status of a Patroni node."""
    fields = answer.fields()
    patroni = fields.fields("patroni")
    if patroni is None:
        raise ParseError(f"HTTP {answer.status}: expected the status of a Patroni node, found no key 'patroni'")
    role, state = fields.required_text("role"), fields.required_text("state")
    xlog = fields.fields("xlog") or Fields({}, "xlog")
    return Node(
        version=patroni.required_text("version"),
        scope=patroni.required_text("scope"),
        name=patroni.text("name"),  # Patroni 3.2
        role=role,
        # "initalizing" until Patroni 3.0.2
        state="initializing new cluster" if state == "initalizing new cluster" else state,
        postmaster_start_time=fields.timestamp("postmaster_start_time"),
        server_version=fields.integer("server_version"),
        database_system_identifier=fields.text("database_system_identifier"),
        location=xlog.integer("location"),
        received_location=xlog.integer("received_location"),
        replayed_location=xlog.integer("replayed_location"),
        replayed_timestamp=xlog.timestamp("replayed_timestamp"),
        replay_paused=xlog.flag("paused"),
        timeline=fields.integer("timeline"),
        replication_state=fields.text("replication_state"),
        replication=tuple(dict.fromkeys(_standby(row) for row in fields.items("replication"))),
        dcs_last_seen=fields.integer("dcs_last_seen"),
        cluster_unlocked=fields.flag("cluster_unlocked"),
        failsafe_mode_is_active=fields.flag("failsafe_mode_is_active"),
        pause=fields.flag("pause"),
        pending_restart=fields.flag("pending_restart"),
        sync_standby=fields.flag("sync_standby"),
        quorum_standby=fields.flag("quorum_standby"),
        failover_priority=_failover_priority(fields.fields("tags") or Fields({}, "tags")),
        watchdog_failed=fields.flag("watchdog_failed"),
        logger_records_lost=fields.integer("logger_records_lost"),
        certificate_not_after=answer.certificate_not_after,
    )


def _standby(row: Fields) -> Standby:
    *texts, priority = Standby._fields  # client_addr is null for a connection over a Unix socket
    return Standby._make([*(row.text(key) or "" for key in texts), str(row.integer(priority) or 0)])


def _failover_priority(tags: Fields) -> int:
    """Returns the priority as patroni/tags.py does; a tag can be any YAML value."""
    values = dict(tags)
    if values.get("nofailover"):
        return 0
    priority = values.get("failover_priority")
    if isinstance(priority, str) and re.fullmatch(r"\s*[+-]?\d{1,18}\s*", priority):
        priority = int(priority)
    return priority if isinstance(priority, int) and not isinstance(priority, bool) and abs(priority) < 10**18 else 1


# Families

#: The states of PostgreSQL in the order of their numbers, from patroni/postgresql/misc.py of Patroni 4.1.
STATES = (
    "initializing new cluster", "initdb failed", "running custom bootstrap script", "custom bootstrap failed",
    "creating replica", "running", "starting", "starting after custom bootstrap", "start failed", "restarting",
    "restart failed", "stopping", "stopped", "stop failed", "crashed",
)  # fmt: skip


def _own(name: str, help: str, value: Callable[[Node], Number], since: str = "") -> Family[Node]:
    return gauge(name, help, lambda node: value(node) or 0, since)


def _flag(name: str, condition: str, value: Callable[[Node], bool], since: str = "") -> Family[Node]:
    return _own(name, f"1 if {condition}, 0 otherwise.", value, since)


#: Patroni's own names and values: 0 is also the value for unknown.
OWN_FAMILIES: tuple[Family[Node], ...] = with_labels(
    SCOPE_NAME,
    gauge("patroni_version",
        "Version of Patroni as a number with two digits per part: 4.1.5 is 40105; absent if it is not numeric.",
        lambda node: version_number(node.version)),
    _flag("patroni_postgres_running", "PostgreSQL is running", lambda node: node.state == "running"),
    _own("patroni_postmaster_start_time", "Start time of PostgreSQL in Unix seconds, 0 if unknown.",
        lambda node: node.postmaster_start_time),
    _own("patroni_master",
        "1 if the role of this node is primary, 0 otherwise; Patroni 4.0 replaced it by patroni_primary.",
        lambda node: node.is_primary),
    _flag("patroni_primary", "the role of this node is primary (master before Patroni 4.0)",
        lambda node: node.is_primary),
    _own("patroni_xlog_location", "WAL position of the primary in bytes, 0 if this node is not the primary.",
        lambda node: node.location),
    _flag("patroni_standby_leader", "the role of this node is standby_leader",
        lambda node: node.role == "standby_leader"),
    _flag("patroni_replica", "the role of this node is replica, which includes synchronous standbys",
        lambda node: node.role == "replica"),
    _flag("patroni_sync_standby", "this node is a synchronous standby", lambda node: node.sync_standby, "3.0.2"),
    _flag("patroni_quorum_standby", "this node is a quorum standby", lambda node: node.quorum_standby, "4.0.0"),
    _own("patroni_xlog_received_location", "WAL position received by this node in bytes, 0 if it is not a replica.",
        lambda node: node.received_location),
    _own("patroni_xlog_replayed_location", "WAL position replayed by this node in bytes, 0 if it is not a replica.",
        lambda node: node.replayed_location),
    _own("patroni_xlog_replayed_timestamp",
        "Time of the last replayed transaction in Unix seconds, 0 if none was replayed since PostgreSQL started.",
        lambda node: node.replayed_timestamp),
    _flag("patroni_xlog_paused", "WAL replay is paused", lambda node: node.replay_paused),
    _flag("patroni_postgres_streaming", "this node receives WAL by streaming replication",
        lambda node: node.replication_state == "streaming", "3.0.4"),
    _flag("patroni_postgres_in_archive_recovery", "this node receives WAL from an archive",
        lambda node: node.replication_state == "in archive recovery", "3.0.4"),
    _own("patroni_postgres_server_version",
        "Version of PostgreSQL as a number: 15.18 is 150018; 0 if PostgreSQL is not running.",
        lambda node: node.server_version),
    _flag("patroni_cluster_unlocked", "no node holds the leader lock or this node cannot read it from the DCS",
        lambda node: node.cluster_unlocked),
    _flag("patroni_failsafe_mode_is_active", "failsafe mode keeps the primary running without the DCS",
        lambda node: node.failsafe_mode_is_active, "3.0.0"),
    _own("patroni_postgres_timeline", "Timeline of this node, 0 if unknown.", lambda node: node.timeline),
    _own("patroni_dcs_last_seen",
        "Time of the last successful request of Patroni to the DCS in Unix seconds, 0 before Patroni 2.1.2.",
        lambda node: node.dcs_last_seen, "2.1.2"),
    _flag("patroni_pending_restart", "PostgreSQL on this node needs a restart", lambda node: node.pending_restart),
    _flag("patroni_is_paused", "the cluster is in maintenance mode (no automatic failover)", lambda node: node.pause),
    _own("patroni_postgres_state",
        f"State of PostgreSQL as a number: {', '.join(map('{}={}'.format, count(), STATES))}; -1 for any other state.",
        lambda node: STATES.index(node.state) if node.state in STATES else -1),
    _own("patroni_failover_priority",
        "Failover priority of this node: 0 with the tag nofailover, else the tag failover_priority, else 1.",
        lambda node: node.failover_priority, "3.2.0"),
)  # fmt: skip

#: Problems that Patroni reports only while they last, and not in its own /metrics.
PROBLEM_FAMILIES: tuple[Family[Node], ...] = with_labels(
    SCOPE_NAME,
    gauge("patroni_watchdog_failed", "1 if the watchdog of this node is not healthy; absent otherwise.",
        lambda node: node.watchdog_failed or None),
    gauge("patroni_logger_records_lost",
        "Number of log records that Patroni lost because its log queue was full; absent if it reports none.",
        lambda node: node.logger_records_lost),
    gauge("patroni_tls_certificate_not_after_timestamp_seconds",
        "When the TLS certificate of Patroni's REST API expires, in Unix seconds; absent without TLS.",
        lambda node: node.certificate_not_after),
)  # fmt: skip

#: The names and labels of the Patroni exporter that this exporter replaces.
INHERITED_FAMILIES: tuple[Family[Node], ...] = inherited(
    info("patroni_patroni_info",
        "Version, cluster, name, role and state of this node, always 1; without the label name before Patroni 3.2.",
        ("version", "scope", "name", "role", "state"),
        lambda node: [(node.version, node.scope, node.name, node.role, node.state)]),
    info("patroni_postgresql_info",
        "Version and system identifier of PostgreSQL, always 1; an unknown label is empty; absent if both are unknown.",
        ("server_version", "database_system_identifier"),
        lambda node: filter(any, [(str(node.server_version or ""), node.database_system_identifier or "")])),
    info("patroni_replication_info", "Standby that replicates from this node, always 1; absent if there is none.",
        Standby._fields, lambda node: node.replication),
    gauge("patroni_postgresql_postmaster_start_time", "Start time of PostgreSQL in Unix seconds; absent if unknown.",
        lambda node: node.postmaster_start_time),
    gauge("patroni_postgresql_timeline", "Timeline of this node; absent if unknown.", lambda node: node.timeline),
    gauge("patroni_postgresql_pending_restart", "1 if PostgreSQL on this node needs a restart, 0 otherwise.",
        lambda node: node.pending_restart),
    gauge("patroni_patroni_cluster_unlocked",
        "1 if no node holds the leader lock or this node cannot read it from the DCS, 0 otherwise.",
        lambda node: node.cluster_unlocked),
    gauge("patroni_patroni_pause", "1 if the cluster is in maintenance mode (no automatic failover), 0 otherwise.",
        lambda node: node.pause),
)  # fmt: skip

FAMILIES: tuple[Family[Node], ...] = OWN_FAMILIES + PROBLEM_FAMILIES + INHERITED_FAMILIES

COLLECTOR = Collector(
    "node",
    "patroni",
    parse,
    FAMILIES,
    common_labels=lambda node: {"scope": node.scope, "name": node.name or ""},  # the name: Patroni 3.2
)
