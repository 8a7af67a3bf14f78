"""The threads in which a worker of gunicorn responds to requests."""

import logging
import threading
from collections import deque
from collections.abc import Callable
from functools import partial
from queue import Empty, SimpleQueue
from typing import Any

from exporter.log import Event
from exporter.web.limit import limit_threads, most_threads

log = logging.getLogger(__name__)

#: Threads that end where the host starts no more.
SPARE = 20

#: Seconds after which a thread without a call ends.
IDLE = 60.0

Call = Callable[[], object]


class Threads:
    """At most `most` threads, which start on demand. A call waits while all of them are busy.

    The thread that was busy last takes the next call, and a thread without a call ends after IDLE seconds. After 900
    targets have hung, their threads take 80 MiB. When the host starts no more threads, SPARE or half of them end, and
    for a minute there are no more than the others: sending requests and looking up names need threads too. A
    ThreadPoolExecutor keeps its threads.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._lock = threading.Lock()
        self._threads = 0
        self._free: list[SimpleQueue[Call]] = []  # of each thread without a call
        self._calls: deque[Call] = deque()  # those without a thread

    def submit(self, function: Callable[..., object], *args: Any) -> None:
        """Calls the function, which must not raise, in a thread."""
        call = partial(function, *args)
        with self._lock:
            if self._free:
                self._free.pop().put(call)
                return
            self._calls.append(call)
            if self._threads >= min(self._most, most_threads()):
                return
            self._threads += 1
        try:
            threading.Thread(target=self._run, name="request", daemon=True).start()
        except RuntimeError as error:
            self._limit(str(error))

    def shutdown(self, wait: bool = False) -> None:
        """Does nothing: the threads end with the process. gunicorn calls it."""

    def _limit(self, reason: str) -> None:
        with self._lock:
            self._threads -= 1
            threads = self._threads
        kept = max(1, threads // 2, threads - SPARE)
        limit_threads(kept)
        log.warning(Event("no thread started", threads=threads, kept=kept, reason=reason))

    def _run(self) -> None:
        own: SimpleQueue[Call] = SimpleQueue()
        while call := self._next(own):
            call()

    def _next(self, own: SimpleQueue[Call]) -> Call | None:
        """Returns the next call of a thread, whose queue is `own`; None when the thread must end."""
        with self._lock:
            if self._threads > most_threads():
                self._threads -= 1
                return None
            if self._calls:
                return self._calls.popleft()
            self._free.append(own)
        try:
            return own.get(timeout=IDLE)
        except Empty:
            with self._lock:
                if own in self._free:
                    self._free.remove(own)
                    self._threads -= 1
                    return None
            return own.get()  # it came after the timeout
