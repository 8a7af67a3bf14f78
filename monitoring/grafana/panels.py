"""The panels of the dashboards: queries, colours and columns of tables."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from grafana_foundation_sdk.builders import stat, statetimeline, table, timeseries
from grafana_foundation_sdk.builders.common import ReduceDataOptions, VizLegendOptions, VizTooltipOptions
from grafana_foundation_sdk.builders.dashboard import (
    ThresholdsConfig,
)
from grafana_foundation_sdk.builders.prometheus import Dataquery
from grafana_foundation_sdk.models.common import (
    BigValueColorMode,
    BigValueGraphMode,
    BigValueTextMode,
    LegendDisplayMode,
    LegendPlacement,
    LineInterpolation,
    TableCellDisplayMode,
    TooltipDisplayMode,
    VisibilityMode,
)
from grafana_foundation_sdk.models.dashboard import (
    DataTransformerConfig,
    DynamicConfigValue,
    Threshold,
    ThresholdsMode,
    ValueMap,
    ValueMappingResult,
)
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

from monitoring.grafana.board import CONFIG, PROMETHEUS, chosen

#: From which value on which colour; None is from the start.
Steps = tuple[tuple[float | None, str], ...]

PLAIN: Steps = ((None, "text"),)
WARN_FROM_1: Steps = ((None, "green"), (1, "orange"))
ALARM_FROM_1: Steps = ((None, "green"), (1, "red"))
#: The colours change where the alerts fire: PatroniReplicaLag and PatroniDCSNotSeen, which are warnings.
LAG: Steps = ((None, "green"), (CONFIG["lagBytes"], "orange"))
SEEN: Steps = ((None, "green"), (CONFIG["dcsSeconds"], "orange"))

#: A state has a word and a colour, for readers who do not distinguish the colours.
States = Mapping[int, tuple[str, str]]

NO_IS_GOOD: States = {0: ("no", "green"), 1: ("yes", "orange")}
NO_IS_VITAL: States = {0: ("no", "green"), 1: ("YES", "red")}
YES_IS_VITAL: States = {0: ("NO", "red"), 1: ("yes", "green")}
ON_OFF: States = {0: ("off", "text"), 1: ("on", "text")}


@dataclass(frozen=True)
class Column:
    """One query of a table. It shows its value, or its label `shows`; rows are joined by their common labels.

    `link` is where a click leads.
    """

    title: str
    expr: str
    shows: str = ""
    unit: str = ""
    steps: Steps = PLAIN
    states: States = field(default_factory=dict)
    link: str = ""


def now(ref_id: str, expr: str, legend: str = "") -> Dataquery:
    """Returns an instant query."""
    return Dataquery().ref_id(ref_id).expr(chosen(expr)).instant().legend_format(legend).datasource(PROMETHEUS)


def over_time(ref_id: str, expr: str, legend: str) -> Dataquery:
    """Returns a range query."""
    return Dataquery().ref_id(ref_id).expr(chosen(expr)).range().legend_format(legend).datasource(PROMETHEUS)


def figure(
    title: str,
    description: str,
    *queries: tuple[str, str],
    unit: str = "",
    steps: Steps = PLAIN,
    states: States | None = None,
    names: bool = False,
    none: str = "-",
    width: int = 4,
    height: int = 4,
) -> stat.Panel:
    """Returns a panel with one number for each series of the queries, which are pairs of expression and legend.

    With `names` it shows the legend instead of the number, and `none` when there is no series.
    """
    panel = (
        stat.Panel()
        .title(title)
        .description(description)
        .datasource(PROMETHEUS)
        .height(height)
        .span(width)
        .unit(unit)
        .no_value(none)
        .mappings([_mapping(states)] if states else [])
        .thresholds(thresholds(steps))
        .color_mode(BigValueColorMode.VALUE)
        .graph_mode(BigValueGraphMode.NONE)
        .text_mode(BigValueTextMode.NAME if names else BigValueTextMode.AUTO)
        .reduce_options(ReduceDataOptions().calcs(["lastNotNull"]).values(False))
    )
    for ref_id, (expr, legend) in zip("ABCDEFGHIJKLMNOP", queries, strict=False):
        panel.with_target(now(ref_id, expr, legend))
    return panel


def rows(
    title: str, description: str, columns: Sequence[Column], *, width: int = 24, height: int = 9, none: str = ""
) -> table.Panel:
    """Returns a table with the labels of the first query, then a column for each query."""
    panel = (
        table.Panel()
        .title(title)
        .description(description)
        .datasource(PROMETHEUS)
        .height(height)
        .span(width)
        .no_value(none)
        .filterable(True)
    )
    left_out: dict[str, bool] = {"Time": True}
    renamed: dict[str, str] = {}
    for ref_id, column in zip("ABCDEFGHIJKLMNOPQRSTUVWX", columns, strict=False):
        panel.with_target(now(ref_id, column.expr).format(PromQueryFormat.TABLE))
        value = f"Value #{ref_id}" if len(columns) > 1 else "Value"
        if column.shows:
            left_out[value] = True
        renamed[column.shows or value] = column.title
        properties = [DynamicConfigValue(key, given) for key, given in _looks(column)]
        if properties:
            panel.override_by_name(column.title, properties)
    order = {name: index for index, name in enumerate(renamed, start=10)}
    if len(columns) > 1:
        panel.with_transformation(DataTransformerConfig("merge", options={}))
    return panel.with_transformation(
        DataTransformerConfig(
            "organize", options={"excludeByName": left_out, "renameByName": renamed, "indexByName": order}
        )
    )


def _looks(column: Column) -> list[tuple[str, Any]]:
    looks: list[tuple[str, Any]] = []
    if column.unit:
        looks.append(("unit", column.unit))
    if column.states:
        looks.append(("mappings", [_mapping(column.states)]))
    if column.steps != PLAIN or column.states:
        looks.append(("thresholds", thresholds(column.steps).build()))
        looks.append(("custom.cellOptions", {"type": TableCellDisplayMode.COLOR_TEXT}))
    if column.link:
        looks.append(("links", [{"title": "Open", "url": column.link}]))
    return looks


def lines(
    title: str,
    description: str,
    *queries: tuple[str, str],
    unit: str = "",
    steps: bool = False,
    width: int = 12,
    height: int = 8,
) -> timeseries.Panel:
    """Returns a panel of lines, or of `steps`, for pairs of expression and legend."""
    panel = (
        timeseries.Panel()
        .title(title)
        .description(description)
        .datasource(PROMETHEUS)
        .height(height)
        .span(width)
        .unit(unit)
        .min(0)
        .line_width(1)
        .fill_opacity(0 if steps else 10)
        .line_interpolation(LineInterpolation.STEP_AFTER if steps else LineInterpolation.LINEAR)
        .show_points(VisibilityMode.NEVER)
        .legend(
            VizLegendOptions().display_mode(LegendDisplayMode.LIST).placement(LegendPlacement.BOTTOM).show_legend(True)
        )
        .tooltip(VizTooltipOptions().mode(TooltipDisplayMode.MULTI))
    )
    for ref_id, (expr, legend) in zip("ABCDEFGH", queries, strict=False):
        panel.with_target(over_time(ref_id, expr, legend))
    return panel


def states_over_time(
    title: str, description: str, expr: str, legend: str, states: States, *, width: int = 12, height: int = 8
) -> statetimeline.Panel:
    """Returns a state timeline with a bar for each series."""
    return (
        statetimeline.Panel()
        .title(title)
        .description(description)
        .datasource(PROMETHEUS)
        .height(height)
        .span(width)
        .mappings([_mapping(states)])
        .thresholds(thresholds(PLAIN))
        .with_target(over_time("A", expr, legend))
    )


def thresholds(steps: Steps) -> ThresholdsConfig:
    """Returns the steps as thresholds of Grafana."""
    return ThresholdsConfig().mode(ThresholdsMode.ABSOLUTE).steps([Threshold(value, color) for value, color in steps])


def _mapping(states: States) -> ValueMap:
    return ValueMap(
        {
            str(value): ValueMappingResult(text=text, color=color, index=index)
            for index, (value, (text, color)) in enumerate(states.items())
        }
    )
