"""The addresses of host names. A lookup that hangs does not delay those of other names.

libcurl has 20 threads for lookups and takes two for each name, so ten names that hang would delay all others.
"""

import logging
import os
import socket
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from exporter.log import Event

log = logging.getLogger(__name__)

#: Lookups at once, each in a thread of its own.
MOST = 256

#: Seconds after a successful lookup after which a name is looked up again.
KEPT = 60.0

#: Seconds for which the addresses of the last successful lookup are used if later lookups hang or fail, unless the name
#: does not exist (RFC 8767, serving stale data).
STALE = 3600.0

#: Seconds after its last use after which a name is forgotten, and between two checks for such names.
FORGOTTEN, CHECK = 120.0, 5.0

#: The errors of a name that does not exist or has no address.
NO_ADDRESS = {socket.EAI_NONAME, getattr(socket, "EAI_NODATA", socket.EAI_NONAME)}

#: Receives the addresses of a name or the exception. It is called in any thread.
Found = Callable[[list[str] | Exception], None]


@dataclass
class _Name:
    """A host name; times are in monotonic seconds. `ended` is when the last lookup that was successful ended."""

    used: float = 0.0
    ended: float = 0.0
    addresses: list[str] = field(default_factory=list)
    is_pending: bool = False
    has_failed: bool = False
    waiting: list[tuple[float, Found]] = field(default_factory=list)


class Names:
    """Looks up names with the resolver of the C library, one lookup of each name at a time."""

    def __init__(self) -> None:
        self._reset()
        os.register_at_fork(after_in_child=self._reset)

    def _reset(self) -> None:
        self._lock = threading.Lock()
        self._names: dict[str, _Name] = {}
        self._queue: deque[str] = deque()
        self._running = 0
        self._next_check = 0.0

    def look_up(self, host: str, seconds: float, found: Found) -> None:
        """Calls `found`, at once if addresses are known, else when the lookup has ended.

        The exception is a TimeoutError when that took longer than these seconds, a RuntimeError when no thread could be
        started, another OSError or UnicodeError when the lookup failed.
        """
        now = time.monotonic()
        with self._lock:
            name = self._names.setdefault(host, _Name())
            name.used = now
            addresses = name.addresses if now - name.ended < STALE else []
            if not addresses:
                name.waiting.append((now + seconds, found))
            if not name.is_pending and not (addresses and now - name.ended < KEPT):
                name.is_pending = True
                # A name that is new does not wait for those that are known or have failed.
                (self._queue.append if name.addresses or name.has_failed else self._queue.appendleft)(host)
            overdue = self._overdue(now)
        if addresses:
            found(addresses)
        for other in overdue:
            other(TimeoutError())
        self._start()

    def _overdue(self, now: float) -> list[Found]:
        """Returns the callers whose time has ended, and forgets names; it checks from time to time."""
        if now < self._next_check:
            return []
        self._next_check = now + CHECK
        overdue = []
        for host, name in list(self._names.items()):
            overdue += [found for end, found in name.waiting if end < now]
            name.waiting = [(end, found) for end, found in name.waiting if end >= now]
            if not name.is_pending and now - name.used > FORGOTTEN:
                del self._names[host]
        return overdue

    def _start(self) -> None:
        """Starts the lookups for which there are threads."""
        while True:
            with self._lock:
                if not self._queue or self._running >= MOST:
                    return
                host = self._queue.popleft()
                self._running += 1
            try:
                threading.Thread(target=self._run, args=(host,), name="lookup", daemon=True).start()
            except RuntimeError as error:
                self._end(host, error)

    def _run(self, host: str) -> None:
        result: list[str] | Exception
        try:
            found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
            result = [str(address[0]) for *_, address in found if "%" not in str(address[0])]  # not link-local
        except (OSError, UnicodeError) as error:
            result = error
        self._end(host, result)
        self._start()

    def _end(self, host: str, result: list[str] | Exception) -> None:
        now = time.monotonic()
        with self._lock:
            self._running -= 1
            name = self._names[host]
            name.is_pending = False
            name.has_failed = isinstance(result, Exception)
            if isinstance(result, list):
                name.addresses, name.ended = result, now
            elif isinstance(result, socket.gaierror) and result.errno in NO_ADDRESS:
                name.addresses = []
            is_stale = bool(name.has_failed and name.addresses and now - name.ended < STALE)
            waiting, name.waiting = name.waiting, []
        if is_stale:
            reason = str(getattr(result, "strerror", None) or result).lower()
            log.warning(Event("lookup failed, known addresses are used", key=(host,), host=host, reason=reason))
        for end, found in waiting:
            found(result if now <= end else TimeoutError())
