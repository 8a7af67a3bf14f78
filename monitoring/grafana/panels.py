"""What the panels of all dashboards have in common: their queries, colours and the tables' columns."""

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

#: A state is a word and a colour, so that nobody has to tell colours apart.
States = Mapping[int, tuple[str, str]]

NO_IS_GOOD: States = {0: ("no", "green"), 1: ("yes", "orange")}
NO_IS_VITAL: States = {0: ("no", "green"), 1: ("YES", "red")}
YES_IS_VITAL: States = {0: ("NO", "red"), 1: ("yes", "green")}
ON_OFF: States = {0: ("off", "text"), 1: ("on", "text")}


@dataclass(frozen=True)
class Column:
    """One query of a table: what it shows is its value, or its label `shows`; the rows are joined by what they share.

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
    """Returns a query for what is so at the end of the chosen time."""
    return Dataquery().ref_id(ref_id).expr(chosen(expr)).instant().legend_format(legend).datasource(PROMETHEUS)


def over_time(ref_id: str, expr: str, legend: str) -> Dataquery:
    """Returns a query for what was so in the whole of the chosen time."""
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
    """Returns a panel of one large figure for each series of the queries, which are pairs of expression and legend.

    With `names` the legend stands in place of the figure; `none` stands there when there is no series.
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
    """Returns a table with a column for each label that the first query has, then one for each column's own."""
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
    """Returns a panel of lines over time, as steps where values jump, for pairs of expression and legend."""
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
    """Returns a panel with a bar for each series that changes its word and colour with the state."""
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
    """Returns the steps as Grafana knows them."""
    return ThresholdsConfig().mode(ThresholdsMode.ABSOLUTE).steps([Threshold(value, color) for value, color in steps])


def _mapping(states: States) -> ValueMap:
    return ValueMap(
        {
            str(value): ValueMappingResult(text=text, color=color, index=index)
            for index, (value, (text, color)) in enumerate(states.items())
        }
    )
