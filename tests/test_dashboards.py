"""The dashboards: the JSON is current, its queries name families that exist, and it agrees with the alerts."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from grafana_foundation_sdk.models.dashboard import Dashboard

from monitoring.grafana.__main__ import DASHBOARDS, FOLDER, text
from monitoring.mixin import evaluate
from tests.live.installed import needs
from tests.monitoring.promtool import RULES, rules, run
from tests.recorded import FAMILIES

FILES = sorted(FOLDER.glob("*.json"))
LABELS = {family.name: {*family.common_labels, *family.labels} for family in FAMILIES}

#: The labels of targets, and those of recording rules.
TARGET = {"job", "instance", "cluster", "namespace"}
RECORDS = {rule["record"]: {"scope", "name"} for rule in rules(RULES) if "record" in rule}
NAMES = LABELS | RECORDS | {"ALERTS": {"alertname", "alertstate", "severity", "scope", "name"}}

#: Functions and keywords in queries.
WORDS = {
    "by",
    "or",
    "count",
    "max",
    "min",
    "sum",
    "time",
    "vector",
    "changes",
    "max_over_time",
    "label_replace",
    "group_left",
    "count_values",
    "topk",
}


@dataclass(frozen=True)
class Query:
    """One expression of a dashboard and where it stands; in a table also its column, and the label that it shows."""

    where: str
    expr: str
    column: str = ""
    label: str = ""


def queries(file: Path) -> Iterator[Query]:
    """All expressions of a committed dashboard: those of its panels and of its annotations."""
    dashboard = json.loads(file.read_text())
    for annotation in dashboard["annotations"]["list"]:
        yield Query(f"{file.stem}: {annotation['name']}", annotation["expr"])
    for panel in dashboard["panels"]:
        where = f"{file.stem}: {panel['title']}"
        for target in panel.get("targets", []):
            yield Query(where, target["expr"], *(_column(panel, target) if panel["type"] == "table" else ()))


def _column(panel: dict[str, Any], target: dict[str, str]) -> tuple[str, str]:
    """The title of the column that shows this query, and the label in it, empty where it is the value."""
    options = panel["transformations"][-1]["options"]
    value = f"Value #{target['refId']}" if len(panel["targets"]) > 1 else "Value"
    if not options["excludeByName"].get(value):
        return options["renameByName"][value], ""
    labels = re.findall(r"by \(([^)]*)\)", target["expr"])[0].split(", ")
    label = next(label for label in reversed(labels) if label in options["renameByName"])
    return options["renameByName"][label], label


def test_each_dashboard_is_committed() -> None:
    assert [file.name for file in FILES] == sorted(DASHBOARDS)


@pytest.mark.parametrize("name", DASHBOARDS)
def test_committed_dashboard_is_not_stale(name: str) -> None:
    assert (FOLDER / name).read_text() == text(DASHBOARDS[name]), "run `make dashboards`"


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_dashboard_is_of_the_types_that_grafana_documents(file: Path) -> None:
    given = json.loads(file.read_text())
    read = Dashboard.from_json(given)
    panels = read.panels or []
    assert [panel.id_val for panel in panels] == list(range(1, len(panels) + 1))
    assert json.loads(text(lambda: _Built(read))) == given  # type: ignore[arg-type, return-value]


class _Built:
    """What gives a dashboard that was read back as if it had just been built."""

    def __init__(self, dashboard: Dashboard):
        self._dashboard = dashboard

    def build(self) -> Dashboard:
        return self._dashboard


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_panels_lie_beside_each_other_and_each_says_what_it_shows(file: Path) -> None:
    taken: set[tuple[int, int]] = set()
    for panel in json.loads(file.read_text())["panels"]:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert (taken & cells, max(x for x, _ in cells) < 24) == (set(), True), panel["title"]
        taken |= cells
        assert panel["title"]
        assert panel["type"] == "row" or panel["description"].endswith(".")


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_queries_name_families_and_labels_that_exist(file: Path) -> None:
    for query in queries(file):
        selectors = re.findall(r"([a-zA-Z_:0-9]+)\{([^}]*)\}", query.expr)
        assert selectors, query
        for family, matchers in selectors:
            labels = set(re.findall(r'(\w+)(?:=~|!~|!=|=)"', matchers))
            assert labels <= NAMES[family] | TARGET, query
        rest = re.sub(r'"[^"]*"|\{[^}]*\}|\[[^]]*\]|(by|on) \([^)]*\)', " ", query.expr)
        names = set(re.findall(r"[a-zA-Z_:][a-zA-Z_:0-9]*", rest)) - WORDS
        assert names, query
        assert names <= NAMES.keys(), query
        of_families = set().union(*(NAMES[name] for name in names))
        made = set(re.findall(r'label_replace\(.*, "(\w+)", "\$1"', query.expr))
        for grouping in re.findall(r"by \(([^)]*)\)", query.expr):
            assert set(grouping.split(", ")) <= of_families | made | TARGET, query


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_queries_select_the_chosen_targets(file: Path) -> None:
    """Recording rules and alerts have no job."""
    for query in queries(file):
        for family, matchers in re.findall(r"([a-zA-Z_:0-9]+)\{([^}]*)\}", query.expr):
            chosen = set(re.findall(r'(\w+)=~"\$\1"', matchers)) & {"job", "cluster", "namespace"}
            assert {"job", *chosen} == {"job", "cluster", "namespace"}, query
            assert ("job" in chosen) == (family in LABELS), query


def panel(dashboard: dict[str, Any], title: str) -> dict[str, Any]:
    return next(panel for panel in dashboard["panels"] if panel["title"] == title)


@pytest.mark.parametrize("file", ["patroni-fleet.json", "patroni-cluster.json"])
def test_worst_lag_is_that_of_the_alert(file: str) -> None:
    dashboard = json.loads((FOLDER / file).read_text())
    worst = panel(dashboard, "Worst lag")
    (alert,) = [rule["expr"] for rule in rules(RULES) if rule.get("alert") == "PatroniReplicaLag"]
    record, threshold = re.findall(r"\((patroni:\w+)\) > (\d+)", alert)[0]
    assert record in worst["targets"][0]["expr"]
    assert [step["value"] for step in worst["fieldConfig"]["defaults"]["thresholds"]["steps"]] == [None, int(threshold)]


def test_lines_of_the_fleet_are_bounded() -> None:
    dashboard = json.loads((FOLDER / "patroni-fleet.json").read_text())
    lines = [target["expr"] for p in dashboard["panels"] if p["type"] == "timeseries" for target in p["targets"]]
    assert lines
    assert [expr for expr in lines if not expr.startswith("topk(20, ")] == []


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_dashboard_has_its_variables_and_links(file: Path) -> None:
    dashboard = json.loads(file.read_text())
    last = ["instance"] if file.stem == "staytus" else ["scope"]
    names = [variable["name"] for variable in dashboard["templating"]["list"]]
    assert names == ["datasource", "job", "namespace", "cluster", *last]
    links = ["Dashboards", "Runbook", *(["PostgreSQL"] if file.stem != "staytus" else [])]
    assert [link["title"] for link in dashboard["links"]] == links
    assert dashboard["editable"]


def test_mixin_has_the_committed_dashboards() -> None:
    assert evaluate("mixin.grafanaDashboards") == {file.name: json.loads(file.read_text()) for file in FILES}


def test_mixin_renders_dashboards_with_other_labels_thresholds_and_links() -> None:
    config = """{
      clusterLabels: ['environment', 'scope'], lagBytes: 7, dcsSeconds: 8, dashboardTags: ['mine'],
      runbookURLPattern: 'https://wiki.example.org/patroni/%s', postgresDashboardURL: 'https://grafana.example.org/d/pg',
    }"""
    dashboards = evaluate("mixin.grafanaDashboards", config)
    text = json.dumps(dashboards)
    assert "cluster, namespace, scope" not in text
    assert "by (environment, scope)" in text
    assert [word for word in ("$namespace", "$cluster", "{{namespace}}", "fields.namespace") if word in text] == []
    assert "&var-environment=${__data.fields.environment}&" in text
    for dashboard in dashboards.values():
        names = [(variable["name"], variable.get("label")) for variable in dashboard["templating"]["list"]]
        assert names[1:3] == [("job", "Job"), ("environment", "Environment")]
        for variable in dashboard["templating"]["list"][2:]:
            expected = (
                ", environment)" if variable["name"] == "environment" else 'job=~"$job",environment=~"$environment"}'
            )
            assert expected in variable["query"]
    fleet = dashboards["patroni-fleet.json"]
    assert panel(fleet, "Worst lag")["fieldConfig"]["defaults"]["thresholds"]["steps"][1]["value"] == 7
    assert {link["title"]: link["url"] for link in fleet["links"] if "url" in link} == {
        "Runbook": "https://wiki.example.org/patroni/",
        "PostgreSQL": "https://grafana.example.org/d/pg",
    }
    assert (fleet["tags"], fleet["links"][0]["tags"]) == (["mine"], ["mine"])


@needs("promtool")
@pytest.mark.parametrize("labels", ["['scope']", "['job', 'scope']", "['environment', 'region', 'scope']"])
def test_queries_with_other_labels_are_valid(tmp_path: Path, labels: str) -> None:
    dashboards = evaluate("mixin.grafanaDashboards", f"{{ clusterLabels: {labels} }}")
    panels = [panel for each in dashboards.values() for panel in each["panels"]]
    queries = {re.sub(r"\$__\w+", "5m", target["expr"]) for panel in panels for target in panel.get("targets", ())}
    recorded = [{"record": f"query:{number}", "expr": query} for number, query in enumerate(queries)]
    (tmp_path / "rules.yml").write_text(json.dumps({"groups": [{"name": "queries", "rules": recorded}]}))
    assert run("check", "rules", tmp_path / "rules.yml") == ""


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_each_query_asks_the_prometheus_that_the_reader_chose(file: Path) -> None:
    dashboard = json.loads(file.read_text())
    asked = [dashboard["annotations"]["list"], dashboard["templating"]["list"][1:]]
    asked += [[panel, *panel["targets"]] for panel in dashboard["panels"] if panel["type"] != "row"]
    sources = {tuple(item["datasource"].items()) for items in asked for item in items}
    assert dashboard["templating"]["list"][0]["name"] == "datasource"
    assert sources == {(("type", "prometheus"), ("uid", "${datasource}"))}
