"""How many requests that ask a target of the client's choice are served at once; the others are told to come again."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from werkzeug.exceptions import ServiceUnavailable

#: Seconds after which a refused client may try again.
RETRY_AFTER = 1


class AtOnce:
    """A bound on the requests in flight in this process, which leaves threads for all that asks no such target."""

    def __init__(self, most: int):
        self._most = most
        self._free = threading.BoundedSemaphore(most)

    @contextmanager
    def one(self) -> Iterator[None]:
        """Counts one request while it is served; raises ServiceUnavailable where there are as many already."""
        if not self._free.acquire(blocking=False):
            raise ServiceUnavailable(
                f"{self._most} probes are under way already, which is what EXPORTER_PROBES allows: come again later",
                retry_after=RETRY_AFTER,
            )
        try:
            yield
        finally:
            self._free.release()
