"""The mixin: the rendered files are what it renders, and promtool accepts it with other configurations."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from monitoring.mixin import FOLDER, evaluate, render
from tests.live.installed import needs
from tests.monitoring.promtool import Phase, alerts, firing, picture, run, series
from tests.monitoring.situations import HEARD, healthy, recorded

#: Every key of `_config` with another value.
OTHER = """{
  clusterLabels: ['environment', 'job', 'scope'],
  clusterName: '{{ $labels.environment }}/{{ $labels.scope }}',
  patroniSelector: 'environment=~".+"',
  staytusSelector: 'job="staytus"',
  exporterJobs: 'databases|pages',
  exporterLabels: ['environment', 'job'],
  lagBytes: 8388608,
  lagGrowthBytesPerSecond: 1000,
  candidateLagBytes: 0,
  lagSecondsFromBytes: 0,
  dcsSeconds: 45,
  leaderChangesPerHour: 4,
  switchoverAheadSeconds: 3600,
  certificateSeconds: 86400,
  issueSeconds: 60,
  pausedFor: '2h',
  pendingRestartFor: '2d',
  lagUnknownFor: '20m',
  maintenanceFor: '1h',
  viewMovesFor: '1m',
  memberMemory: '3d',
  clusterMemory: '12h',
  perCluster: [
    { match: 'scope="dwh"', lagBytes: 10737418240, candidateLagBytes: 1073741824, pausedFor: '8h' },
    { match: 'scope=~"d.+"', lagBytes: 1073741824, dcsSeconds: 90, leaderChangesPerHour: 9 },
  ],
  expectedMembers: [{ match: 'scope="main"', members: 3 }],
  severities: { PatroniReplicaLag: 'info' },
  alertLabels: { team: 'dba' },
  disabledAlerts: ['PatroniVersionsDiffer'],
  watchdog: false,
  runbookURLPattern: 'https://wiki.example.org/%s',
  dashboardURL: 'https://grafana.example.org/d/patroni-cluster?var-scope={{ $labels.scope }}',
  postgresDashboardURL: 'https://grafana.example.org/d/postgres',
  dashboardTags: ['databases'],
  groupNames+: { cluster: 'databases' },
  prometheusRuleMetadata: { namespace: 'monitoring', labels: { release: 'kube-prometheus-stack' } },
}"""


def written(folder: Path, config: str) -> list[Path]:
    """The rule files with this configuration."""
    files = []
    for name, text in render(config).items():
        if name.startswith("rules/"):
            files.append(folder / Path(name).name)
            files[-1].write_text(text)
    return files


def test_rendered_files_are_current() -> None:
    rendered = render()
    for name, text in rendered.items():
        assert (FOLDER / name).read_text() == text, "run `make rules`"
    found = {
        str(path.relative_to(FOLDER)) for folder in ("rules", "operator") for path in (FOLDER / folder).glob("*.y*ml")
    }
    assert found == {*rendered, "operator/kustomization.yaml"}


def test_mixin_has_the_fields_of_a_mixin() -> None:
    fields = evaluate("std.objectFieldsAll(mixin)")
    assert {"_config", "prometheusAlerts", "prometheusRules", "grafanaDashboards"} <= set(fields)


def test_prometheusrule_has_all_groups() -> None:
    rendered = {name: yaml.load(text, yaml.CSafeLoader) for name, text in render().items()}
    rule = rendered["operator/prometheusrule.yaml"]
    groups = [group for name in rendered if name.startswith("rules/") for group in rendered[name]["groups"]]
    assert (rule["apiVersion"], rule["kind"]) == ("monitoring.coreos.com/v1", "PrometheusRule")
    assert sorted(rule["spec"]["groups"], key=str) == sorted(groups, key=str)


@needs("promtool")
@pytest.mark.parametrize("config", ["{}", OTHER])
def test_promtool_accepts_it(tmp_path: Path, config: str) -> None:
    assert run("check", "rules", *written(tmp_path, config)) == ""


def test_other_configuration_sets_every_key() -> None:
    assert evaluate("std.objectFields(mixin._config)") == evaluate(f"std.objectFields({OTHER.replace('+:', ':')})")


def test_no_default_is_left_in_another_configuration() -> None:
    text = "".join(render(OTHER).values())
    defaults = ("namespace", "134217728", "65536", "16777216", "16777216", "[7d]", "[1d]", "RUNBOOK.md", "Watchdog\n")
    assert [default for default in defaults if default in text.replace("namespace: monitoring", "")] == []
    assert "environment, job, scope" in text


def rule(config: str, alert: str) -> list[dict[str, Any]]:
    groups = evaluate("mixin.prometheusAlerts.groups", config)
    return [rule for group in groups for rule in group["rules"] if rule["alert"] == alert]


def test_threshold_per_cluster() -> None:
    lag = "max by (environment, job, scope, name) (patroni:member_lag_bytes%s)"
    dwh, others, default = lag % '{scope="dwh"}', lag % '{scope=~"d.+"}', lag % ""
    (found,) = rule(OTHER, "PatroniReplicaLag")
    assert found["expr"].split("\n")[0] == (
        f"(({dwh}) > 10737418240 or ({others} unless {dwh}) > 1073741824 "
        f"or ({default} unless {dwh} unless {others}) > 8388608)"
    )
    assert found["labels"] == {"severity": "info", "team": "dba"}
    assert found["annotations"]["runbook_url"] == "https://wiki.example.org/patronireplicalag"
    assert found["annotations"]["dashboard_url"].startswith("https://grafana.example.org/d/patroni-cluster")


def test_duration_per_cluster() -> None:
    assert [found["for"] for found in rule(OTHER, "PatroniPaused")] == ["8h", "2h"]


@needs("promtool")
def test_threshold_per_cluster_is_the_first_that_matches(tmp_path: Path) -> None:
    config = """{
      lagBytes: 1e9,
      perCluster: [{ match: 'scope="lab"', lagBytes: 2e6 }, { match: 'scope=~".+"', lagBytes: 1 }],
    }"""
    lag = [series(healthy(20, changes={"patroni_member_replay_lag_bytes": value})) for value in (1e6, 3e6)]
    files = written(tmp_path, config)
    assert [firing(tmp_path, given, 15, files=files) for given in lag] == [
        [set()],
        [{"PatroniReplicaLag n2", "PatroniReplicaLag n3"}],
    ]


@needs("promtool")
def test_jobs_as_cluster_labels(tmp_path: Path) -> None:
    given = HEARD["two clusters of one scope in two jobs, one without a leader"].series(series)
    files = written(tmp_path, "{ clusterLabels: ['job', 'scope'] }")
    (fired,) = alerts(tmp_path, given, 38, files=files)
    found = {(alert["alertname"], alert.get("job")) for alert in fired} - {("Watchdog", None)}
    assert found >= {("PatroniNoLeader", "other"), ("PatroniMemberMissing", "other")}
    assert {job for _, job in found} == {"other"}


@needs("promtool")
def test_expected_members(tmp_path: Path) -> None:
    given = series(healthy(10), Phase(picture("4.1.5", "patroni-dead-expired"), 30))
    config = """{ expectedMembers: [{ match: 'scope="lab"', members: %d }] }"""
    assert firing(tmp_path, given, 30, files=written(tmp_path, config % 2)) == [set()]
    assert firing(tmp_path, given, 9, 30, files=written(tmp_path, config % 3)) == [set(), {"PatroniTooFewMembers"}]


@needs("promtool")
def test_expected_member_after_a_planned_removal(tmp_path: Path) -> None:
    given = HEARD["the replica of a cluster of two is lost for two days"]
    files = written(tmp_path, """{ expectedMembers: [{ match: 'scope="lab"', members: 1 }] }""")
    assert firing(tmp_path, given.series(series), *given.expected, files=files, interval=given.interval) == [
        set() for _ in given.expected
    ]


@needs("promtool")
@pytest.mark.parametrize(
    ("phase", "probed", "expected"),
    [
        (healthy(20, down=["n2"]), False, "ExporterDown n2"),
        (healthy(20, down=["n1", "n2", "n3"]), True, "ExporterProbesDown"),
        (recorded("dcs-down", 20, frozen=True), False, "PatroniConfigUnknown"),
    ],
    ids=["exporter", "exporter of all", "DCS"],
)
def test_exporter_labels_that_are_no_cluster_labels(tmp_path: Path, phase: Phase, probed: bool, expected: str) -> None:
    given = series(healthy(10), phase, labels={"region": "eu"}, probed=probed)
    (fired,) = firing(tmp_path, given, 28, files=written(tmp_path, "{ exporterLabels: ['job', 'region'] }"))
    assert [fired] == firing(tmp_path, given, 28)
    assert expected in fired
