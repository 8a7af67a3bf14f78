"""What a scrape tells, as the text that Prometheus reads: the families of readings, which are gauges all of them.

prometheus_client writes the same, four times as slowly, as it checks every name anew; it stays what this is held to.
"""

from collections.abc import Iterable
from functools import cache

from prometheus_client.utils import floatToGoString

from exporter.scrape.scrape import Labels, ModuleReading, labels_of, told


def exposition(readings: Iterable[ModuleReading], *, openmetrics: bool = False) -> str:
    """Returns the families of these readings in Prometheus' text format, or in that of OpenMetrics without its end."""
    parts = []
    for reading in readings:
        written: dict[tuple[object, ...], str] = {}  # most families have the labels of others
        for family, common, samples in told(reading):
            name = family.name
            parts.append(_head(name, family.help, openmetrics))
            for values, number in samples:
                key = (family.subject, family.labels, values)
                if key not in written:
                    written[key] = _labels(labels_of(family, common, values))
                text = repr(number) if -1e6 < number < 1e6 else floatToGoString(number)  # type: ignore[no-untyped-call]
                parts.append(f"{name}{written[key]} {text}\n")
    return "".join(parts)


@cache
def _head(name: str, help: str, openmetrics: bool) -> str:
    escaped = _escaped(help) if openmetrics else help.replace("\\", r"\\").replace("\n", r"\n")
    return f"# HELP {name} {escaped}\n# TYPE {name} gauge\n"


def _labels(labels: Labels) -> str:
    if not labels:
        return ""
    return "{" + ",".join([f'{name}="{_escaped(value)}"' for name, value in sorted(labels.items())]) + "}"


def _escaped(text: str) -> str:
    return text.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")
