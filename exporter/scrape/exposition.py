"""The text of a scrape for /probe: the families of results, which are all gauges.

prometheus_client writes the text of /metrics. It validates each name of each sample again, which takes four times as
long and would be half of the CPU time of a probe. A test compares the two writers.
"""

from collections.abc import Collection, Iterable
from functools import cache

from prometheus_client.utils import floatToGoString

from exporter.scrape.families import Labels, samples_by_family
from exporter.scrape.results import ModuleResult


def exposition(results: Iterable[ModuleResult], *, openmetrics: bool = False, names: Collection[str] = ()) -> str:
    """Returns the families in Prometheus' text format or in OpenMetrics, `names` only when there are some."""
    parts = []
    for result in results:
        for family, samples in samples_by_family(result, _labels):
            name = family.name
            if not names or name in names:
                parts.append(_head(name, family.help, openmetrics))
                for labels, number in samples:
                    text = repr(number) if -1e6 < number < 1e6 else floatToGoString(number)  # type: ignore[no-untyped-call]
                    parts.append(f"{name}{labels} {text}\n")
    if openmetrics:
        parts.append("# EOF\n")
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
