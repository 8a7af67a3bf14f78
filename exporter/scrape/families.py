"""The families of a scrape: those of its documents, and those about the scrape itself."""

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, TypeVar

from prometheus_client.metrics_core import Metric
from prometheus_client.samples import Sample

from exporter.collectors import COLLECTORS
from exporter.collectors.base import AnyCollector, CommonLabels, Family, Names, Samples, Values, gauge, gauges, stateset
from exporter.log import Event
from exporter.scrape.results import ModuleResult
from exporter.upstream.target import Module

log = logging.getLogger(__name__)

T = TypeVar("T")

#: The labels of a sample.
Labels = dict[str, str]


#: The HELP of the families of both services.
SUCCESS = "1 if the collector's document was fetched and parsed, 0 otherwise"
DURATION = "Time until the collector's document was fetched or its scrape failed, in seconds."


def _up(result: ModuleResult) -> bool:
    return result.up


def _successes(result: ModuleResult) -> list[tuple[tuple[str], bool | None]]:
    return [((document.collector.name,), document.success) for document in result.documents]


def _durations(result: ModuleResult) -> list[tuple[tuple[str], float]]:
    return [((document.collector.name,), document.seconds) for document in result.documents]


#: The families about the scrape itself, by service.
SCRAPE_FAMILIES: Mapping[str, tuple[Family[ModuleResult], ...]] = {
    "patroni": (
        gauge("patroni_up", "1 if Patroni's REST API returned the status of its node, 0 otherwise.", _up),
        gauges("patroni_scrape_collector_success", f"{SUCCESS}; absent when this version of Patroni does not have it.",
            ("collector",), _successes),
        gauges("patroni_scrape_collector_duration_seconds", DURATION, ("collector",), _durations),
    ),
    "staytus": (
        gauge("staytus_up", "1 if Staytus returned its services, 0 otherwise.", _up),
        stateset("staytus_health",
            "1 for the state of Staytus, 0 for the other one; healthy means that it returned its services.",
            ("staytus_health",), ("healthy", "unhealthy"), lambda result: [("healthy" if result.up else "unhealthy",)]),
        gauges("staytus_scrape_collector_success", f"{SUCCESS}.", ("collector",), _successes),
        gauges("staytus_scrape_collector_duration_seconds", DURATION, ("collector",), _durations),
    ),
}  # fmt: skip


def collectors_of(module: Module) -> list[AnyCollector]:
    """Returns the collectors of a module that are on."""
    return [collector for collector in COLLECTORS[module.service] if collector.name in module.collect]


def families_of(module: Module) -> Iterator[Family[Any]]:
    """Returns the families that a scrape of this module can have, in their order."""
    for collector in collectors_of(module):
        yield from (family for family in collector.families if module.compat_metrics or not family.inherited)
    yield from SCRAPE_FAMILIES[module.service]


def samples_by_family(
    result: ModuleResult, written: Callable[[Names, Values], T]
) -> Iterator[tuple[Family[Any], list[tuple[T, float]]]]:
    """Returns each family with its samples, whose labels are in the form that `written` returns.

    A family of a parsed document is also there when it has no sample. The families of a document that failed are left
    out, and those with a common label that no document has a value for.
    """
    known = result.common_labels
    common: dict[Names, Values | None] = {}
    labels: dict[tuple[Names, Names], dict[Values, T]] = {}  # most families have the labels of another one
    tables = [(document.collector.families, document.model) for document in result.documents]
    for families, model in (*tables, (SCRAPE_FAMILIES[result.module.service], result)):
        for family in families if model is not None else ():
            if family.inherited and not result.module.compat_metrics:
                continue
            names = family.common_labels
            if names not in common:
                common[names] = tuple(known[name] for name in names) if known.keys() >= set(names) else None
            if (shared := common[names]) is not None:
                found = labels.setdefault((names, family.labels), {})
                rows = _distinct(family, model, known) if family.labels else family.samples(model, known)
                samples = []
                for values, number in rows:
                    if values not in found:
                        found[values] = written(names + family.labels, shared + values)
                    samples.append((found[values], number))
                yield family, samples


def _distinct(family: Family[Any], model: object, known: CommonLabels) -> Samples:
    """Returns the first sample of each label values, which other samples can repeat."""
    first: dict[Values, float] = {}
    for values, number in family.samples(model, known):
        if values in first:
            log.warning(Event("duplicate sample ignored", family=family.name, labels=str(values)))
        else:
            first[values] = number
    return first.items()


def labels_of(names: Names, values: Values) -> Labels:
    """Returns the labels of one sample."""
    return {name: value for name, value in zip(names, values, strict=True) if value is not None}


def metric_of(family: Family[Any], samples: Iterable[tuple[Labels, float]] = ()) -> Metric:
    """Returns a family as prometheus_client represents it."""
    metric = Metric(family.name.removesuffix("_total"), family.help, family.type)
    metric.samples = [Sample(family.name, labels, number) for labels, number in samples]
    return metric


def metrics(result: ModuleResult) -> Iterator[Metric]:
    """Returns the families with their samples."""
    return (metric_of(family, samples) for family, samples in samples_by_family(result, labels_of))
