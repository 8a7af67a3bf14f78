"""The text of a scrape for /probe: the families of results, which are all gauges.

prometheus_client writes the text of /metrics. It validates each name of each sample again, which takes four times as
long and would be half of the CPU time of a probe. A test compares the two writers.
"""

from collections.abc import Collection, Iterable
from functools import cache, lru_cache
from itertools import count

from prometheus_client.utils import floatToGoString

from exporter.collectors.base import Names, Values
from exporter.scrape.families import samples_by_family
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
                    text = repr(number) if -1e6 < number < 1e6 else _large(number)
                    parts.append(f"{name}{labels} {text}\n")
    if openmetrics:
        parts.append("# EOF\n")
    return "".join(parts)


#: WAL positions and times repeat within a probe.
_large = lru_cache(maxsize=64)(floatToGoString)


@cache
def _head(name: str, help: str, openmetrics: bool) -> str:
    escaped = _escaped(help) if openmetrics else help.replace("\\", r"\\").replace("\n", r"\n")
    return f"# HELP {name} {escaped}\n# TYPE {name} gauge\n"


def _labels(names: Names, values: Values) -> str:
    given = [_escaped(value) for value in values if value is not None]
    if len(given) < len(names):
        names = tuple(name for name, value in zip(names, values, strict=True) if value is not None)
    return _template(names).format(*given)


@cache
def _template(names: Names) -> str:
    """Returns the text of labels, with the place of each value for str.format()."""
    pairs = [f'{name}="{{{place}}}"' for name, place in sorted(zip(names, count(), strict=False))]
    return "{{" + ",".join(pairs) + "}}" if names else ""


def _escaped(text: str) -> str:
    if "\\" in text or "\n" in text or '"' in text:
        return text.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")
    return text
