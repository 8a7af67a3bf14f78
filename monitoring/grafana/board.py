"""What all dashboards share around their panels: variables, links and annotations."""

import re
from typing import Any, Self

from grafana_foundation_sdk.builders.dashboard import (
    AnnotationQuery,
    Dashboard,
    DashboardLink,
    DatasourceVariable,
    QueryVariable,
)
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.models.common import DataSourceRef
from grafana_foundation_sdk.models.dashboard import (
    DashboardCursorSync,
    DashboardLinkType,
    Panel,
    VariableOption,
    VariableRefresh,
    VariableSort,
)

from monitoring.mixin import evaluate

#: The configuration of the mixin: thresholds, cluster labels, links.
CONFIG: dict[str, Any] = evaluate("mixin._config")

#: The labels that identify a cluster.
CLUSTER_LABELS = ", ".join(CONFIG["clusterLabels"])

#: The targets that are chosen at the top of the dashboard. Recording rules have no job.
CHOSEN = 'cluster=~"$cluster",namespace=~"$namespace"'

#: The Prometheus that is chosen at the top of the dashboard.
PROMETHEUS = DataSourceRef(type_val="prometheus", uid="${datasource}")


def chosen(expr: str) -> str:
    """Returns the expression with its selectors, also empty ones, limited to the chosen targets."""

    def selector(match: re.Match[str]) -> str:
        name, matchers = match.groups()
        targets = CHOSEN if ":" in name or name == "ALERTS" else f'job=~"$job",{CHOSEN}'
        return f"{name}{{{','.join(filter(None, [targets, matchers]))}}}"

    return re.sub(r"\b((?:patroni|staytus)[\w:]+|service_status|ALERTS)\{([^}]*)\}", selector, expr)


class Board(Dashboard):
    """A dashboard that takes panels in a row."""

    def with_panels(self, *panels: Builder[Panel]) -> Self:
        """Sets the panels side by side and, where a line of 24 columns is full, below each other."""
        for panel in panels:
            self.with_panel(panel)
        return self


def dashboard(title: str, uid: str, description: str, family: str) -> Board:
    """Returns a dashboard with links to the others, and variables for the data source and the labels of `family`."""
    board = (
        Board(title)
        .uid(uid)
        .description(description)
        .tags(CONFIG["dashboardTags"])
        .tooltip(DashboardCursorSync.CROSSHAIR)
        .time("now-6h", "now")
        .refresh("30s")
        .link(
            DashboardLink("Dashboards")
            .type(DashboardLinkType.DASHBOARDS)
            .tags(CONFIG["dashboardTags"])
            .as_dropdown(True)
            .include_vars(True)
            .keep_time(True)
        )
        .link(_link("Runbook", CONFIG["runbookURLPattern"].partition("#")[0]))
        .with_variable(DatasourceVariable("datasource").label("Prometheus").type("prometheus"))
    )
    if family.startswith("patroni"):
        board.link(_link("PostgreSQL", CONFIG["postgresDashboardURL"]))
    for label in ("job", "namespace", "cluster"):
        board.with_variable(
            choice(label, label.capitalize(), f"label_values({family}, {label})", many=True, all_value=".*")
        )
    return board


def _link(title: str, url: str) -> DashboardLink:
    return DashboardLink(title).type(DashboardLinkType.LINK).url(url).target_blank(True).keep_time(True)


def choice(name: str, label: str, query: str, *, many: bool = False, all_value: str = ".+") -> QueryVariable:
    """Returns a variable for one value of the query, or for `many` of them, by default all.

    All is `all_value`: `.*` also selects series without the label.
    """
    variable = (
        QueryVariable(name)
        .label(label)
        .datasource(PROMETHEUS)
        .query(chosen(query))
        .refresh(VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(VariableSort.ALPHABETICAL_ASC)
    )
    if many:
        everything = VariableOption(selected=True, text=["All"], value=["$__all"])
        variable.multi(True).include_all(True).all_value(all_value).current(everything)
    return variable


def moments(name: str, expr: str, title: str, text: str) -> AnnotationQuery:
    """Returns annotations at the times that are the values of the query, in milliseconds.

    They mark when something happened, not when it was first scraped.
    """
    return (
        AnnotationQuery()
        .name(name)
        .datasource(PROMETHEUS)
        .enable(True)
        .icon_color("red")
        .expr(chosen(expr))
        .use_value_for_time(True)
        .title_format(title)
        .text_format(text)
        .step("60s")
    )
