"""The requests in flight: at most one for each target and path, joined by later scrapes, and responses while young."""

import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from typing import Any

from requests import ReadTimeout
from requests import Response as Response

from exporter.counters import REQUESTS_ABANDONED, REQUESTS_IN_FLIGHT, REQUESTS_REFUSED, counter, gauge
from exporter.upstream.errors import FetchError, TooManyRequests, failed, not_sent
from exporter.upstream.target import RequestOptions, Target

#: Seconds after which a request that was sent and not answered is given up, and its socket closed.
ABANDON_AFTER = 60.0

#: Seconds after which a request that has not ended by then is not joined any more: an internal error has lost it.
SLACK = 10.0

#: Requests in flight to one host and port, and in total. A service has five threads, and a target five documents.
PER_HOST, TOTAL = 20, 10_000

#: Bytes from which on a response is read in a thread of its own, so that the other requests do not wait.
LARGE = 64 * 1024

#: Responses that are kept before those that are not young any more are removed.
KEPT = 1000

Read = Callable[[Response], Any]
Key = tuple[Target, str]


@dataclass(frozen=True)
class Result:
    """The end of a request, in monotonic seconds: what its reader returned, or the exception."""

    ended: float
    value: Any = None
    error: BaseException | None = None


class Client:
    """Sends the requests of all scrapes of this process, and of none of its parent.

    Patroni and Staytus have five threads each, and a request that hangs there holds its thread even after the client
    has closed the connection. So there is one request in flight for each target and path, few for each host, and each
    counts until it has ended.

    `counters` are about the requests that are in flight, were not sent because of a limit, and got no whole response in
    time.
    """

    def __init__(self) -> None:
        self._in_flight_gauge = gauge(REQUESTS_IN_FLIGHT)
        self._refused = counter(REQUESTS_REFUSED)
        self._abandoned = counter(REQUESTS_ABANDONED)
        self.counters = (self._in_flight_gauge, self._refused, self._abandoned)
        self._reset()
        os.register_at_fork(after_in_child=self._reset)

    def _reset(self) -> None:
        self._lock = threading.Lock()
        self._requests: dict[Key, tuple[Future[Result], float]] = {}
        self._hosts: Counter[str] = Counter()  # requests in flight
        self.in_flight = 0
        self._most = KEPT

    def begin(self, target: Target, documents: Iterable[tuple[str, int, Read]]) -> list[Future[Result]]:
        """Returns the results of requests for paths below the target's URL, without waiting for them.

        Each is that of the request in flight, that of a response younger than the target's interval, or that of a new
        request, which later callers join. Callers do not wait for a request that has been in flight for longer than
        the target's timeout: its server hangs.

        A path comes with the largest response in bytes, and with the function that turns the response into a value,
        once for all callers, so the value must not be mutable. The error is a FetchError, or what the function raised.
        """
        options = target.options
        futures, new = [], []
        for path, size_limit, read in documents:
            future, is_new = self._join(key := (target, path))
            futures.append(future)
            if is_new:
                new.append((path, size_limit, partial(self._receive, key, future, read)))
        if new:
            try:
                requests = target.requests(path for path, _, _ in new)
            except (OSError, ValueError) as error:
                for _, _, done in new:
                    done(not_sent(error))
            else:
                sent = [(request, size, done) for request, (_, size, done) in zip(requests, new, strict=True)]
                timeout = options.timeout, _abandon_after(options)
                options.adapter.begin(sent, timeout=timeout, verify=options.verify, cert=options.cert)
        return futures

    def _join(self, key: Key) -> tuple[Future[Result], bool]:
        """Returns the request in flight or the young response for a key, else a new request, which is True."""
        now = time.monotonic()
        options = key[0].options
        with self._lock:
            found = self._requests.get(key)
            if found and _serves(found, options, now):
                future, sent = found
                if future.done() or now - sent <= options.timeout:
                    return future, False
                return _failed(now, failed(ReadTimeout, f"no response within {options.timeout:g} s")), False
            self._remove_old(now)
            if refusal := self._refusal(host := key[0].host):
                return _failed(now, refusal), False
            future = Future()
            self.in_flight += 1
            self._in_flight_gauge.set(self.in_flight)
            self._hosts[host] += 1
            self._requests[key] = (future, now)
            return future, True

    def _refusal(self, host: str) -> TooManyRequests | None:
        """Returns the error for a request to this host where a limit is reached."""
        if self._hosts[host] >= PER_HOST:
            self._refused.labels("host").inc()
            return TooManyRequests(f"{PER_HOST} requests to {host} are in flight, the limit of one host")
        if self.in_flight >= TOTAL:
            self._refused.labels("total").inc()
            return TooManyRequests(f"{TOTAL} requests are in flight, the limit of this process")
        return None

    def _remove_old(self, now: float) -> None:
        """Removes the responses that are too old to be used again, each time that their number has doubled."""
        if len(self._requests) >= self._most:
            self._requests = {
                key: found for key, found in self._requests.items() if _serves(found, key[0].options, now)
            }
            self._most = max(KEPT, 2 * len(self._requests))

    def _receive(self, key: Key, future: Future[Result], read: Read, response: Response | FetchError) -> None:
        if isinstance(response, FetchError):
            self._end(key, future, error=response)
        elif len(response.content) < LARGE:
            self._read(key, future, read, response)
        else:
            reading = threading.Thread(target=self._read, args=(key, future, read, response), name="read", daemon=True)
            try:
                reading.start()
            except RuntimeError:
                self._end(key, future, error=FetchError("no thread could be started to read the response"))

    def _read(self, key: Key, future: Future[Result], read: Read, response: Response) -> None:
        try:
            value = read(response)
        except Exception as error:
            self._end(key, future, error=error)
        else:
            self._end(key, future, value)

    def _end(self, key: Key, future: Future[Result], value: Any = None, error: BaseException | None = None) -> None:
        """Ends the request. It leaves the table first, so that a caller that is woken by it can send the next one."""
        result = Result(time.monotonic(), value, error)
        if isinstance(error, ReadTimeout):
            self._abandoned.inc()
        with self._lock:
            self.in_flight -= 1
            self._in_flight_gauge.set(self.in_flight)
            self._hosts[key[0].host] -= 1
            if not self._hosts[key[0].host]:
                del self._hosts[key[0].host]
            is_known = self._requests.get(key, (None,))[0] is future
            if is_known and (key[0].options.interval <= 0 or not getattr(error, "sent", True)):
                del self._requests[key]
        future.set_result(result)


def _failed(now: float, error: FetchError) -> Future[Result]:
    """Returns the result of a request that is not sent."""
    future: Future[Result] = Future()
    future.set_result(Result(now, error=error))
    return future


def _abandon_after(options: RequestOptions) -> float:
    return max(ABANDON_AFTER, options.timeout)


def _serves(found: tuple[Future[Result], float], options: RequestOptions, now: float) -> bool:
    """Returns whether a request, sent at a time in monotonic seconds, is in flight or ended within the interval."""
    future, sent = found
    if not future.done():
        return now < sent + _abandon_after(options) + SLACK
    return now - future.result().ended < options.interval
