"""A limit on the requests that are served at once and request a target that the client chooses."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from werkzeug.exceptions import ServiceUnavailable

#: Seconds after which a refused client may try again.
RETRY_AFTER = 1


class ConcurrencyLimit:
    """A limit for this process, which leaves threads for requests that have no target."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._free = threading.BoundedSemaphore(most)

    @contextmanager
    def one(self) -> Iterator[None]:
        """Counts one request while it is served; raises ServiceUnavailable when the limit is reached."""
        if not self._free.acquire(blocking=False):
            raise ServiceUnavailable(
                f"{self._most} probes are being served, the limit of EXPORTER_PROBES: try again later",
                retry_after=RETRY_AFTER,
            )
        try:
            yield
        finally:
            self._free.release()
