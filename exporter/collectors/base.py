"""What a collector is: a document of a service, how it is read, and the families that its model gives as rows."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from exporter.collectors.document import Answer

M = TypeVar("M")

#: Whom a scrape speaks of: the values of the labels `scope` and `name`, as far as its documents tell them.
Subject = Mapping[str, str]

#: The values of a family's labels, in their order; None leaves a label out.
Values = tuple[str | None, ...]

#: A row's number. None where the service says nothing: then there is no sample.
Number = float | bool | None


@dataclass(frozen=True)
class Family(Generic[M]):
    """One metric family, always a gauge: a row of the metrics contract.

    `subject` are the labels that the scrape's subject fills, `labels` those that `samples` fills from the model.
    A family whose subject the scrape does not know has no samples. Most rows look at the model alone. `since` is the
    version of the service that first tells it, empty where every version that is read does.
    """

    name: str
    help: str
    subject: tuple[str, ...]
    labels: tuple[str, ...]
    samples: Callable[[M, Subject], Iterable[tuple[Values, float]]]
    since: str = ""


@dataclass(frozen=True)
class Collector(Generic[M]):
    """One document of a service and everything that is known of it.

    `path` is relative to the service's base URL. `parse` raises ParseError, or NotProvided where this version of the
    service has no such document. `subject` tells whom the document speaks of, `remarks` what in it was passed over.
    """

    name: str
    path: str
    parse: Callable[[Answer], M]
    families: tuple[Family[M], ...]
    subject: Callable[[M], Subject] = lambda _: {}
    remarks: Callable[[M], Iterable[str]] = lambda _: ()


#: A collector whatever its model is.
AnyCollector = Collector[Any]


def gauge(
    name: str, help: str, value: Callable[[M], Number], *, subject: tuple[str, ...] = (), since: str = ""
) -> Family[M]:
    """Returns a family with one sample at the most: the value of the model, none where that is None."""

    def samples(model: M, _: Subject) -> Iterable[tuple[Values, float]]:
        number = value(model)
        return () if number is None else (((), float(number)),)

    return Family(name, help, subject, (), samples, since)


def gauges(
    name: str,
    help: str,
    labels: tuple[str, ...],
    values: Callable[[M], Iterable[tuple[Values, Number]]],
    *,
    subject: tuple[str, ...] = (),
    since: str = "",
) -> Family[M]:
    """Returns a family with a sample for each pair of label values and number, none where the number is None."""

    def samples(model: M, _: Subject) -> Iterable[tuple[Values, float]]:
        return ((own, float(number)) for own, number in values(model) if number is not None)

    return Family(name, help, subject, labels, samples, since)


def info(
    name: str,
    help: str,
    labels: tuple[str, ...],
    rows: Callable[[M], Iterable[Values]],
    *,
    subject: tuple[str, ...] = (),
    since: str = "",
) -> Family[M]:
    """Returns a family whose value is always 1 and whose labels tell something, a sample for each row."""
    return Family(name, help, subject, labels, lambda model, _: ((row, 1.0) for row in rows(model)), since)


def stateset(
    name: str,
    help: str,
    labels: tuple[str, ...],
    states: tuple[str, ...],
    current: Callable[[M], Iterable[Values]],
    *,
    subject: tuple[str, ...] = (),
    since: str = "",
) -> Family[M]:
    """Returns a family that is 1 for the current state and 0 for the other states, whose last label is the state.

    A state that is none of the known ones is one more, so that tomorrow's service is no error.
    """

    def samples(model: M, _: Subject) -> Iterable[tuple[Values, float]]:
        for *own, now in current(model):
            for state in states if now in states else (*states, now):
                yield (*own, state), float(state == now)

    return Family(name, help, subject, labels, samples, since)
