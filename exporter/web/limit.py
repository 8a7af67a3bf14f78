"""Limits on clients: the requests that are served at once and request a target that the client chooses."""

import logging
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

from prometheus_client import Counter
from werkzeug.exceptions import ServiceUnavailable

from exporter.counters import CONNECTIONS_CLOSED, PROBES_REFUSED, counter
from exporter.log import Event

log = logging.getLogger(__name__)

#: Seconds after which a refused client may try again.
RETRY_AFTER = 1


@cache
def closed_connections() -> Counter:
    """Returns the counter of the connections of clients that gunicorn's worker closed."""
    return counter(CONNECTIONS_CLOSED)


class ConcurrencyLimit:
    """A limit for this process, which leaves threads for requests that have no target. It counts what it refuses."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._free = threading.BoundedSemaphore(most)
        self.counter = counter(PROBES_REFUSED)

    @contextmanager
    def one(self) -> Iterator[None]:
        """Counts one request while it is served; raises ServiceUnavailable when the limit is reached."""
        if not self._free.acquire(blocking=False):
            self.refuse("probes", f"{self._most} probes are being served, the limit of EXPORTER_PROBES")
        try:
            yield
        finally:
            self._free.release()

    def refuse(self, reason: str, text: str) -> None:
        """Counts a refused request and raises ServiceUnavailable."""
        self.counter.labels(reason).inc()
        raise ServiceUnavailable(f"{text}: try again later", retry_after=RETRY_AFTER)


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
