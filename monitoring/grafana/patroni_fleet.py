"""All Patroni clusters: firing alerts, leaders, lag, members that are down, versions."""

from grafana_foundation_sdk.builders.dashboard import Row

from monitoring.grafana.board import CLUSTER_LABELS, Board, choice, dashboard, moments
from monitoring.grafana.panels import (
    ALARM_FROM_1,
    LAG,
    NO_IS_GOOD,
    NO_IS_VITAL,
    SEEN,
    WARN_FROM_1,
    Column,
    figure,
    lines,
    rows,
)

#: Leads to one cluster, with the same data source and time.
CLUSTER = (
    "/d/patroni-cluster/patroni-cluster?var-scope=${__value.text}&var-namespace=${__data.fields.namespace}"
    "&var-cluster=${__data.fields.cluster}&${datasource:queryparam}&${__url_time_range}"
)

#: The name of a line.
NAME = "{{namespace}} {{scope}}"

#: The lines of the clusters with the greatest values.
TOP = 20

BY = f"by ({CLUSTER_LABELS})"

# Every node reports each member, so each query takes the greatest value. Nodes are counted by their targets: before
# Patroni 3.2 a node does not know its name.
LEADERS = f'max by ({CLUSTER_LABELS}, name) (patroni:member_leader{{scope=~"$scope"}} == 1)'
NODES = f'count by ({CLUSTER_LABELS}, instance) (patroni_version{{scope=~"$scope"}})'
ALERTS = (
    f"max by (alertname, severity, {CLUSTER_LABELS}, name) "
    '(ALERTS{alertstate="firing",alertname=~"Patroni.*|Exporter.*",scope=~"$scope|"})'
)

COLUMNS = (
    Column("Nodes that answer", f"count {BY} ({NODES})"),
    Column("Leader", LEADERS, shows="name"),
    Column("Members", f'max {BY} (patroni_cluster_members{{scope=~"$scope"}})'),
    Column("Worst lag", f'max {BY} (patroni:member_lag_bytes{{scope=~"$scope"}})', unit="bytes", steps=LAG),
    Column("Timeline", f'max {BY} (patroni_member_timeline{{scope=~"$scope"}})'),
    Column("Unlocked", f'min {BY} (patroni_cluster_unlocked{{scope=~"$scope"}})', states=NO_IS_VITAL),
    Column("Paused", f'max {BY} (patroni:cluster_paused{{scope=~"$scope"}})', states=NO_IS_GOOD),
    Column("Failsafe active", f'max {BY} (patroni_failsafe_mode_is_active{{scope=~"$scope"}})', states=NO_IS_VITAL),
    Column("DCS last seen", f'time() - min {BY} (patroni_dcs_last_seen{{scope=~"$scope"}} > 0)', unit="s", steps=SEEN),
    Column(
        "Waiting for a restart",
        f'sum {BY} (max by ({CLUSTER_LABELS}, name) (patroni_member_pending_restart{{scope=~"$scope"}}))',
        steps=WARN_FROM_1,
    ),
    Column(
        "Versions of Patroni",
        f'count {BY} (count_values {BY} ("version", patroni_version{{scope=~"$scope"}}))',
        steps=((None, "green"), (2, "orange")),
    ),
)


def top(expr: str) -> str:
    """Returns the greatest series of the expression."""
    return f"topk({TOP}, {expr})"


def patroni_fleet() -> Board:
    """Returns the dashboard of all clusters."""
    return (
        dashboard(
            "Patroni fleet",
            "patroni-fleet",
            "All Patroni clusters: firing alerts, leader, members, worst lag, paused, unlocked, versions.",
            "patroni_version",
        )
        .with_variable(choice("scope", "Scope", "label_values(patroni_version{}, scope)", many=True))
        .annotation(
            moments(
                "New timelines",
                f"max by ({CLUSTER_LABELS}, leader) "
                '(patroni_last_timeline_switch_timestamp_seconds{scope=~"$scope"}) * 1000',
                "New timeline of {{scope}}",
                "Led by {{leader}}",
            )
        )
        .with_panels(
            figure(
                "Clusters",
                "Clusters of which a node answers.",
                (f'count(count {BY} (patroni_version{{scope=~"$scope"}}))', ""),
                none="0",
            ),
            figure(
                "Without a leader",
                "Clusters of which an exporter sees no running leader.",
                (f'count(min {BY} (patroni:target_leaders{{scope=~"$scope"}}) == 0) or vector(0)', ""),
                steps=ALARM_FROM_1,
            ),
            figure(
                "Unlocked",
                "Clusters of which no node sees a holder of the leader lock.",
                (f'count(min {BY} (patroni_cluster_unlocked{{scope=~"$scope"}}) == 1) or vector(0)', ""),
                steps=ALARM_FROM_1,
            ),
            figure(
                "Paused",
                "Clusters in maintenance mode, which do not fail over.",
                (f'count(max {BY} (patroni:cluster_paused{{scope=~"$scope"}}) == 1) or vector(0)', ""),
                steps=WARN_FROM_1,
            ),
            figure(
                "Worst lag",
                "Greatest lag of all replicas, in bytes.",
                ('max(patroni:member_lag_bytes{scope=~"$scope"})', ""),
                unit="bytes",
                steps=LAG,
            ),
            figure(
                "Nodes that do not answer",
                "Targets whose Patroni does not answer, with any scope.",
                ("count(patroni_up{} == 0) or vector(0)", ""),
                steps=WARN_FROM_1,
            ),
            rows(
                "Firing alerts",
                "Alerts on the selected clusters and on exporters, before inhibition.",
                (Column("Alert", ALERTS, shows="alertname"),),
                height=7,
                none="none",
            ),
            rows(
                "Clusters",
                "One row for each cluster, two where exporters disagree on the leader. A click on the scope opens it.",
                (Column("Scope", f"count {BY} ({NODES})", shows="scope", link=CLUSTER), *COLUMNS),
                height=10,
                none="-",
            ),
        )
        .with_row(Row("What does not answer, and what runs"))
        .with_panels(
            rows(
                "Nodes that do not answer",
                "Targets whose Patroni does not answer.",
                (Column("Target", "max by (instance, job) (patroni_up{} == 0)", shows="instance"),),
                width=6,
                none="none",
            ),
            rows(
                "Documents that failed",
                "Documents that an exporter could not fetch or parse.",
                (
                    Column(
                        "Document",
                        "max by (instance, collector) (patroni_scrape_collector_success{} == 0)",
                        shows="collector",
                    ),
                ),
                width=6,
                none="none",
            ),
            rows(
                "Versions",
                "Number of nodes with each version of Patroni.",
                (
                    Column(
                        "Nodes with this Patroni",
                        f'count_values {BY} ("version", patroni_version{{scope=~"$scope"}})',
                    ),
                ),
                width=6,
            ),
            rows(
                "PostgreSQL",
                "The oldest and newest version of PostgreSQL in each cluster, as it numbers itself: 15.18 is 150018.",
                (
                    Column("Oldest", f'min {BY} (patroni_postgres_server_version{{scope=~"$scope"}} > 0)'),
                    Column("Newest", f'max {BY} (patroni_postgres_server_version{{scope=~"$scope"}} > 0)'),
                ),
                width=6,
            ),
        )
        .with_row(Row("Over time"))
        .with_panels(
            lines(
                "Worst lag",
                f"Greatest lag of a replica in bytes, for the {TOP} worst clusters.",
                (top(f'max {BY} (patroni:member_lag_bytes{{scope=~"$scope"}})'), NAME),
                unit="bytes",
            ),
            lines(
                "Worst lag in seconds",
                f"Age of the last replayed transaction where there is a lag, for the {TOP} worst clusters.",
                (top(f'max {BY} (patroni:member_lag_seconds{{scope=~"$scope"}})'), NAME),
                unit="s",
            ),
            lines(
                "WAL",
                f"Bytes per second that the leader writes, for the {TOP} busiest clusters.",
                (top(f'max {BY} (patroni:cluster_wal_bytes:rate5m{{scope=~"$scope"}})'), NAME),
                unit="Bps",
            ),
            lines(
                "Leader changes",
                f"Changes of leadership within an hour, for the {TOP} clusters with most of them.",
                (
                    top(
                        f"sum {BY} (max by ({CLUSTER_LABELS}, name) "
                        '(changes(patroni:member_leader{scope=~"$scope"}[1h])))'
                    ),
                    NAME,
                ),
                steps=True,
            ),
            lines(
                "Members that are down",
                f"Members whose PostgreSQL does not run, for the {TOP} clusters with most of them.",
                (top(f'sum {BY} (1 - patroni:member_up{{scope=~"$scope"}})'), NAME),
                steps=True,
            ),
            lines(
                "DCS last seen",
                f"Seconds since every node of the cluster reached its DCS, for the {TOP} worst clusters.",
                (top(f'time() - min {BY} (patroni_dcs_last_seen{{scope=~"$scope"}} > 0)'), NAME),
                unit="s",
            ),
        )
    )
