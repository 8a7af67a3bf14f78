"""The HTTP client: one request at a time for each document, bounded in time and size, and the answers while young."""

import http.client
import os
import queue
import ssl
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from functools import lru_cache, partial
from typing import Any

import requests
from urllib3 import Timeout, exceptions

from exporter.document import Answer, NotProvided, ParseError
from exporter.target import Target
from exporter.transport import Adapter, TooLarge
from exporter.version import __version__

#: Bytes of an answer, before and after decompression.
SIZE_LIMIT = 16 * 1024 * 1024

#: Seconds after which a request that was sent and not answered is given up, its socket closed and its thread back.
ABANDON_AFTER = 60.0

#: Seconds after which a thread that has nothing to do ends.
IDLE_FOR = 1.0


class FetchError(Exception):
    """There is no answer; the text says why, and holds neither header nor userinfo.

    `sent` tells whether the server may have got the request.
    """

    def __init__(self, reason: str, *, sent: bool = True):
        super().__init__(reason)
        self.sent = sent


class Flight:
    """One request on its way; since `ended` (monotonic seconds) its model is there, or why there is none."""

    def __init__(self) -> None:
        self.model: Future[Any] = Future()
        self.ended: float | None = None

    def serves(self, interval: float) -> bool:
        """Tells whether it is still under way, or ended so short a time (in seconds) ago."""
        return self.ended is None or time.monotonic() - self.ended < interval

    def seconds_since(self, start: float) -> float:
        """Returns how long after `start` (monotonic seconds) it ended, or how long ago that was if it did not."""
        return max(0.0, (self.ended or time.monotonic()) - start)


class Fetcher:
    """Fetches documents for all scrapes of this process; it makes everything on first use, and anew after a fork.

    There is one request in flight for each target and document, since Patroni and Staytus have five threads each and
    one that hangs there stays taken after its client has gone. Whoever asks meanwhile joins it.
    """

    def __init__(self) -> None:
        self._begin()
        begin = weakref.WeakMethod(self._begin)
        os.register_at_fork(after_in_child=lambda: (again := begin()) and again())

    def _begin(self) -> None:
        """Knows nothing yet; a child's parent may hold the lock, and has the threads of the requests under way."""
        self._lock = threading.Lock()
        self._flights: dict[tuple[Target, str], Flight] = {}
        self._adapter: Adapter | None = None
        self._threads = _Threads()

    def ask(self, target: Target, path: str, parse: Callable[[Answer], Any]) -> Flight:
        """Returns the request for `path` below the target's URL: the one under way, or that of an answer younger than
        the target's interval, or a new one. Nobody may cancel it: others wait for it too.

        Its model is what `parse` makes of the answer, once for all who wait, so it may not be mutable; or it holds
        FetchError, or what `parse` raises.
        """
        key = (target, path)
        with self._lock:
            flight = self._flights.get(key)
            if flight is not None and flight.serves(target.interval):
                return flight
            flight = self._flights[key] = Flight()
            if self._adapter is None:
                self._adapter = Adapter()
            adapter = self._adapter
            threads = self._threads
        try:
            threads.run(f"fetch {path}", partial(self._fly, key, flight, adapter, parse))
        except RuntimeError:  # the system has no more threads for us
            self._end(key, flight, keep=False)
            flight.model.set_exception(FetchError("no thread could be started to ask", sent=False))
        return flight

    def _fly(self, key: tuple[Target, str], flight: Flight, adapter: Adapter, parse: Callable[[Answer], Any]) -> None:
        try:
            model = parse(_get(adapter, *key))
        except BaseException as error:
            if isinstance(error, FetchError | ParseError | NotProvided):
                # What was read hangs on their tracebacks: 16 MiB, for as long as somebody knows the flight.
                error.__traceback__ = error.__context__ = None
            self._end(key, flight, keep=getattr(error, "sent", True))
            flight.model.set_exception(error)
        else:
            self._end(key, flight, keep=True)
            flight.model.set_result(model)

    def _end(self, key: tuple[Target, str], flight: Flight, *, keep: bool) -> None:
        """Makes room for the next request, before anybody hears of the end of this one and asks again."""
        with self._lock:
            flight.ended = time.monotonic()
            if not (keep and key[0].interval > 0):
                del self._flights[key]


class _Threads:
    """Threads that are used again, since to start one costs as much as half a request, and end when idle for long.

    They are daemons: the end of the process does not wait for a server that hangs.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._jobs: queue.SimpleQueue[tuple[str, Callable[[], None]]] = queue.SimpleQueue()
        self._idle = 0

    def run(self, name: str, job: Callable[[], None]) -> None:
        """Runs the job at once, in an idle thread or a new one, which has this name meanwhile.

        Raises RuntimeError when there cannot be one thread more.
        """
        with self._lock:
            if not self._idle:
                threading.Thread(target=self._work, args=(name, job), name=name, daemon=True).start()
                return
            self._idle -= 1
        self._jobs.put((name, job))

    def _work(self, name: str, job: Callable[[], None]) -> None:
        thread = threading.current_thread()
        while True:
            thread.name = name
            job()
            del job  # and with it the answer
            thread.name = "idle"
            with self._lock:
                self._idle += 1
            while True:
                try:
                    name, job = self._jobs.get(timeout=IDLE_FOR)
                    break
                except queue.Empty:
                    with self._lock:
                        if self._idle:  # else somebody has just counted on this thread
                            self._idle -= 1
                            return


@lru_cache(maxsize=1000)
def _request(target: Target, path: str) -> requests.PreparedRequest:
    own = {"User-Agent": f"patroni-staytus-exporter/{__version__}", "Accept-Encoding": "identity"}
    return requests.Request("GET", f"{target.url}/{path}", headers={**own, **dict(target.headers)}).prepare()


def _get(adapter: Adapter, target: Target, path: str) -> Answer:
    try:
        return _send(adapter, _request(target, path), target)
    except (OSError, exceptions.HTTPError, ValueError) as error:  # requests' own errors are OSError or ValueError
        raise _fetch_error(error, target) from None


def _send(adapter: Adapter, request: requests.PreparedRequest, target: Target) -> Answer:
    timeout: Any = Timeout(connect=target.timeout, total=max(ABANDON_AFTER, target.timeout))
    with adapter.send(request, stream=True, timeout=timeout, verify=target.verify) as response:
        return Answer(response.status_code, _body(response))


def _body(response: requests.Response) -> bytes:
    chunks, size = [], 0
    while chunk := response.raw.read(65536, decode_content=True):
        chunks.append(chunk)
        size += len(chunk)
        if size > SIZE_LIMIT or response.raw.tell() > SIZE_LIMIT:
            raise FetchError(f"the answer is larger than {SIZE_LIMIT // 1024 // 1024} MiB")
    return b"".join(chunks)


def _fetch_error(error: BaseException, target: Target) -> FetchError:
    """Returns the error as a person would say it, from the innermost of the wrapped ones that requests raises."""
    causes = list(_causes(error))
    for cause in causes:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return FetchError(f"TLS: certificate verify failed: {cause.verify_message}", sent=False)
        if isinstance(cause, ssl.SSLError):
            return FetchError(f"TLS: {cause.reason or cause}", sent=False)
        if isinstance(cause, requests.exceptions.InvalidURL | UnicodeError):
            return FetchError("the URL cannot be used", sent=False)
        if isinstance(cause, exceptions.NameResolutionError):
            return FetchError("the host name is not known", sent=False)
        if isinstance(cause, exceptions.NewConnectionError):
            return FetchError(f"no connection: {_innermost(causes)}", sent=False)
        if isinstance(cause, exceptions.ConnectTimeoutError):
            return FetchError(f"no connection within {target.timeout:g} s", sent=False)
        if isinstance(cause, TooLarge):
            return FetchError(str(cause))
        if isinstance(cause, exceptions.ReadTimeoutError | TimeoutError):
            return FetchError(f"no whole answer within {max(ABANDON_AFTER, target.timeout):g} s")
        if isinstance(cause, http.client.RemoteDisconnected):
            return FetchError("the connection was closed without an answer")
        if isinstance(cause, http.client.BadStatusLine | http.client.UnknownProtocol):
            return FetchError(f"the answer is not HTTP: {ascii(str(cause).strip())[:100]}")
        if isinstance(cause, http.client.IncompleteRead):
            return FetchError("the answer was cut off")
        if isinstance(cause, exceptions.DecodeError):
            return FetchError("the answer cannot be decompressed")
    return FetchError(_innermost(causes))


def _innermost(causes: list[BaseException]) -> str:
    for cause in causes:
        if isinstance(cause, OSError) and cause.errno:
            return os.strerror(cause.errno).lower()
    return ascii(str(causes[-1]) or type(causes[-1]).__name__)[1:-1][:200]


def _causes(error: BaseException) -> Iterator[BaseException]:
    seen = set()
    pending: list[Any] = [error]
    while pending:
        cause = pending.pop(0)
        if isinstance(cause, BaseException) and id(cause) not in seen:
            seen.add(id(cause))
            yield cause
            pending += [*cause.args, getattr(cause, "reason", None), cause.__cause__, cause.__context__]
