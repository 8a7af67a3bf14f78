"""The threads in which a worker of gunicorn responds to requests."""

import logging
import threading
from collections.abc import Callable
from functools import partial
from queue import SimpleQueue
from typing import Any

from exporter.log import Event
from exporter.web.limit import limit_threads, most_threads

log = logging.getLogger(__name__)

#: Threads that end where the host starts no more.
SPARE = 20


class Threads:
    """At most `most` threads, which start on demand. A call waits while all of them are busy.

    When the host starts no more threads, SPARE or half of them end, and for a minute there are no more than the others:
    sending requests and looking up names need threads too. A ThreadPoolExecutor keeps its threads.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._calls: SimpleQueue[Callable[[], object] | None] = SimpleQueue()  # None ends a thread
        self._lock = threading.Lock()
        self._threads = 0
        self._free = 0  # threads that wait for a call, less the calls that wait for a thread

    def submit(self, function: Callable[..., object], *args: Any) -> None:
        """Calls the function, which must not raise, in a thread."""
        self._calls.put(partial(function, *args))
        with self._lock:
            self._free -= 1
            if self._free >= 0 or self._threads >= min(self._most, most_threads()):
                return
            self._threads += 1
        try:
            threading.Thread(target=self._run, name="request", daemon=True).start()
        except RuntimeError as error:
            self._end_some(str(error))

    def shutdown(self, wait: bool = False) -> None:
        """Does nothing: the threads end with the process. gunicorn calls it."""

    def _end_some(self, reason: str) -> None:
        with self._lock:
            self._threads -= 1
            threads = self._threads
        kept = max(1, threads // 2, threads - SPARE)
        limit_threads(kept)
        for _ in range(threads - kept):
            self._calls.put(None)
        log.warning(Event("no thread started", threads=threads, kept=kept, reason=reason))

    def _run(self) -> None:
        while True:
            with self._lock:
                self._free += 1
            if (call := self._calls.get()) is None:
                break
            call()
        with self._lock:
            self._free -= 1
            self._threads -= 1
