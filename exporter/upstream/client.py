"""The requests of all scrapes: one at a time for each document, joined by whoever asks, and the answers while young."""

import os
import threading
import time
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from exporter.collectors.document import Answer, NotProvided, ParseError
from exporter.upstream.adapter import Transport
from exporter.upstream.target import Target
from exporter.upstream.transfer import FetchError

#: Seconds after which a request that was sent and not answered is given up, and its socket closed.
ABANDON_AFTER = 60.0

#: Bytes from which on an answer is parsed in a thread of its own, so that all others need not wait for it.
LARGE = 64 * 1024

#: Answers that are kept while young before those that are not are looked for and forgotten.
KEPT = 1000


@dataclass(eq=False, repr=False)
class Flight:
    """One request on its way; since `ended` (monotonic seconds) its model is there, or the error why there is none."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    ended: float | None = None
    model: Any = None
    error: BaseException | None = None
    waiting: list["_Waiting"] = field(default_factory=list)

    def serves(self, interval: float) -> bool:
        """Tells whether it is still under way, or ended so short a time (in seconds) ago."""
        return self.ended is None or time.monotonic() - self.ended < interval

    def seconds_since(self, start: float) -> float:
        """Returns how long after `start` (monotonic seconds) it ended, or how long ago that was if it did not."""
        return max(0.0, (self.ended or time.monotonic()) - start)


class _Waiting:
    """Somebody who waits for some flights to end, and is woken once; Futures take three times as long for the same."""

    def __init__(self, under_way: list[Flight]):
        self._left = len(under_way)
        self.woken = threading.Lock()
        self.woken.acquire()
        for flight in under_way:
            flight.waiting.append(self)

    def count(self) -> None:
        """Counts one that has ended."""
        self._left -= 1
        if not self._left:
            self.woken.release()


def wait(flights: Sequence[Flight], seconds: float) -> None:
    """Waits until all these flights of one fetcher have ended, for so many seconds at the most."""
    with flights[0].lock:
        under_way = [flight for flight in flights if flight.ended is None]
        waiting = _Waiting(under_way) if under_way else None
    if waiting and not waiting.woken.acquire(timeout=max(0.0, seconds)):
        with flights[0].lock:
            for flight in under_way:
                if flight.ended is None:
                    flight.waiting.remove(waiting)


class Fetcher:
    """Fetches documents for all scrapes of this process; it makes everything on first use, and anew after a fork.

    There is one request in flight for each target and document, since Patroni and Staytus have five threads each and
    one that hangs there stays taken after its client has gone. Whoever asks meanwhile joins it.
    """

    def __init__(self) -> None:
        self._left_behind: list[Transport] = []
        self._begin()
        begin = weakref.WeakMethod(self._begin_in_child)
        os.register_at_fork(after_in_child=lambda: (again := begin()) and again())

    def _begin(self) -> None:
        self._lock = threading.Lock()
        self._flights: dict[tuple[Target, str], Flight] = {}
        self._most = KEPT
        self._transport: Transport | None = None

    def _begin_in_child(self) -> None:
        """Knows nothing yet; the parent has the thread, may hold the lock, and shares the sockets of its transport, so
        that to close that here would say good-bye to the parent's servers.
        """
        if self._transport is not None:
            self._left_behind.append(self._transport)
        self._begin()

    @property
    def under_way(self) -> int:
        """How many requests are under way."""
        with self._lock:
            return sum(flight.ended is None for flight in self._flights.values())

    def ask(self, target: Target, path: str, parse: Callable[[Answer], Any]) -> Flight:
        """Returns the request for `path` below the target's URL: the one under way, or that of an answer younger than
        the target's interval, or a new one, which others can join.

        Its model is what `parse` makes of the answer, once for all who wait, so it may not be mutable; its error is
        FetchError, or what `parse` raises.
        """
        key = (target, path)
        with self._lock:
            flight = self._flights.get(key)
            if flight is not None and flight.serves(target.interval):
                return flight
            self._make_room()
            flight = self._flights[key] = Flight(self._lock)
            if self._transport is None:
                self._transport = Transport()
            transport = self._transport
        try:
            seconds = max(ABANDON_AFTER, target.timeout)
            transport.send(target, path, seconds, partial(self._answered, key, flight, parse))
        except RuntimeError:  # the system has no more threads for us
            self._end(key, flight, error=FetchError("no thread could be started to ask", sent=False))
        return flight

    def _make_room(self) -> None:
        """Forgets the answers that nobody may use any more, each time that there are twice as many as were left."""
        if len(self._flights) >= self._most:
            self._flights = {key: kept for key, kept in self._flights.items() if kept.serves(key[0].interval)}
            self._most = max(KEPT, 2 * len(self._flights))

    def _answered(
        self, key: tuple[Target, str], flight: Flight, parse: Callable[[Answer], Any], answer: Answer | FetchError
    ) -> None:
        if isinstance(answer, FetchError):
            self._end(key, flight, error=answer)
        elif len(answer.body) < LARGE:
            self._parse(key, flight, parse, answer)
        else:
            try:
                threading.Thread(
                    target=self._parse, args=(key, flight, parse, answer), name="parse", daemon=True
                ).start()
            except RuntimeError:
                self._end(key, flight, error=FetchError("no thread could be started to parse"))

    def _parse(self, key: tuple[Target, str], flight: Flight, parse: Callable[[Answer], Any], answer: Answer) -> None:
        try:
            model = parse(answer)
        except BaseException as error:
            if isinstance(error, ParseError | NotProvided):
                # What was read hangs on their tracebacks: 16 MiB, for as long as somebody knows the flight.
                error.__traceback__ = error.__context__ = None
            self._end(key, flight, error=error)
        else:
            self._end(key, flight, model)

    def _end(
        self, key: tuple[Target, str], flight: Flight, model: Any = None, error: BaseException | None = None
    ) -> None:
        """Makes room for the next request, before anybody hears of the end of this one and asks again."""
        with self._lock:
            flight.model, flight.error, flight.ended = model, error, time.monotonic()
            if key[0].interval <= 0 or not getattr(error, "sent", True):
                del self._flights[key]
            for waiting in flight.waiting:
                waiting.count()
            flight.waiting.clear()
