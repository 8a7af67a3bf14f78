"""What a scrape tells, as the text that Prometheus reads: the families of readings, which are gauges all of them.

prometheus_client writes the same, four times as slowly, as it checks every name anew; it stays what this is held to.
"""

from collections.abc import Iterable
from functools import cache

from prometheus_client.utils import floatToGoString

from exporter.scrape import Labels, ModuleReading, told

_ESCAPED = str.maketrans({"\\": r"\\", "\n": r"\n", '"': r"\""})


def exposition(readings: Iterable[ModuleReading], *, openmetrics: bool = False) -> str:
    """Returns the families of these readings in Prometheus' text format, or in that of OpenMetrics without its end."""
    parts, written = [], {}
    for family, samples in told(readings):
        parts.append(_head(family.name, family.help, openmetrics))
        for labels, number in samples:
            key = tuple(labels.items())
            if key not in written:  # most families have the labels of others
                written[key] = _labels(labels)
            parts.append(f"{family.name}{written[key]} {_number(number)}\n")
    return "".join(parts)


@cache
def _head(name: str, help: str, openmetrics: bool) -> str:
    escaped = help.replace("\\", r"\\").replace("\n", r"\n")
    if openmetrics:
        escaped = escaped.replace('"', r"\"")
    return f"# HELP {name} {escaped}\n# TYPE {name} gauge\n"


def _labels(labels: Labels) -> str:
    if not labels:
        return ""
    return "{" + ",".join([f'{name}="{value.translate(_ESCAPED)}"' for name, value in sorted(labels.items())]) + "}"


def _number(number: float) -> str:
    if -1e6 < number < 1e6:
        return repr(number)
    return str(floatToGoString(number))  # type: ignore[no-untyped-call]
