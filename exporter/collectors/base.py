"""The types of a collector: a document, the function that parses it, and the metric families of the parsed model."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar

from exporter.collectors.document import Answer

M = TypeVar("M")

#: The values of the labels `scope` and `name`, which all families of one scrape share, as far as they are known.
CommonLabels = Mapping[str, str]

#: The names of labels.
Names = tuple[str, ...]

#: The values of a family's own labels, in order; None leaves a label out.
Values = tuple[str | None, ...]

#: The value of a sample; None means no sample.
Number = float | bool | None

Samples = Iterable[tuple[Values, float]]


@dataclass(frozen=True)
class Family(Generic[M]):
    """One metric family: a counter if its name ends in `_total`, else a gauge.

    The scrape fills in the values of `common_labels`; without one of them the family is left out. `samples` returns
    the values of `labels`. `since` is the first version of the service that reports the value, empty for all versions.
    `inherited` families repeat others under the names of the exporter that this one replaces.
    """

    name: str
    help: str
    labels: Names
    samples: Callable[[M, CommonLabels], Samples]
    since: str = ""
    common_labels: Names = ()
    inherited: bool = False

    @property
    def type(self) -> str:
        """The type of the family."""
        return "counter" if self.name.endswith("_total") else "gauge"


@dataclass(frozen=True)
class Collector(Generic[M]):
    """One document of a service.

    `path` is relative to the service's base URL. `parse` raises ParseError, or NotSupported if this version of the
    service does not have the document. `warnings` returns what `parse` ignored. `size_limit` is the largest document in
    bytes; the default is above what a DCS can store.
    """

    name: str
    path: str
    parse: Callable[[Answer], M]
    families: tuple[Family[M], ...]
    common_labels: Callable[[M], CommonLabels] = lambda _: {}
    warnings: Callable[[M], Iterable[str]] = lambda _: ()
    size_limit: int = 2 * 1024 * 1024


AnyCollector = Collector[Any]


def with_labels(common_labels: Names, *families: Family[M]) -> tuple[Family[M], ...]:
    """Returns the families with these common labels."""
    return tuple(replace(family, common_labels=common_labels) for family in families)


def inherited(*families: Family[M]) -> tuple[Family[M], ...]:
    """Returns the families marked as inherited."""
    return tuple(replace(family, inherited=True) for family in families)


def gauge(name: str, help: str, value: Callable[[M], Number], since: str = "") -> Family[M]:
    """Returns a family of one sample, or none if the value is None."""

    def samples(model: M, _: CommonLabels) -> Samples:  # without a generator: most families
        number = value(model)
        return () if number is None else (((), float(number)),)

    return Family(name, help, (), samples, since)


def gauges(
    name: str, help: str, labels: Names, values: Callable[[M], Iterable[tuple[Values, Number]]], since: str = ""
) -> Family[M]:
    """Returns a family of one sample for each pair of label values and number whose number is not None."""

    def samples(model: M, _: CommonLabels) -> Samples:
        return ((own, float(number)) for own, number in values(model) if number is not None)

    return Family(name, help, labels, samples, since)


def info(name: str, help: str, labels: Names, rows: Callable[[M], Iterable[Values]], since: str = "") -> Family[M]:
    """Returns a family of one sample with the value 1 for each row of label values."""
    return Family(name, help, labels, lambda model, _: ((row, 1.0) for row in rows(model)), since)


def stateset(
    name: str, help: str, labels: Names, states: tuple[str, ...], current: Callable[[M], Iterable[Values]]
) -> Family[M]:
    """Returns a family with 1 for the current state and 0 for the other states; the last label is the state.

    A current state that is not in `states` gets a sample of its own, so that new versions of the service can be read.
    """

    def samples(model: M, _: CommonLabels) -> Samples:
        for *own, now in current(model):
            for state in states if now in states else (*states, now):
                yield (*own, state), float(state == now)

    return Family(name, help, labels, samples)
