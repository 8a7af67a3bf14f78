"""The recorded responses of real servers; recordings/README.md describes the files."""

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from prometheus_client import generate_latest

from exporter.collectors import COLLECTORS
from exporter.collectors.base import AnyCollector, Family
from exporter.collectors.document import Answer
from exporter.scrape.families import SCRAPE_FAMILIES, metrics
from exporter.scrape.results import DocumentResult, ModuleResult
from exporter.upstream.target import Module, RequestOptions, Target

RECORDINGS = Path(__file__).parent / "recordings"
VERSIONS = sorted(
    (path.stem for path in (RECORDINGS / "patroni").glob("*.jsonl")), key=lambda text: [int(n) for n in text.split(".")]
)

#: The families of both services, in the order of METRICS.md.
FAMILIES: list[Family[Any]] = [
    family
    for service, collectors in COLLECTORS.items()
    for table in (*(collector.families for collector in collectors), SCRAPE_FAMILIES[service])
    for family in table
]


@dataclass(frozen=True)
class Moment:
    """The responses of one node of a real cluster at one moment, by path."""

    version: str
    state: str
    node: str
    answers: dict[str, Answer]

    def __str__(self) -> str:
        return f"{self.version} {self.state} {self.node}"


@cache
def moments(version: str) -> tuple[Moment, ...]:
    """All recorded moments of one version of Patroni, in the order of the recording."""
    answers: dict[tuple[str, str], dict[str, Answer]] = {}
    for line in (RECORDINGS / "patroni" / f"{version}.jsonl").read_text().splitlines():
        row = json.loads(line)
        for node in row["nodes"]:
            moment = answers.setdefault((row["state"], node), {})
            moment[row["path"]] = Answer(row["status"], row["body"].encode())
    # This version does not have a path that is not recorded for a healthy node: 503 with the JSON of /patroni.
    known = set(answers["healthy-async", "n1"])
    for paths in answers.values():
        for collector in COLLECTORS["patroni"]:
            if f"/{collector.path}" not in known and "/patroni" in paths:
                paths.setdefault(f"/{collector.path}", Answer(503, paths["/patroni"].body))
    return tuple(Moment(version, state, node, paths) for (state, node), paths in answers.items())


def moment(version: str, state: str, node: str) -> Moment:
    """One recorded moment."""
    return next(m for m in moments(version) if (m.state, m.node) == (state, node))


def staytus(name: str, status: int = 200) -> Answer:
    """One recorded response of Staytus; its HTTP status is not recorded."""
    return Answer(status, (RECORDINGS / "staytus" / f"{name}.json").read_bytes())


def exposition(service: str, *read: tuple[AnyCollector, Answer]) -> str:
    """The exposition of these responses, without patroni_scrape_collector_* and staytus_scrape_collector_*."""
    documents = tuple(DocumentResult(collector, 0.0, collector.parse(answer)) for collector, answer in read)
    module = Module(service, service, Target("http://h", RequestOptions(1)), ())
    lines = written([ModuleResult(module, documents)]).splitlines(keepends=True)
    return "".join(line for line in lines if "_scrape_collector_" not in line)


def written(results: Iterable[ModuleResult], writer: Callable[[Any], bytes] = generate_latest) -> str:
    """The text that prometheus_client writes for these results."""
    collected = [metric for result in results for metric in metrics(result)]
    return writer(SimpleNamespace(collect=lambda: collected)).decode()  # the writers call nothing else


def samples(service: str, *read: tuple[AnyCollector, Answer]) -> str:
    """The samples of this exposition, without HELP and TYPE."""
    return "".join(f"{line}\n" for line in exposition(service, *read).splitlines() if not line.startswith("#"))
