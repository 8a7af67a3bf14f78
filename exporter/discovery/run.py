"""Runs the searches for many clusters side by side, with few requests at once and one deadline."""

import heapq
import time
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import count
from queue import Empty, SimpleQueue
from typing import Any, TypeVar

from exporter.config.allow_list import NotAllowed, TargetError
from exporter.config.modules import ProbeModule
from exporter.discovery.clusters import FoundCluster
from exporter.discovery.search import Ask, Reply, Search, SearchError
from exporter.scrape.scrape import Scrape
from exporter.upstream.client import Client
from exporter.upstream.target import Module

#: Requests of one discovery that are in flight. They must leave connections and threads for the scrapes.
MOST_IN_FLIGHT = 200

#: Searches that begin in a second. Each takes about a millisecond of CPU time; the rest of a CPU is for the scrapes.
MOST_PER_SECOND = 600

K = TypeVar("K")


@dataclass(order=True)
class _Step:
    """A search that waits for responses of `nodes`, until a deadline in monotonic seconds."""

    deadline: float
    number: int
    key: Any = field(compare=False)
    search: Search = field(compare=False)
    scrape: Scrape = field(compare=False)
    nodes: dict[Module, str] = field(compare=False)  # those that have not responded, with the URL of the question


class Run:
    """Runs searches until `end`, in monotonic seconds. `failures` are the reasons why nodes gave no cluster, by URL."""

    def __init__(self, module: ProbeModule, client: Client, end: float) -> None:
        self._module = module
        self._client = client
        self._end = end
        self._numbers = count()
        self._steps: list[_Step] = []  # a heap
        self._completed: SimpleQueue[tuple[_Step, Module]] = SimpleQueue()
        self._in_flight = 0
        self._next = 0.0  # when the next search may begin, in monotonic seconds
        self.failures: dict[str, str] = {}

    def results(self, searches: Iterable[tuple[K, Search]]) -> Iterator[tuple[K, FoundCluster | None]]:
        """Yields the result of each search with its key, in the order in which they end.

        A search that could not begin before the end has no result.
        """
        waiting = iter(searches)
        new = next(waiting, None)
        while True:
            while new and self._has_room() and self._next <= time.monotonic():
                self._next = time.monotonic() + 1 / MOST_PER_SECOND
                yield from self._advance(*new, None)
                new = next(waiting, None)
            while self._steps and not self._steps[0].nodes:
                heapq.heappop(self._steps)
            times = [step.deadline for step in self._steps[:1]] + [self._next] * bool(new and self._has_room())
            if not times:
                return
            try:
                step, node = self._completed.get(timeout=max(0.0, min(times) - time.monotonic()))
            except Empty:
                if self._steps and self._steps[0].deadline <= time.monotonic():
                    step = self._steps[0]
                    for node in tuple(step.nodes):
                        self._reply(step, node)
                    yield from self._advance(step.key, step.search, None)
            else:
                if node in step.nodes:
                    reply = self._reply(step, node)
                    if reply:
                        self._in_flight -= len(step.nodes)
                        step.nodes.clear()
                    if not step.nodes:
                        yield from self._advance(step.key, step.search, reply)

    def reasons(self, urls: Collection[str] | None = None) -> str:
        """Returns the failures, or those of some URLs, as a text."""
        return "; ".join(f"{url}: {reason}" for url, reason in self.failures.items() if urls is None or url in urls)

    def _remaining(self) -> float:
        return self._end - time.monotonic()

    def _has_room(self) -> bool:
        return self._in_flight < MOST_IN_FLIGHT and self._remaining() > 0

    def _advance(self, key: Any, search: Search, reply: Reply | None) -> Iterator[tuple[Any, FoundCluster | None]]:
        """Sends the next requests of a search; yields its result if there are none."""
        try:
            while not self._send(key, search, search.send(reply)):
                reply = None
        except StopIteration as stop:
            yield key, stop.value
        except SearchError as error:
            self.failures[error.url] = str(error)
            yield key, None

    def _send(self, key: Any, search: Search, ask: Ask) -> bool:
        """Sends the requests; returns whether there was time and a node that may be requested."""
        nodes: dict[Module, str] = {}
        for url in ask.urls:
            try:
                nodes[replace(self._module.at(url), collect=(ask.collector.name,))] = url
            except (NotAllowed, TargetError) as error:
                self.failures[url] = str(error)
        seconds = min(self._remaining() * ask.share, self._module.options.timeout)
        if not nodes or seconds <= 0:
            return False
        scrape = Scrape(list(nodes), self._client, seconds)
        step = _Step(time.monotonic() + seconds, next(self._numbers), key, search, scrape, nodes)
        heapq.heappush(self._steps, step)
        self._in_flight += len(nodes)
        for node in tuple(nodes):
            scrape.add_done_callback(node, partial(self._completed.put, (step, node)))
        return True

    def _reply(self, step: _Step, node: Module) -> Reply | None:
        """Returns the response of a node that ends now or has ended, None if it cannot be used."""
        url = step.nodes.pop(node)
        self._in_flight -= 1
        document = step.scrape.result(node).documents[0]
        if document.success:
            return Reply(url, document.model)
        self.failures[url] = document.failure or f"this version of Patroni has no /{document.collector.path}"
        return None
