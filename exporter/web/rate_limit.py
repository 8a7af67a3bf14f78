"""The rate limit of the web configuration file: a token bucket for all requests, as in the exporter-toolkit.

https://github.com/prometheus/exporter-toolkit/blob/master/web/handler.go
"""

import math
import threading
import time
from collections.abc import Callable

from werkzeug.exceptions import TooManyRequests

from exporter.counters import REQUESTS_RATE_LIMITED, counter
from exporter.web.web_config import RateLimit


class RateLimiter:
    """Allows a burst of requests at once, and one more per interval; each process counts its own. Thread-safe."""

    def __init__(self, clock: Callable[[], float] = time.monotonic):
        self._clock = clock
        self._lock = threading.Lock()
        self._applied: RateLimit | None = None
        self._tokens = 0.0
        self._time = 0.0
        self.counter = counter(REQUESTS_RATE_LIMITED)

    def acquire(self, limit: RateLimit | None) -> None:
        """Takes a token; raises TooManyRequests where there is none. A changed limit counts from now on."""
        if limit is None:
            return
        with self._lock:
            now = self._clock()
            if limit != self._applied:
                self._applied, self._tokens, self._time = limit, limit.burst, now
            self._tokens = min(limit.burst, self._tokens + (now - self._time) / limit.interval)
            self._time = now
            if self._tokens >= 1:
                self._tokens -= 1
                return
            self.counter.inc()
            seconds = (1 - self._tokens) * limit.interval
        raise TooManyRequests("more requests than the rate_limit of this server allows", retry_after=math.ceil(seconds))
