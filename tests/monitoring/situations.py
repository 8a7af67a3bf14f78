"""Clusters that go wrong, as series of the exporter's own expositions, and the alerts that fire when.

The same alerts fire in two arrangements: every target returns all documents (`series`), or one target of each cluster
returns those of the cluster and the others only that of their node (`view_series`).
"""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import yaml

from exporter.collectors.document import Answer
from tests.monitoring.promtool import INTERVAL, RULES, VIEWS, Phase, Render, Series, picture
from tests.monitoring.status_page import Page
from tests.recorded import Moment


@dataclass(frozen=True)
class Situation:
    """What Prometheus has, and the alerts that fire at some minutes, each with the member that it names.

    `interval` is the seconds between two scrapes, and between two evaluations if it is 60 or more, as it is where an
    hour or more pass.
    `with_view` replaces what is expected where it cannot be the same with one view of each cluster.
    """

    given: Callable[[Render], list[Series]]
    expected: Mapping[float, set[str]]
    interval: int = INTERVAL
    with_view: Mapping[float, set[str]] = field(default_factory=dict)

    def series(self, render: Render) -> list[Series]:
        """The series that Prometheus has."""
        return self.given(partial(render, interval=self.interval))


def healthy(minutes: float, version: str = "4.1.5", **more: object) -> Phase:
    return Phase(picture(version, "healthy-async"), minutes, **more)  # type: ignore[arg-type]


def recorded(state: str, minutes: float, version: str = "4.1.5", **more: object) -> Phase:
    return Phase(picture(version, state), minutes, **more)  # type: ignore[arg-type]


def only(phase: Phase, *names: str) -> Phase:
    """The phase with the targets of these nodes alone."""
    return replace(phase, nodes=[node for node in phase.nodes if node.node in names])


def listing(phase: Phase, **members: Mapping[str, Any] | None) -> Phase:
    """The phase with other members in /cluster: with these keys, or without the member."""

    def edited(node: Moment) -> Moment:
        document = json.loads(node.answers["/cluster"].body)
        listed = [
            {**member, **(members.get(member["name"]) or {})}
            for member in document["members"]
            if members.get(member["name"], {}) is not None
        ]
        body = json.dumps({**document, "members": listed}).encode()
        return replace(node, answers={**node.answers, "/cluster": Answer(200, body)})

    return replace(phase, nodes=[edited(node) for node in phase.nodes])


def versions(minutes: float, **by_node: str) -> Phase:
    """A healthy cluster whose nodes run these versions of Patroni, which report streaming since 3.0.4."""
    reports = {name: [int(part) for part in version.split(".")] >= [3, 0, 4] for name, version in by_node.items()}
    nodes: list[Moment] = []
    for name, version in by_node.items():
        states = {
            other: {
                "state": "streaming" if reports[name] and reports[other] and other != "n1" else "running",
                "port": 5432,
                "api_url": f"http://{other}:8008/patroni",
            }
            for other in by_node
        }
        nodes += only(listing(healthy(1, version), **states), name).nodes
    return Phase(nodes, minutes)


def standby_and_source(series: Render, minutes: float, behind: float) -> list[Series]:
    """A standby cluster whose leader is so many bytes behind its source, which is known by its system identifier."""
    standby, source = recorded("standby-cluster", minutes), healthy(minutes)
    system, position = "7710424603479777240", 51465400.0
    nodes = [
        replace(
            node,
            answers={
                path: Answer(a.status, re.sub(rb'"77\d+"', f'"{system}"'.encode(), a.body))
                for path, a in node.answers.items()
            },
        )
        for node in source.nodes
    ]
    source = replace(source, nodes=nodes, changes={'patroni_xlog_location{name="n1"}': position + behind})
    return [*series(source), *of_job(series(standby), "dr")]


def twice(given: list[Series]) -> list[Series]:
    """The series as two Prometheus servers of one Mimir or Thanos have them."""
    return [
        {**entry, "series": entry["series"].replace("{", f'{{replica="{replica}", ', 1)}
        for entry in given
        for replica in ("a", "b")
    ]


def two_rulers(folder: Path) -> list[Path]:
    """The rules, and the records of a second ruler."""
    content = yaml.load(VIEWS.read_text(), yaml.CSafeLoader)
    for group in content["groups"]:
        group["name"] += "-b"
        for rule in group["rules"]:
            rule["labels"] = {"ruler": "b"}
    second = folder / "views.yml"
    second.write_text(yaml.safe_dump(content))
    return [*RULES, second]


def of_job(given: list[Series], job: str) -> list[Series]:
    """The series of the targets of another job."""
    renamed = [entry["series"].replace('job="patroni"', f'job="{job}"') for entry in given]
    return [
        {**entry, "series": name.replace('instance="', f'instance="{job}-')}
        for entry, name in zip(given, renamed, strict=True)
    ]


def own_target(up: float, down: float, job: str) -> list[Series]:
    """The target of an exporter itself, which has no families of Patroni."""
    target = f'{{instance="exporter:9547", job="{job}"}}'
    counts = round(up * 60 / INTERVAL), round(down * 60 / INTERVAL)
    return [
        {"series": f"up{target}", "values": f"1x{counts[0] - 1} 0x{counts[1] - 1}"},
        {"series": f"patroni_staytus_exporter_build_info{target}", "values": f"1x{counts[0] - 1} stale _x{counts[1]}"},
    ]


def discovery(minutes: float, later: float, family: str, value: float) -> list[Series]:
    """A gauge of the exporter's discovery, which is 0 and then has this value."""
    name = f'patroni_staytus_exporter_discovery_{family}{{instance="exporter:9547", job="exporter", module="patroni"}}'
    counts = round(minutes * 60 / INTERVAL), round(later * 60 / INTERVAL)
    return [{"series": name, "values": f"0x{counts[0] - 1} {value}x{counts[1] - 1}"}]


LAG = 'patroni_member_replay_lag_bytes{name="n2"}'
CLUSTER_LAG = 'patroni_member_lag_bytes{name="n%d"}'
LEADER_LOST = recorded("leader-killed-during-06", 30)
EXPIRED = recorded("patroni-dead-expired", 30)
ALL = ("n1", "n2", "n3")
BACK: list[Moment] = list(recorded("old-leader-back-04", 1).nodes)

NO_LEADER = {
    "PatroniNoLeader",
    "PatroniClusterUnlocked",
    "PatroniMemberMissing n1",
    "PatroniNoFailoverCandidate",
    "PatroniReplicaNotStreaming n2",
    "PatroniReplicaNotStreaming n3",
}

#: What on-call must hear.
HEARD: dict[str, Situation] = {
    "a replica is lost and its target is removed a minute later": Situation(
        lambda series: series(healthy(10), replace(EXPIRED, minutes=1, dead=["n3"]), EXPIRED, probed=True),
        {11: set(), 25: {"PatroniMemberMissing n3"}},
    ),
    "a replica is lost and stays listed as missing for an hour": Situation(
        lambda series: series(healthy(10), replace(EXPIRED, minutes=60, dead=["n3"]), EXPIRED, probed=True),
        {
            14: set(),
            16: {"PatroniUnreachable n3", "PatroniMemberMissing n3"},
            69: {"PatroniUnreachable n3", "PatroniMemberMissing n3"},
            80: {"PatroniMemberMissing n3"},
        },
        interval=60,
    ),
    "the view is lost while an alert fires": Situation(
        lambda series: series(
            healthy(10),
            replace(EXPIRED, minutes=10, dead=["n3"]),
            replace(only(listing(EXPIRED, n2=None), "n1"), minutes=20, dead=["n2", "n3"]),
            probed=True,
        ),
        {
            18: {"PatroniMemberMissing n3", "PatroniUnreachable n3"},
            20.5: {"PatroniMemberMissing n3", "PatroniUnreachable n3"},
            22: {"PatroniMemberMissing n3", "PatroniUnreachable n3"},
            28: {
                *(
                    f"{alert} {name}"
                    for alert in ("PatroniMemberMissing", "PatroniUnreachable")
                    for name in ("n2", "n3")
                ),
                "PatroniNoFailoverCandidate",
            },
        },
    ),
    "the leader is lost, and the view leads": Situation(
        lambda series: series(
            Phase(BACK, 10), replace(only(listing(healthy(20), n3=None), "n1", "n2"), dead=["n3"]), probed=True
        ),
        {
            12: {"PatroniSplitBrainPossible n3", "PatroniFailover n3"},
            20: {
                f"{alert} n3"
                for alert in (
                    "PatroniSplitBrainPossible",
                    "PatroniFailover",
                    "PatroniMemberMissing",
                    "PatroniUnreachable",
                )
            },
        },
    ),
    "no member of a cluster returns it to the discovery": Situation(
        lambda series: [
            *series(healthy(10), Phase([], 60, dead=ALL), probed=True),
            *discovery(10, 60, "clusters_stale", 1),
        ],
        {
            14: set(),
            20: {"PatroniClusterLost", *(f"PatroniUnreachable {name}" for name in ALL)},
            30: {"PatroniClusterLost", "ExporterDiscoveryStale", *(f"PatroniUnreachable {name}" for name in ALL)},
        },
    ),
    "a new replica has an address that is refused": Situation(
        lambda series: [
            *series(
                only(listing(healthy(10), n3=None), "n1", "n2"),
                replace(only(healthy(20), "n1", "n2"), down=["n3"]),
                probed=True,
            ),
            *discovery(10, 20, "targets_refused", 1),
        ],
        {14: set(), 20: {"ExporterTargetsRefused", "ExporterDown"}},
    ),
    "too many probes wait for their targets for half an hour": Situation(
        lambda series: [
            *series(healthy(60)),
            {
                "series": 'patroni_staytus_exporter_probes_refused_total{instance="exporter:9547", job="exporter"}',
                "values": "0x19 60+60x60 3660x40",  # refused from minute 10 to minute 40
            },
        ],
        {19: set(), 25: {"ExporterProbesRefused"}, 50: set()},
    ),
    "the replica of a cluster of two is lost for two days": Situation(
        lambda series: series(
            only(listing(healthy(60), n3=None), "n1", "n2"),
            only(listing(healthy(2 * 1440), n2=None, n3=None), "n1"),
        ),
        {
            61: set(),
            6 * 60: {"PatroniMemberMissing n2", "PatroniNoFailoverCandidate"},
            2 * 1440: {"PatroniMemberMissing n2", "PatroniNoFailoverCandidate"},
        },
        interval=600,
    ),
    "all hosts of a cluster die": Situation(
        lambda series: series(healthy(10), Phase([], 60, down=ALL)),
        {14: set(), 20: {"PatroniClusterLost", *(f"ExporterDown {name}" for name in ALL)}},
    ),
    "all targets of a cluster vanish, and for ten minutes Prometheus is down": Situation(
        lambda series: [
            {**s, "values": s["values"].replace("stale", "_")} for s in series(healthy(10), Phase([], 300))
        ],
        {12: set(), 30: {"PatroniClusterLost"}, 300: {"PatroniClusterLost"}},
        interval=120,
    ),
    "every Patroni of a cluster is down behind one exporter": Situation(
        lambda series: series(healthy(10), Phase([], 30, dead=ALL), probed=True),
        {14: set(), 20: {"PatroniClusterLost", *(f"PatroniUnreachable {name}" for name in ALL)}},
    ),
    "two clusters of one scope in two namespaces, one without a leader": Situation(
        lambda series: [
            *series(healthy(40), labels={"namespace": "dev"}),
            *series(healthy(10), recorded("leader-lost-unlocked", 30, "3.3.11"), labels={"namespace": "prod"}),
        ],
        {9: set(), 20: NO_LEADER},
    ),
    "two clusters of one scope in two jobs, one without a leader": Situation(
        lambda series: [
            *series(healthy(40)),
            *of_job(series(healthy(10), recorded("leader-lost-unlocked", 30, "3.3.11")), "other"),
        ],
        {
            9: set(),
            20: {"PatroniNoLeader", "PatroniNoFailoverCandidate"},
            38: {"PatroniNoLeader", "PatroniNoFailoverCandidate", "PatroniScopeNotUnique"},
        },
    ),
    "Patroni of the leader is frozen, and another member leads": Situation(
        lambda series: series(healthy(10), replace(LEADER_LOST, dead=["n1"]), Phase(BACK, 10)),
        {
            12: {"PatroniSplitBrainPossible n1", "PatroniFailover n1"},
            39: {"PatroniSplitBrainPossible n1", "PatroniMemberMissing n1", "PatroniUnreachable n1"},
            43: set(),
        },
    ),
    "the same, and the target is removed": Situation(
        lambda series: series(
            healthy(10), replace(LEADER_LOST, minutes=1, dead=["n1"]), replace(LEADER_LOST, minutes=150), probed=True
        ),
        {
            12: {"PatroniSplitBrainPossible n1", "PatroniFailover n1"},
            150: {"PatroniSplitBrainPossible n1", "PatroniMemberMissing n1"},
        },
        interval=60,
    ),
    "the leader's host is lost, and another member leads": Situation(
        lambda series: series(healthy(10), replace(LEADER_LOST, down=["n1"]), Phase(BACK, 10)),
        {
            12: {"PatroniFailover n1"},
            20: {"PatroniFailover n1", "PatroniMemberMissing n1", "ExporterDown n1"},
            43: set(),
        },
    ),
    "etcd v3 has no quorum, and Patroni lists the members as before": Situation(
        lambda series: series(healthy(5), healthy(10, changes={'patroni_primary{name="n1"}': 0.0}), healthy(5)),
        {5.5: set(), 8: {"PatroniNoLeader"}, 20: set()},
    ),
    "a replica starts before Patroni reports streaming": Situation(
        lambda series: series(healthy(10, "2.1.7"), listing(healthy(20, "2.1.7"), n3={"state": "starting"})),
        {14: set(), 20: {"PatroniMemberDown n3"}},
    ),
    "two nodes lead": Situation(
        lambda series: series(healthy(5), healthy(10, changes={'patroni_primary{name="n2"}': 1.0})),
        {5.5: set(), 10: {"PatroniMultipleLeaders"}},
    ),
    "two nodes lead that do not know their names": Situation(
        lambda series: series(
            healthy(5, "2.1.7"), healthy(10, "2.1.7", changes={'patroni_primary{instance="n2:9547"}': 1.0})
        ),
        {5.5: set(), 10: {"PatroniMultipleLeaders"}},
    ),
    "two nodes lead, and one of them does not know its name": Situation(
        lambda series: series(
            versions(5, n1="4.1.5", n2="2.1.7"),
            replace(versions(10, n1="4.1.5", n2="2.1.7"), changes={'patroni_primary{instance="n2:9547"}': 1.0}),
        ),
        {5.5: set(), 10: {"PatroniMultipleLeaders"}},
    ),
    "the lag of a replica is not known": Situation(
        lambda series: series(
            healthy(5),
            healthy(
                30,
                changes={f'patroni_member_{kind}lag_bytes{{name="n2"}}': None for kind in ("", "replay_", "receive_")},
            ),
        ),
        {15: set(), 25: {"PatroniReplicaLagUnknown n2"}},
    ),
    "a replica is on a newer timeline than its leader": Situation(
        lambda series: series(healthy(5), healthy(20, changes={'patroni_member_timeline{name="n2"}': 2.0})),
        {9: set(), 12: {"PatroniReplicaNewerTimeline n2"}},
    ),
    "a replica is on an old timeline": Situation(
        lambda series: series(
            recorded("old-leader-back-04", 5),
            recorded("old-leader-back-04", 20, changes={'patroni_member_timeline{name="n1"}': 1.0}),
        ),
        {9: set(), 12: {"PatroniReplicaOldTimeline n1"}},
    ),
    "a standby leader is behind its source": Situation(
        lambda series: standby_and_source(series, 20, 200 << 20), {4: set(), 10: {"PatroniReplicaLag n1"}}
    ),
    "a standby leader lives from an archive": Situation(
        lambda series: series(listing(recorded("standby-cluster", 20), n1={"state": "in archive recovery"})),
        {4: set(), 10: {"PatroniStandbyLeaderNotStreaming n1"}},
    ),
    "no node returns the configuration": Situation(
        lambda series: series(
            healthy(
                30, changes={'patroni_scrape_collector_success{collector="config"}': 0.0, "patroni_config_hash": None}
            )
        ),
        {
            4: set(),
            10: {"ExporterEndpointFailing"},
            20: {"ExporterEndpointFailing", "PatroniConfigUnknown"},
        },
    ),
    "one exporter cannot load its modules file": Situation(
        lambda series: series(
            healthy(
                30,
                changes={
                    'patroni_staytus_exporter_config_last_reload_successful{instance="n1:9547", job="patroni"': 0.0
                },
            )
        ),
        {14: set(), 20: {"ExporterConfigReloadFailed"}},
    ),
    "the only member of a cluster is not listed any more": Situation(
        lambda series: series(recorded("single-node", 5), listing(recorded("single-node", 20), n1=None)),
        {5.5: set(), 15: {"PatroniNoLeader", "PatroniMemberMissing n1"}},
    ),
    "PostgreSQL of a replica hangs": Situation(
        lambda series: series(healthy(5), recorded("postgres-frozen-replica", 20)),
        {7: set(), 12: {"PatroniPostgresHung n3"}},
        # Only the view is asked for another document than /patroni.
        with_view={12: {"PatroniUnreachable n3"}},
    ),
    "PostgreSQL of the view hangs": Situation(
        lambda series: series(
            only(listing(healthy(5), n2=None), "n1", "n3"),
            only(listing(recorded("postgres-frozen-replica", 20), n2=None), "n1", "n3"),
        ),
        {7: set(), 12: {"PatroniPostgresHung n3"}},
    ),
    "PostgreSQL of the leader hangs, and another member leads": Situation(
        lambda series: series(
            healthy(5), recorded("postgres-frozen-leader", 1), recorded("postgres-frozen-leader-later", 20, dead=["n1"])
        ),
        {
            7.5: {"PatroniSplitBrainPossible n1", "PatroniFailover n1"},
            25: {"PatroniSplitBrainPossible n1", "PatroniMemberMissing n1", "PatroniUnreachable n1"},
        },
    ),
    "a replica lags": Situation(
        lambda series: series(healthy(5), healthy(20, changes={LAG: 209715200.0})),
        {9: set(), 12: {"PatroniReplicaLag n2"}},
    ),
    "a replica lags, and two Prometheus servers and two rulers report it": Situation(
        lambda series: [
            *twice(series(healthy(5), healthy(20, changes={LAG: 209715200.0}))),
            *(
                {"series": f'patroni:{record}{{scope="lab", {labels}ruler="b"}}', "values": f"{value}x50"}
                for record, labels, value in (
                    ("member_lag_bytes", 'name="n2", ', 209715200),
                    ("member_leader", 'name="n1", ', 1),
                    ("member_up", 'name="n2", ', 1),
                    ("member_following", 'name="n2", ', 1),
                    ("target_leaders", 'instance="n1:9547", job="patroni", ', 1),
                    ("target_cluster", 'instance="n1:9547", job="patroni", ', 1),
                    ("cluster_paused", "", 0),
                    ("members_known", "", 3),
                    ("candidate_lag_limit_bytes", "", 16777216),
                )
            ),
        ],
        {4: set(), 12: {"PatroniReplicaLag n2"}},
    ),
    "a replica that does not know its name received and did not replay": Situation(
        lambda series: series(
            healthy(5, "3.3.11"),
            healthy(20, "3.3.11", changes={'patroni_xlog_received_location{name="n2"}': 67108864.0 + (200 << 20)}),
        ),
        {9: set(), 12: {"PatroniReplicaLag n2"}},
    ),
    "the lag of a replica grows by 6 MiB a minute": Situation(
        lambda series: series(healthy(5), healthy(40, changes={LAG: (0.0, float(3 << 20))})),
        {10: set(), 30: {"PatroniReplicaLagGrowing n2"}, 38: {"PatroniReplicaLagGrowing n2", "PatroniReplicaLag n2"}},
    ),
    "no replica could take over": Situation(
        lambda series: series(
            healthy(5), healthy(20, changes={CLUSTER_LAG % 2: float(64 << 20), CLUSTER_LAG % 3: float(64 << 20)})
        ),
        {9: set(), 12: {"PatroniNoFailoverCandidate"}},
    ),
    "no node answers with the leader lock, and the DCS is there": Situation(
        lambda series: series(healthy(10), recorded("leader-lost-unlocked", 20, "3.3.11")), {10.5: set(), 20: NO_LEADER}
    ),
    "leadership is taken three times in an hour": Situation(
        lambda series: series(*[healthy(8), Phase(BACK, 8)] * 2),
        {15: set(), 31: {"PatroniLeaderFlapping"}},
    ),
    "a cluster is paused for long": Situation(
        lambda series: series(healthy(5), recorded("paused", 80), healthy(20)),
        {60: set(), 70: {"PatroniPaused"}, 100: set()},
        interval=60,
    ),
    "a member waits for a restart for long": Situation(
        lambda series: series(recorded("pending-restart", 1500)),
        {1430: set(), 1450: {f"PatroniPendingRestart {name}" for name in ALL}},
        interval=600,
    ),
    "an upgrade stops half-way": Situation(
        lambda series: series(versions(80, n1="4.1.5", n2="4.0.11", n3="4.1.5")),
        {55: set(), 75: {"PatroniVersionsDiffer"}},
        interval=60,
    ),
    "the watchdog fails and log records are lost": Situation(
        lambda series: series(
            healthy(5),
            healthy(
                20,
                changes={
                    'patroni_watchdog_failed{scope="lab", name="n1", instance="n1:9547", job="patroni"}': 1.0,
                    'patroni_logger_records_lost{scope="lab", name="n2", instance="n2:9547", job="patroni"}': (
                        0.0,
                        1.0,
                    ),
                },
            ),
        ),
        {5: set(), 15: {"PatroniWatchdogFailed n1", "PatroniLogRecordsLost n2"}},
    ),
    "a certificate expires in a week": Situation(
        lambda series: series(
            healthy(
                80,
                changes={
                    f'patroni_tls_certificate_not_after_timestamp_seconds{{scope="lab", name="n{n}", '
                    f'instance="n{n}:9547", job="patroni"}}': days * 86400.0
                    for n, days in ((1, 7), (2, 90))
                },
            )
        ),
        {55: set(), 65: {"PatroniCertificateExpires n1"}},
        interval=60,
    ),
    "Staytus does not answer": Situation(
        lambda series: series(Page(5), Page(10, answers=False)), {8: set(), 12: {"StaytusUnreachable"}}
    ),
    "a status page with a major and a minor outage": Situation(
        lambda series: series(Page(20)), {0: set(), 12: {"StaytusServiceMajor", "StaytusServiceMinor"}}
    ),
    "a service is in maintenance and an issue open for long": Situation(
        lambda series: series(Page(300, status="maintenance")),
        {230: set(), 250: {"StaytusMaintenanceTooLong", "StaytusIssueForgotten"}},
        interval=120,
    ),
    "an issue is open and every service is ok": Situation(
        lambda series: series(Page(30, status="ok")), {14: set(), 20: {"StaytusAllOkWhileIssueOpen"}}
    ),
    "the exporter of a job has never answered": Situation(
        lambda series: series(Phase([], 20, down=ALL)), {4: set(), 10: {"ExporterProbesDown"}}
    ),
}

#: What must not wake on-call: nothing, or a warning.
QUIET: dict[str, Situation] = {
    "a new cluster is restored from a backup": Situation(
        lambda series: series(recorded("custom-bootstrap", 60)),
        {4: set(), 20: {"ExporterEndpointFailing", "PatroniConfigUnknown"}},
    ),
    "two jobs scrape nodes that do not know their names": Situation(
        lambda series: [
            *series(healthy(30, "2.1.7")),
            *of_job(series(healthy(30, "2.1.7")), "patroni-clusters"),
        ],
        {5: set(), 25: set()},
    ),
    "a replica's host reboots in four minutes": Situation(
        lambda series: series(healthy(10), replace(EXPIRED, minutes=4, down=["n3"]), healthy(20)),
        {11: set(), 13.5: set(), 14: set(), 16: set(), 20: set()},
    ),
    "a replica's host reboots in eight minutes": Situation(
        lambda series: series(healthy(10), replace(EXPIRED, minutes=8, down=["n3"]), healthy(20)),
        {14: set(), 17: {"ExporterDown n3", "PatroniMemberMissing n3"}, 21: set()},
    ),
    "one of three exporters is down": Situation(
        lambda series: series(healthy(10), healthy(20, down=["n3"])), {14: set(), 20: {"ExporterDown n3"}}
    ),
    "the exporter in front of all targets is down": Situation(
        lambda series: series(healthy(10), Phase([], 60, down=ALL), probed=True),
        {14: set(), 20: {"ExporterProbesDown"}, 65: {"ExporterProbesDown"}},
        interval=60,
    ),
    "the exporter in front of all targets is down, and has a target of its own": Situation(
        lambda series: [
            *series(healthy(10), Phase([], 20, down=ALL), probed=True),
            *own_target(10, 20, "patroni-exporter"),
            *own_target(10, 20, "staytus"),
        ],
        {14: set(), 20: {"ExporterProbesDown", "ExporterDown"}},
    ),
    "the targets of a cluster get a namespace": Situation(
        lambda series: [
            *series(healthy(10), Phase([], 20)),
            *series(Phase([], 10), healthy(20), labels={"namespace": "prod"}),
        ],
        {9: set(), 20: set(), 29: set()},
    ),
    "the exporter in front of two clusters is down": Situation(
        lambda series: [
            *series(healthy(10), Phase([], 60, down=ALL), probed=True, labels={"cluster": "lab"}),
            *series(
                recorded("standby-cluster", 10), Phase([], 60, down=["n1", "n2"]), probed=True, labels={"cluster": "dr"}
            ),
        ],
        {14: set(), 20: {"ExporterProbesDown"}},
    ),
    "an upgrade across 3.0.4": Situation(
        lambda series: series(
            versions(10, n1="3.0.2", n2="3.0.2", n3="3.0.2"),
            versions(10, n1="3.0.2", n2="3.0.2", n3="3.0.4"),
            versions(10, n1="3.0.2", n2="3.0.4", n3="3.0.4"),
            versions(20, n1="3.0.4", n2="3.0.4", n3="3.0.4"),
        ),
        {9: set(), 19: set(), 29: set(), 45: set()},
    ),
    "a lag of 3 MB on a busy cluster": Situation(
        lambda series: series(healthy(30, changes={CLUSTER_LAG % n: 3e6 for n in (2, 3)})), {10: set(), 29: set()}
    ),
    "a lag of 50 MB while the leader writes 10 MB a second": Situation(
        lambda series: series(
            healthy(
                30,
                changes={
                    'patroni_xlog_location{name="n1"}': (68242616.0, 3e8),
                    CLUSTER_LAG % 2: 5e7,
                    CLUSTER_LAG % 3: 5e7,
                },
            )
        ),
        {10: set(), 29: set()},
    ),
    "a member is replaced by another one": Situation(
        lambda series: series(healthy(10), listing(healthy(20), n3={"name": "n4"})),
        {15: set(), 29: set()},
    ),
    "a cluster is paused": Situation(lambda series: series(recorded("paused", 40)), {10: set(), 39: set()}),
    "the leader is lost in maintenance mode": Situation(
        lambda series: series(recorded("paused", 10), recorded("paused-leader-lost", 20, dead=["n1"])),
        {
            10.5: set(),
            20: {
                "PatroniPausedNoLeader",
                "PatroniUnreachable n1",
                "PatroniReplicaNotStreaming n2",
                "PatroniReplicaNotStreaming n3",
            },
        },
    ),
    "PostgreSQL is stopped in maintenance mode": Situation(
        lambda series: series(recorded("paused", 10), recorded("postgres-down-replicas", 20)), {15: set(), 29: set()}
    ),
    "a node restarts and reports timeline 0 for a moment": Situation(
        lambda series: series(
            healthy(10),
            healthy(
                1,
                changes={
                    'patroni_postgres_timeline{name="n2"}': 0.0,
                    'patroni_member_timeline{name="n2"}': None,
                    'patroni_postgres_running{name="n2"}': 0.0,
                },
            ),
            healthy(20),
        ),
        {10.5: set(), 12: set(), 20: set()},
    ),
    "a switchover, and five minutes later the former leader is shut down for an hour": Situation(
        lambda series: series(
            healthy(10), Phase(BACK, 5), recorded("leader-killed-during-06", 3, dead=["n1"]), Phase(BACK, 20)
        ),
        {12: set(), 16: set(), 17.5: set(), 25: set()},
    ),
    "the leader's host is shut down in order": Situation(
        lambda series: series(
            healthy(10),
            replace(only(listing(Phase(BACK, 1), n1={"state": "stopped"}), "n2", "n3"), dead=["n1"]),
            replace(LEADER_LOST, minutes=3, down=["n1"]),
            Phase(BACK, 20),
        ),
        {10.5: set(), 13: {"PatroniFailover n1"}, 20: set()},
    ),
    "a switchover to the view": Situation(
        lambda series: series(Phase(BACK, 10), healthy(20)), {10.5: set(), 11: set(), 11.5: set(), 12: set(), 20: set()}
    ),
    "a standby cluster that follows its source": Situation(
        lambda series: standby_and_source(series, 40, 1000), {10: set(), 30: set()}
    ),
    "one scrape of every target fails": Situation(
        lambda series: series(recorded("paused", 30), Phase([], 0.5, down=ALL), recorded("paused", 45)),
        {31: set(), 33: set()},
    ),
    "a replica is created and catches up": Situation(
        lambda series: series(
            recorded("creating-replica", 10, "4.0.11"),
            healthy(30, "4.0.11", changes={f'patroni_member_lag_bytes{{name="n{n}"}}': 5e8 for n in (2, 3)}),
        ),
        {9: set(), 13: set()},
    ),
}
