"""What all dashboards have in common around their panels: the data source, the reader's choices, links and marks."""

from typing import Self

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

#: The Prometheus that the reader chose at the top of the dashboard.
PROMETHEUS = DataSourceRef(type_val="prometheus", uid="${datasource}")


class Board(Dashboard):
    """A dashboard that takes panels in a row."""

    def with_panels(self, *panels: Builder[Panel]) -> Self:
        """Sets the panels side by side and, where a line of 24 columns is full, below each other."""
        for panel in panels:
            self.with_panel(panel)
        return self


def dashboard(title: str, uid: str, description: str) -> Board:
    """Returns a dashboard with a choice of the data source and links to the others."""
    return (
        Board(title)
        .uid(uid)
        .description(description)
        .tags(["patroni-staytus-exporter"])
        .tooltip(DashboardCursorSync.CROSSHAIR)
        .time("now-6h", "now")
        .refresh("30s")
        .readonly()
        .link(
            DashboardLink("Dashboards")
            .type(DashboardLinkType.DASHBOARDS)
            .tags(["patroni-staytus-exporter"])
            .as_dropdown(True)
            .include_vars(True)
            .keep_time(True)
        )
        .with_variable(DatasourceVariable("datasource").label("Prometheus").type("prometheus"))
    )


def choice(name: str, label: str, query: str, *, many: bool = False) -> QueryVariable:
    """Returns a variable of the reader's choice at the top: one of what the query gives, or `many`, at first all."""
    variable = (
        QueryVariable(name)
        .label(label)
        .datasource(PROMETHEUS)
        .query(query)
        .refresh(VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(VariableSort.ALPHABETICAL_ASC)
    )
    if many:
        everything = VariableOption(selected=True, text=["All"], value=["$__all"])
        variable.multi(True).include_all(True).all_value(".+").current(everything)
    return variable


def moments(name: str, expr: str, title: str, text: str) -> AnnotationQuery:
    """Returns marks at the times that are the values of the query, in milliseconds, with texts of its labels.

    So they stand where something happened, and not where that was first scraped.
    """
    return (
        AnnotationQuery()
        .name(name)
        .datasource(PROMETHEUS)
        .enable(True)
        .icon_color("red")
        .expr(expr)
        .use_value_for_time(True)
        .title_format(title)
        .text_format(text)
        .step("60s")
    )
