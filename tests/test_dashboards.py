"""The dashboards: the committed JSON is what the code writes, and its queries name only families that there are."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from grafana_foundation_sdk.models.dashboard import Dashboard

from exporter.collectors import COLLECTORS
from exporter.scrape.families import SCRAPE_FAMILIES
from monitoring.grafana.__main__ import DASHBOARDS, FOLDER, text

FILES = sorted(FOLDER.glob("*.json"))
FAMILIES = {
    family.name: {*family.common_labels, *family.labels}
    for service, collectors in COLLECTORS.items()
    for family in [*(family for collector in collectors for family in collector.families), *SCRAPE_FAMILIES[service]]
}

#: What stands in queries beside families and labels.
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
def test_each_query_names_only_families_and_labels_that_there_are(file: Path) -> None:
    for query in queries(file):
        selectors = re.findall(r"([a-z_]+)\{([^}]*)\}", query.expr)
        assert selectors or "{" not in query.expr
        for family, matchers in selectors:
            labels = set(re.findall(r'(\w+)=?[=!~]+"', matchers))
            assert labels <= FAMILIES[family] | {"instance"}, query
        rest = re.sub(r'"[^"]*"|\{[^}]*\}|\[[^]]*\]|(by|on) \([^)]*\)', " ", query.expr)
        names = set(re.findall(r"[a-z_]+", rest)) - WORDS
        assert names, query
        assert names <= FAMILIES.keys(), query
        of_families = set().union(*(FAMILIES[name] for name in names))
        made = set(re.findall(r'label_replace\(.*, "(\w+)", "\$1"', query.expr))
        for grouping in re.findall(r"by \(([^)]*)\)", query.expr):
            assert set(grouping.split(", ")) <= of_families | made | {"instance", "job"}, query


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_each_query_asks_the_prometheus_that_the_reader_chose(file: Path) -> None:
    dashboard = json.loads(file.read_text())
    asked = [dashboard["annotations"]["list"], dashboard["templating"]["list"][1:]]
    asked += [[panel, *panel["targets"]] for panel in dashboard["panels"] if panel["type"] != "row"]
    sources = {tuple(item["datasource"].items()) for items in asked for item in items}
    assert dashboard["templating"]["list"][0]["name"] == "datasource"
    assert sources == {(("type", "prometheus"), ("uid", "${datasource}"))}
