"""The families of a scrape: those of its documents, and those about the scrape itself."""

import logging
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from prometheus_client.metrics_core import Metric
from prometheus_client.samples import Sample

from exporter.collectors import COLLECTORS
from exporter.collectors.base import AnyCollector, CommonLabels, Family, Values, gauge, gauges, stateset
from exporter.log import Event
from exporter.scrape.results import ModuleResult
from exporter.upstream.target import Module

log = logging.getLogger(__name__)

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


def samples_by_family(result: ModuleResult) -> Iterator[tuple[Family[Any], Labels, Iterable[tuple[Values, float]]]]:
    """Returns each family with the labels that its samples have in common and with its samples.

    A family of a parsed document is also there when it has no sample. The families of a document that failed are left
    out, and those with a common label that no document has a value for.
    """
    known = result.common_labels
    common: dict[tuple[str, ...], Labels | None] = {}
    for document in result.documents:
        if document.model is not None:
            for family in document.collector.families:
                if family.inherited and not result.module.compat_metrics:
                    continue
                names = family.common_labels
                if names not in common:
                    common[names] = {name: known[name] for name in names} if known.keys() >= set(names) else None
                if (labels := common[names]) is not None:
                    yield family, labels, _samples(family, document.model, known)
    for own in SCRAPE_FAMILIES[result.module.service]:
        yield own, {}, _samples(own, result, known)


def _samples(family: Family[Any], model: object, known: CommonLabels) -> Iterable[tuple[Values, float]]:
    if not family.labels:
        return family.samples(model, known)
    samples: dict[Values, float] = {}
    for values, number in family.samples(model, known):
        if values in samples:
            log.warning(Event("duplicate sample ignored", family=family.name, labels=str(values)))
        else:
            samples[values] = number
    return samples.items()


def labels_of(family: Family[Any], common: Labels, values: Values) -> Labels:
    """Returns the labels of one sample: the common ones and its own."""
    if not family.labels:
        return common
    if None in values:
        return {
            **common,
            **{name: value for name, value in zip(family.labels, values, strict=True) if value is not None},
        }
    return {**common, **dict(zip(family.labels, values, strict=True))}  # type: ignore[arg-type]


def metric_of(
    family: Family[Any], samples: Iterable[tuple[Values, float]] = (), common: Labels | None = None
) -> Metric:
    """Returns a family as prometheus_client represents it."""
    metric = Metric(family.name.removesuffix("_total"), family.help, family.type)
    metric.samples = [
        Sample(family.name, labels_of(family, common or {}, values), number) for values, number in samples
    ]
    return metric


def metrics(result: ModuleResult) -> Iterator[Metric]:
    """Returns the families with their samples."""
    return (metric_of(family, samples, common) for family, common, samples in samples_by_family(result))


def descriptions(module: Module) -> Iterator[Metric]:
    """Returns the families of a module without samples, as prometheus_client's `describe` does."""
    return map(metric_of, families_of(module))
