"""Limits on clients: the requests that are served at once and request a target that the client chooses."""

import logging
import math
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

from prometheus_client import Counter
from werkzeug.exceptions import ServiceUnavailable

from exporter.counters import CONNECTIONS_CLOSED, PROBES_REFUSED, counter
from exporter.log import Event
from exporter.upstream.adapter import LATE, is_overloaded

log = logging.getLogger(__name__)

#: Seconds after which a refused client may try again.
RETRY_AFTER = 1

#: Seconds after which a host that could start no more threads is expected to start some again.
THREADS_AGAIN = 60.0

#: The threads for requests that were kept when the host could start no more, and when that was, in monotonic seconds.
_threads: tuple[int, float] | None = None


@cache
def closed_connections() -> Counter:
    """Returns the counter of the connections of clients that gunicorn's worker closed."""
    return counter(CONNECTIONS_CLOSED)


class ConcurrencyLimit:
    """A limit for this process, which leaves threads for requests that have no target. It counts what it refuses."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._lock = threading.Lock()
        self._served = 0
        self.counter = counter(PROBES_REFUSED)

    @contextmanager
    def one(self) -> Iterator[None]:
        """Counts one request while it is served; raises ServiceUnavailable at the limit, or if the CPU is overloaded.

        Without the latter, all requests would be late, and targets that are up would seem to be down.
        """
        if is_overloaded():
            self.refuse("overload", f"the CPU is overloaded: requests wait for more than {LATE:g} s to be sent")
        most = min(self._most, max(1, most_threads() - 1))
        with self._lock:
            if is_free := self._served < most:
                self._served += 1
        if not is_free:
            reason = "the limit of EXPORTER_PROBES" if most == self._most else "and the host starts no more threads"
            self.refuse("probes", f"{most} probes are being served, {reason}")
        try:
            yield
        finally:
            with self._lock:
                self._served -= 1

    def refuse(self, reason: str, text: str) -> None:
        """Counts a refused request and raises ServiceUnavailable."""
        self.counter.labels(reason).inc()
        raise ServiceUnavailable(f"{text}: try again later", retry_after=RETRY_AFTER)


def limit_threads(threads: int) -> None:
    """Limits the threads for requests to these for a minute, and probes to one less: the host could start no more."""
    global _threads
    _threads = threads, time.monotonic()


def most_threads() -> float:
    """Returns the limit of the threads for requests on this host, infinity if it is not known."""
    if _threads and time.monotonic() - _threads[1] < THREADS_AGAIN:
        return _threads[0]
    return math.inf


def probe_limit(probes: int, threads: int) -> ConcurrencyLimit:
    """Returns a limit of `probes`, or of fewer where the server has so few threads that others would find none.

    `threads` are those of a gunicorn worker; under uWSGI and mod_wsgi their own setting counts.
    """
    threads = _server_threads() or threads
    most = max(1, min(probes, threads - 1))
    if most < probes:
        log.warning(Event("EXPORTER_PROBES reduced", probes=probes, threads=threads, limit=most))
    return ConcurrencyLimit(most)


def _server_threads() -> int:
    """Returns the threads of each process of uWSGI or mod_wsgi, 0 under another server."""
    if uwsgi := sys.modules.get("uwsgi"):
        threads = uwsgi.opt.get("threads", 1)
        return int(threads) if not isinstance(threads, bool) else 1
    return int(getattr(sys.modules.get("mod_wsgi"), "threads_per_process", 0))
