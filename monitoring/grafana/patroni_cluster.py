"""One Patroni cluster: members, lag and timelines, failovers, configuration."""

from grafana_foundation_sdk.builders.dashboard import AnnotationQuery, Row

from monitoring.grafana.board import PROMETHEUS, Board, choice, chosen, dashboard, moments
from monitoring.grafana.panels import (
    LAG,
    NO_IS_GOOD,
    NO_IS_VITAL,
    ON_OFF,
    SEEN,
    YES_IS_VITAL,
    Column,
    figure,
    lines,
    rows,
    states_over_time,
)

#: The tags that Patroni knows. Others are in the table of all tags.
TAGS = ("nofailover", "failover_priority", "noloadbalance", "nosync", "nostream", "clonefrom", "replicatefrom")

# Every node reports each member, so each query takes the greatest value.
LEADER = 'max by (name) (patroni:member_leader{scope="$scope"} == 1)'
ALERTS = 'max by (alertname, severity, name) (ALERTS{alertstate="firing",alertname=~"Patroni.*",scope="$scope"})'

MEMBERS = (
    Column("Member", 'max by (name) (patroni_member_info{scope="$scope"})', shows="name"),
    Column("Role", 'max by (name, role) (patroni_member_role{scope="$scope"} == 1)', shows="role"),
    Column("State", 'max by (name, state) (patroni_member_state{scope="$scope"})', shows="state"),
    Column("Timeline", 'max by (name) (patroni_member_timeline{scope="$scope"})'),
    Column("Lag", 'max by (name) (patroni:member_lag_bytes{scope="$scope"})', unit="bytes", steps=LAG),
    Column("Lag, s", 'max by (name) (patroni:member_lag_seconds{scope="$scope"})', unit="s"),
    Column("Not received", 'max by (name) (patroni_member_receive_lag_bytes{scope="$scope"})', unit="bytes"),
    Column("Not replayed", 'max by (name) (patroni_member_replay_lag_bytes{scope="$scope"})', unit="bytes"),
    Column("Waits for a restart", 'max by (name) (patroni_member_pending_restart{scope="$scope"})', states=NO_IS_GOOD),
    Column("Host", 'max by (name, host) (patroni_member_info{scope="$scope"})', shows="host"),
    *(
        Column(
            tag,
            f'max by (name, {tag}) (label_replace(patroni_member_tag_info{{scope="$scope",tag="{tag}"}}, '
            f'"{tag}", "$1", "value", "(.*)"))',
            shows=tag,
        )
        for tag in TAGS
    ),
)

# By the exporter beside it and not by its name, which a node before Patroni 3.2 does not know.
NODES = (
    Column("Exporter", 'max by (instance) (patroni_version{scope="$scope"})', shows="instance"),
    Column("Name", 'max by (instance, name) (patroni_version{scope="$scope"})', shows="name"),
    Column("PostgreSQL runs", 'max by (instance) (patroni_postgres_running{scope="$scope"})', states=YES_IS_VITAL),
    Column("Patroni", 'max by (instance) (patroni_version{scope="$scope"})'),
    Column("PostgreSQL", 'max by (instance) (patroni_postgres_server_version{scope="$scope"} > 0)'),
    Column(
        "Uptime",
        'time() - max by (instance) (patroni_postmaster_start_time{scope="$scope"} > 0)',
        unit="s",
    ),
    Column("Replay paused", 'max by (instance) (patroni_xlog_paused{scope="$scope"})', states=NO_IS_GOOD),
    Column("Failover priority", 'max by (instance) (patroni_failover_priority{scope="$scope"})'),
    Column(
        "DCS last seen", 'time() - max by (instance) (patroni_dcs_last_seen{scope="$scope"} > 0)', unit="s", steps=SEEN
    ),
    Column("Sees the lock", '1 - max by (instance) (patroni_cluster_unlocked{scope="$scope"})', states=YES_IS_VITAL),
)

ROLES = {3: ("leader", "blue"), 2: ("synchronous standby", "green"), 1: ("replica", "text")}
ROLE_NUMBER = (
    'max by (name) ((patroni_member_role{scope="$scope",role=~"leader|standby_leader"} == 1) * 3'
    ' or (patroni_member_role{scope="$scope",role=~"sync_standby|quorum_standby"} == 1) * 2'
    ' or patroni_member_role{scope="$scope",role="replica"} == 1)'
)

STATES = {
    6: ("streaming", "green"),
    5: ("running", "blue"),
    4: ("in archive recovery", "purple"),
    3: ("starting", "yellow"),
    2: ("creating replica", "yellow"),
    1: ("stopped", "red"),
    0: ("another state", "orange"),
}
STATE_NUMBER = (
    "max by (name) ("
    + " or ".join(
        f'patroni_member_state{{scope="$scope",state="{state}"}} * {number}'
        for number, (state, _) in STATES.items()
        if number
    )
    + ' or patroni_member_state{scope="$scope"} * 0)'
)


def patroni_cluster() -> Board:
    """Returns the dashboard of one cluster."""
    board = (
        dashboard(
            "Patroni cluster",
            "patroni-cluster",
            "One Patroni cluster: alerts, members with role, state, lag, timeline and tags, failovers, configuration.",
            "patroni_version",
        )
        .with_variable(choice("scope", "Scope", "label_values(patroni_version{}, scope)"))
        .annotation(
            moments(
                "New timelines",
                'max by (leader) (patroni_last_timeline_switch_timestamp_seconds{scope="$scope"}) * 1000',
                "New timeline",
                "Led by {{leader}}",
            )
        )
        .annotation(
            AnnotationQuery()
            .name("Configuration changed")
            .datasource(PROMETHEUS)
            .enable(True)
            .icon_color("blue")
            .expr(chosen('max by (scope) (changes(patroni_config_hash{scope="$scope"}[2m])) > 0'))
            .title_format("Configuration changed")
            .text_format("The dynamic configuration of {{scope}}")
            .step("60s")
        )
    )
    return _over_time(_members(_figures(board)))


def _figures(board: Board) -> Board:
    return board.with_panels(
        figure(
            "Leader", "The leader, or several where the nodes disagree.", (LEADER, "{{name}}"), names=True, none="none"
        ),
        figure(
            "Members",
            "Number of members, and of those that stream or are in archive recovery.",
            ('max(patroni_cluster_members{scope="$scope"})', "all"),
            (
                'count(max by (name) (patroni_member_state{scope="$scope",state=~"streaming|in archive recovery"}))'
                " or vector(0)",
                "replicating",
            ),
        ),
        figure(
            "Worst lag",
            "Greatest lag of a replica, in bytes.",
            ('max(patroni:member_lag_bytes{scope="$scope"})', ""),
            unit="bytes",
            steps=LAG,
        ),
        figure(
            "Unlocked",
            "Whether a node sees no holder of the leader lock.",
            ('max(patroni_cluster_unlocked{scope="$scope"})', ""),
            states=NO_IS_VITAL,
        ),
        figure(
            "Paused",
            "Whether the cluster is in maintenance mode, so that it does not fail over.",
            ('max(patroni_is_paused{scope="$scope"})', ""),
            states=NO_IS_GOOD,
        ),
        figure(
            "DCS last seen",
            "Seconds since all nodes reached the DCS.",
            ('time() - min(patroni_dcs_last_seen{scope="$scope"} > 0)', ""),
            unit="s",
            steps=SEEN,
        ),
    )


def _members(board: Board) -> Board:
    return board.with_panels(
        rows(
            "Firing alerts",
            "Alerts on this cluster, before inhibition. RUNBOOK.md explains each.",
            (Column("Alert", ALERTS, shows="alertname"),),
            height=6,
            none="none",
        ),
        rows("Members", "The members of /cluster, with their tags at the right.", MEMBERS, none="-"),
        rows("Nodes", "Each target, with what its node reports in /patroni.", NODES, none="-"),
        rows(
            "All tags",
            "Every tag of every member.",
            (Column("Tag", 'max by (name, tag, value) (patroni_member_tag_info{scope="$scope"})', shows="tag"),),
            width=8,
            height=7,
            none="none",
        ),
        rows(
            "Waiting for a restart",
            "Parameters that need a restart of PostgreSQL, since Patroni 3.3.",
            (
                Column(
                    "Parameter",
                    'max by (name, parameter) (patroni_member_pending_restart_parameter_info{scope="$scope"})',
                    shows="parameter",
                ),
            ),
            width=8,
            height=7,
            none="none",
        ),
        figure(
            "Scheduled",
            "The scheduled switchover and restarts.",
            (
                'max by (from, to) (patroni_cluster_scheduled_switchover_timestamp_seconds{scope="$scope"}) * 1000',
                "switchover {{from}} {{to}}",
            ),
            (
                'max by (name) (patroni_member_scheduled_restart_timestamp_seconds{scope="$scope"}) * 1000',
                "restart of {{name}}",
            ),
            unit="dateTimeAsIso",
            none="nothing",
            width=8,
            height=7,
        ),
    )


def _over_time(board: Board) -> Board:
    by_member = "{{name}}"
    return (
        board.with_row(Row("Over time"))
        .with_panels(
            states_over_time("Roles", "The role of each member.", ROLE_NUMBER, by_member, ROLES),
            states_over_time("States", "The state of PostgreSQL of each member.", STATE_NUMBER, by_member, STATES),
            lines(
                "Timeline",
                "A step up is a failover or a switchover. A member that stays below is on an old timeline.",
                ('max by (name) (patroni_member_timeline{scope="$scope"})', by_member),
                steps=True,
            ),
            lines(
                "Lag",
                "Bytes that are not replayed, or not received before Patroni 3.2. The alert reads the same record.",
                ('max by (name) (patroni:member_lag_bytes{scope="$scope"})', by_member),
                unit="bytes",
            ),
            lines(
                "Lag in seconds",
                "Age of the last replayed transaction where there is a lag.",
                ('max by (name) (patroni:member_lag_seconds{scope="$scope"})', by_member),
                unit="s",
            ),
            lines(
                "WAL rate",
                "Bytes of WAL that the leader writes per second.",
                ('max(patroni:cluster_wal_bytes:rate5m{scope="$scope"})', "written"),
                unit="Bps",
            ),
            lines(
                "Not replayed",
                "Bytes that are not replayed, as Patroni reports them since 4.1.",
                ('max by (name) (patroni_member_replay_lag_bytes{scope="$scope"})', by_member),
                unit="bytes",
            ),
            lines(
                "DCS last seen",
                "Seconds since each node reached the DCS.",
                ('time() - max by (instance) (patroni_dcs_last_seen{scope="$scope"} > 0)', "{{instance}}"),
                unit="s",
            ),
            lines(
                "Write-ahead log",
                "Position of each node: written on the leader, replayed on a replica.",
                ('max by (instance) (patroni_xlog_location{scope="$scope"} > 0)', "{{instance}} written"),
                ('max by (instance) (patroni_xlog_replayed_location{scope="$scope"} > 0)', "{{instance}} replayed"),
                unit="bytes",
            ),
        )
        .with_row(Row("Failovers and configuration"))
        .with_panels(
            rows(
                "Last to lead a new timeline",
                "When each leader last began a timeline within the selected time, and why.",
                (
                    Column(
                        "Since",
                        "max by (leader) "
                        '(max_over_time(patroni_last_timeline_switch_timestamp_seconds{scope="$scope"}[$__range]))'
                        " * 1000",
                        unit="dateTimeAsIso",
                    ),
                    Column(
                        "Reason",
                        'max by (leader, reason) (patroni_last_timeline_switch_info{scope="$scope"})',
                        shows="reason",
                    ),
                ),
                width=8,
                none="none",
            ),
            figure(
                "Failover",
                "Settings of the dynamic configuration that decide about a failover.",
                ('max(patroni_config_ttl_seconds{scope="$scope"})', "ttl, s"),
                ('max(patroni_config_loop_wait_seconds{scope="$scope"})', "loop_wait, s"),
                ('max(patroni_config_retry_timeout_seconds{scope="$scope"})', "retry_timeout, s"),
                ('max(patroni_config_primary_start_timeout_seconds{scope="$scope"})', "primary_start_timeout, s"),
                ('max(patroni_config_maximum_lag_on_failover_bytes{scope="$scope"})', "maximum_lag_on_failover, bytes"),
                ('max(patroni_config_maximum_lag_on_syncnode_bytes{scope="$scope"})', "maximum_lag_on_syncnode, bytes"),
                ('max(patroni_config_synchronous_node_count{scope="$scope"})', "synchronous_node_count"),
                ('max(patroni_timeline_switches{scope="$scope"})', "timeline switches that Patroni remembers"),
                width=8,
                height=9,
            ),
            figure(
                "Modes",
                "Modes in the dynamic configuration.",
                ('max(patroni_config_synchronous_mode_strict{scope="$scope"})', "synchronous_mode_strict"),
                ('max(patroni_config_failsafe_mode{scope="$scope"})', "failsafe_mode"),
                ('max(patroni_config_standby_cluster{scope="$scope"})', "standby_cluster"),
                states=ON_OFF,
                width=4,
                height=9,
                none="not set",
            ),
            figure(
                "Synchronous mode",
                "The mode of synchronous replication.",
                ('max by (mode) (patroni_config_synchronous_mode{scope="$scope"} == 1)', "{{mode}}"),
                names=True,
                width=4,
                height=9,
                none="not set",
            ),
        )
    )
