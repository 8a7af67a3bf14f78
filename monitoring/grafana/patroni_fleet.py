"""All Patroni clusters on one page: who leads, what is missing, what lags, what is switched off."""

from grafana_foundation_sdk.builders.dashboard import Row

from monitoring.grafana.board import Board, choice, dashboard, moments
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
CLUSTER = "/d/patroni-cluster/patroni-cluster?var-scope=${__value.text}&${datasource:queryparam}&${__url_time_range}"

# Each member is told by the exporter of every node, so each query takes the greatest of what they tell. Patroni before
# 3.2 does not tell a node its name: nodes are counted by the exporter beside them.
LEADERS = 'max by (scope, name) (patroni_member_role{role=~"leader|standby_leader",scope=~"$scope"} == 1)'
NODES = 'count by (scope, instance) (patroni_version{scope=~"$scope"})'

COLUMNS = (
    Column("Nodes that answer", f"count by (scope) ({NODES})"),
    Column("Leader", LEADERS, shows="name"),
    Column("Members", 'max by (scope) (patroni_cluster_members{scope=~"$scope"})'),
    Column("Worst lag", 'max by (scope) (patroni_member_lag_bytes{scope=~"$scope"})', unit="bytes", steps=LAG),
    Column("Timeline", 'max by (scope) (patroni_member_timeline{scope=~"$scope"})'),
    Column("Unlocked", 'max by (scope) (patroni_cluster_unlocked{scope=~"$scope"})', states=NO_IS_VITAL),
    Column("Paused", 'max by (scope) (patroni_is_paused{scope=~"$scope"})', states=NO_IS_GOOD),
    Column("Failsafe active", 'max by (scope) (patroni_failsafe_mode_is_active{scope=~"$scope"})', states=NO_IS_VITAL),
    Column(
        "DCS last seen",
        'time() - min by (scope) (patroni_dcs_last_seen{scope=~"$scope"} > 0)',
        unit="s",
        steps=SEEN,
    ),
    Column(
        "Waiting for a restart",
        'sum by (scope) (max by (scope, name) (patroni_member_pending_restart{scope=~"$scope"}))',
        steps=WARN_FROM_1,
    ),
    Column(
        "Versions of Patroni",
        'count by (scope) (count by (scope, version) (patroni_patroni_info{scope=~"$scope"}))',
        steps=((None, "green"), (2, "orange")),
    ),
)


def patroni_fleet() -> Board:
    """Returns the dashboard of all clusters."""
    return (
        dashboard(
            "Patroni fleet",
            "patroni-fleet",
            "All Patroni clusters: leader, members, worst lag, paused, unlocked, versions, nodes that do not answer.",
        )
        .with_variable(choice("scope", "Cluster", "label_values(patroni_version, scope)", many=True))
        .annotation(
            moments(
                "New timelines",
                'max by (scope, leader) (patroni_last_timeline_switch_timestamp_seconds{scope=~"$scope"}) * 1000',
                "New timeline of {{scope}}",
                "Led by {{leader}}",
            )
        )
        .with_panels(
            figure(
                "Clusters",
                "Clusters of which a node answers.",
                ('count(count by (scope) (patroni_version{scope=~"$scope"}))', ""),
                none="0",
            ),
            figure(
                "Without a leader",
                "Clusters that nobody leads, as far as their nodes can see the DCS.",
                (
                    "count(max by (scope) "
                    '(patroni_member_role{role=~"leader|standby_leader",scope=~"$scope"}) == 0) or vector(0)',
                    "",
                ),
                steps=ALARM_FROM_1,
            ),
            figure(
                "Unlocked",
                "Clusters where nobody holds the leader lock, or a node cannot see it.",
                ('count(max by (scope) (patroni_cluster_unlocked{scope=~"$scope"}) == 1) or vector(0)', ""),
                steps=ALARM_FROM_1,
            ),
            figure(
                "Paused",
                "Clusters in maintenance mode, which do not fail over by themselves.",
                ('count(max by (scope) (patroni_is_paused{scope=~"$scope"}) == 1) or vector(0)', ""),
                steps=WARN_FROM_1,
            ),
            figure(
                "Worst lag",
                "Bytes that the slowest replica of all is behind its leader.",
                ('max(patroni_member_lag_bytes{scope=~"$scope"})', ""),
                unit="bytes",
                steps=LAG,
            ),
            figure(
                "Nodes that do not answer",
                "Exporters that got no answer from their Patroni, whatever the chosen cluster.",
                ("count(patroni_up == 0) or vector(0)", ""),
                steps=ALARM_FROM_1,
            ),
            rows(
                "Clusters",
                "One row for each cluster, two where its nodes disagree on the leader. A click on the name opens it.",
                (Column("Cluster", f"count by (scope) ({NODES})", shows="scope", link=CLUSTER), *COLUMNS),
                height=10,
                none="-",
            ),
        )
        .with_row(Row("What does not answer, and what runs"))
        .with_panels(
            rows(
                "Nodes that do not answer",
                "Exporters that got no answer from their Patroni; they cannot say of which cluster it is.",
                (Column("Exporter", "max by (instance, job) (patroni_up == 0)", shows="instance"),),
                width=6,
                none="none",
            ),
            rows(
                "Documents that failed",
                "What an exporter could not fetch or understand of its Patroni.",
                (
                    Column(
                        "Document",
                        "max by (instance, collector) (patroni_scrape_collector_success == 0)",
                        shows="collector",
                    ),
                ),
                width=6,
                none="none",
            ),
            rows(
                "Versions",
                "How many nodes run which version of Patroni and of PostgreSQL.",
                (
                    Column(
                        "Nodes with this Patroni",
                        "count by (scope, version) (max by (scope, version, instance) "
                        '(patroni_patroni_info{scope=~"$scope"}))',
                    ),
                ),
                width=6,
            ),
            rows(
                "PostgreSQL",
                "The oldest and newest version of PostgreSQL in each cluster, as it numbers itself: 15.18 is 150018.",
                (
                    Column("Oldest", 'min by (scope) (patroni_postgres_server_version{scope=~"$scope"} > 0)'),
                    Column("Newest", 'max by (scope) (patroni_postgres_server_version{scope=~"$scope"} > 0)'),
                ),
                width=6,
            ),
        )
        .with_row(Row("Over time"))
        .with_panels(
            lines(
                "Worst lag",
                "Bytes that the slowest replica of each cluster is behind its leader.",
                ('max by (scope) (patroni_member_lag_bytes{scope=~"$scope"})', "{{scope}}"),
                unit="bytes",
            ),
            lines(
                "Timeline",
                "A step up is a failover or a switchover.",
                ('max by (scope) (patroni_member_timeline{scope=~"$scope"})', "{{scope}}"),
                steps=True,
            ),
            lines(
                "Members",
                "How many members each cluster lists.",
                ('max by (scope) (patroni_cluster_members{scope=~"$scope"})', "{{scope}}"),
                steps=True,
            ),
            lines(
                "DCS last seen",
                "Seconds since the node of each cluster that is worst off reached its DCS.",
                ('time() - min by (scope) (patroni_dcs_last_seen{scope=~"$scope"} > 0)', "{{scope}}"),
                unit="s",
            ),
        )
    )
