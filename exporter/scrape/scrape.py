"""One scrape: all documents at once under one deadline, read and turned into families; the only catch of a failure."""

import logging
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from prometheus_client.metrics_core import Metric
from prometheus_client.samples import Sample

from exporter.collectors import COLLECTORS
from exporter.collectors.base import AnyCollector, Family, Subject, Values, gauge, gauges, stateset
from exporter.collectors.document import Answer, NotProvided, ParseError
from exporter.log import known
from exporter.upstream.client import Fetcher, Flight, wait
from exporter.upstream.redaction import without_secrets
from exporter.upstream.target import Module
from exporter.upstream.transfer import FetchError

log = logging.getLogger(__name__)

#: Bytes, about, that the samples of one document may take in the exposition: writing much more outlasts the scrape.
TEXT_LIMIT = 8 * 1024 * 1024


#: The labels of a sample.
Labels = dict[str, str]


@dataclass(frozen=True)
class Reading:
    """What became of one document, which `flight` fetched: its model, or why there is none, after so many seconds.

    This version of the service does not have the document where `provided` is False.
    """

    collector: AnyCollector
    flight: Flight
    seconds: float
    model: Any = None
    failure: str | None = None
    provided: bool = True

    @property
    def success(self) -> bool | None:
        """True or False, None for a document that this version of the service does not have."""
        return self.failure is None if self.provided else None


@dataclass(frozen=True)
class ModuleReading:
    """What became of all documents of one module, in the order of its collectors."""

    module: Module
    documents: tuple[Reading, ...]

    @property
    def up(self) -> bool:
        """Tells whether the first document was fetched and understood."""
        return self.documents[0].success is True

    @property
    def subject(self) -> Subject:
        """Returns whom the documents speak of; the first of them that says so counts."""
        subject: dict[str, str] = {}
        for document in self.documents:
            if document.model is not None:
                subject = {**document.collector.subject(document.model), **subject}
        return subject


def _successes(reading: ModuleReading) -> list[tuple[tuple[str], bool | None]]:
    return [((document.collector.name,), document.success) for document in reading.documents]


def _durations(reading: ModuleReading) -> list[tuple[tuple[str], float]]:
    return [((document.collector.name,), document.seconds) for document in reading.documents]


#: The families of the scrape itself, by service.
SCRAPE_FAMILIES: Mapping[str, tuple[Family[ModuleReading], ...]] = {
    "patroni": (
        gauge(
            "patroni_up",
            "1 when Patroni's REST API answered with the status of its node, else 0.",
            lambda reading: reading.up,
        ),
        gauges(
            "patroni_scrape_collector_success",
            "1 when the collector's document was fetched and understood, else 0; "
            "absent when this version of Patroni does not have it.",
            ("collector",),
            _successes,
        ),
        gauges(
            "patroni_scrape_collector_duration_seconds",
            "Time until the collector's document was there or given up, in seconds.",
            ("collector",),
            _durations,
        ),
    ),
    "staytus": (
        gauge(
            "staytus_up",
            "1 when Staytus answered with its services, else 0.",
            lambda reading: reading.up,
        ),
        stateset(
            "staytus_health",
            "1 for the state that Staytus is in, 0 for the other; healthy is that it answered with its services.",
            ("staytus_health",),
            ("healthy", "unhealthy"),
            lambda reading: [("healthy" if reading.up else "unhealthy",)],
        ),
        gauges(
            "staytus_scrape_collector_success",
            "1 when the collector's document was fetched and understood, else 0.",
            ("collector",),
            _successes,
        ),
        gauges(
            "staytus_scrape_collector_duration_seconds",
            "Time until the collector's document was there or given up, in seconds.",
            ("collector",),
            _durations,
        ),
    ),
}


def families(modules: Iterable[Module]) -> Iterator[Family[Any]]:
    """Returns the families that a scrape of these modules can give, in its order."""
    for module in modules:
        for collector in _collectors(module):
            yield from collector.families
        yield from SCRAPE_FAMILIES[module.service]


def _collectors(module: Module) -> list[AnyCollector]:
    return [collector for collector in COLLECTORS[module.service] if collector.name in module.collect]


def read(
    modules: Sequence[Module], fetcher: Fetcher, budget: float, *, only_first: bool = False
) -> list[ModuleReading]:
    """Fetches the documents of all modules at once and reads them; a module has the seconds of its timeout or of the
    budget, whichever is less. With `only_first` only the document is read that tells whether a module is up.
    """
    start = time.monotonic()
    chosen = [(module, _collectors(module)[: 1 if only_first else None]) for module in modules]
    asked = [
        (
            module,
            [
                (collector, fetcher.ask(module.target, collector.path, _parse(module, collector)))
                for collector in collectors
            ],
        )
        for module, collectors in chosen
    ]
    readings = []
    for module, flights in asked:
        left = start + min(budget, module.target.timeout) - time.monotonic()
        wait([flight for _, flight in flights], left)
        readings.append(ModuleReading(module, tuple(_read(module, c, flight, start, budget) for c, flight in flights)))
    return readings


def _parse(module: Module, collector: AnyCollector) -> Callable[[Answer], Any]:
    """Returns the parse of the collector, which then also refuses what is small as a document and large as samples."""

    def parse(answer: Answer) -> Any:
        try:
            model = collector.parse(answer)
        except ParseError:
            hidden = without_secrets(answer.body, module.target)
            if hidden == answer.body:
                raise
            collector.parse(Answer(answer.status, hidden))  # to fail again, and say so without a secret of ours
            raise ParseError("the answer repeats a secret") from None
        if len(answer.body) < TEXT_LIMIT // 1024:  # even with half of it in the scope and half in short members
            return model
        subject = collector.subject(model)
        common = 100 + sum(map(len, subject.values()))  # with the family's name and the names of its labels
        size = 0
        for family in collector.families:
            for values, _ in family.samples(model, defaultdict(str, subject)):
                size += common + sum(len(value) for value in values if value)
                if size > TEXT_LIMIT:
                    raise ParseError(f"its samples would take more than {TEXT_LIMIT // 1024 // 1024} MiB")
        return model

    return parse


def _read(module: Module, collector: AnyCollector, flight: Flight, start: float, budget: float) -> Reading:
    if flight.ended is None:
        error: BaseException | None = FetchError(f"no answer within {min(budget, module.target.timeout):g} s")
    else:
        error = flight.error
    seconds = flight.seconds_since(start)
    match error:
        case None:
            model = flight.model
            for remark in collector.remarks(model):
                told = known(f"passed over {remark}", module=module.name, collector=collector.name)
                log.warning("%s %s: passed over %s", module.name, collector.name, remark, extra=told)
            return Reading(collector, flight, seconds, model)
        case NotProvided():
            return Reading(collector, flight, seconds, error.model, provided=False)
        case FetchError() | ParseError():
            url = f"{module.target.url}/{collector.path}"
            told = known("no document", module=module.name, collector=collector.name, url=url, reason=str(error))
            log.warning("%s %s: %s: %s", module.name, collector.name, url, error, extra=told)
            return Reading(collector, flight, seconds, failure=str(error))
    raise error


def told(reading: ModuleReading) -> Iterator[tuple[Family[Any], Labels, Iterable[tuple[Values, float]]]]:
    """Returns the families of this reading, each with the labels that its subject fills in and with its samples, also
    families that the documents had no samples for.

    The families of a document that failed are left out, and those whose subject no document names.
    """
    subject = reading.subject
    filled: dict[tuple[str, ...], Labels | None] = {}
    for document in reading.documents:
        if document.model is not None:
            for family in document.collector.families:
                if family.subject not in filled:
                    is_known = all(label in subject for label in family.subject)
                    filled[family.subject] = {label: subject[label] for label in family.subject} if is_known else None
                common = filled[family.subject]
                if common is not None:
                    yield family, common, _samples(family, document.model, subject)
    for own in SCRAPE_FAMILIES[reading.module.service]:
        yield own, {}, _samples(own, reading, subject)


def _samples(family: Family[Any], model: object, subject: Subject) -> Iterable[tuple[Values, float]]:
    if not family.labels:
        return family.samples(model, subject)
    found: dict[Values, float] = {}
    for values, number in family.samples(model, subject):
        if values in found:
            fields = known("passed over a second sample", family=family.name, labels=str(values))
            log.warning("%s: passed over a second sample with the labels %s", family.name, values, extra=fields)
        else:
            found[values] = number
    return found.items()


def labels_of(family: Family[Any], common: Labels, values: Values) -> Labels:
    """Returns the labels of one sample: those that its subject fills in, and its own."""
    if not family.labels:
        return common
    return {**common, **{name: value for name, value in zip(family.labels, values, strict=True) if value is not None}}


def expose(readings: Iterable[ModuleReading]) -> Iterator[Metric]:
    """Returns the families of these readings as prometheus_client has them."""
    for reading in readings:
        for family, common, samples in told(reading):
            metric = Metric(family.name, family.help, "gauge")
            metric.samples = [
                Sample(family.name, labels_of(family, common, values), number, None, None) for values, number in samples
            ]
            yield metric
