"""The HTTP client: one request at a time for each document, bounded in time and size, and the answers while young."""

import http.client
import os
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import requests
import urllib3
from requests.adapters import HTTPAdapter
from requests.utils import DEFAULT_CA_BUNDLE_PATH
from urllib3 import HTTPResponse, connection, connectionpool, exceptions

from exporter.document import Answer
from exporter.settings import Target
from exporter.version import __version__

#: Bytes of an answer, before and after decompression.
SIZE_LIMIT = 16 * 1024 * 1024

#: Seconds after which a request that was sent and not answered is given up, its socket closed and its thread back.
ABANDON_AFTER = 60.0


# Verification that is off was asked for, and is said once at the start, not with each request.
urllib3.disable_warnings(exceptions.InsecureRequestWarning)


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
    """Fetches documents for all scrapes of this process; it makes everything on first use, so nothing survives a fork.

    There is one request in flight for each target and document, since Patroni and Staytus have five threads each and
    one that hangs there stays taken after its client has gone. Whoever asks meanwhile joins it.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._flights: dict[tuple[Target, str], Flight] = {}
        self._adapter: _Adapter | None = None

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
                self._adapter = _Adapter(max_retries=0, pool_connections=100, pool_maxsize=8)
            adapter = self._adapter
        # A thread of its own and a daemon: the end of the process does not wait for a server that hangs.
        threading.Thread(
            target=self._fly, args=(key, flight, adapter, parse), daemon=True, name=f"fetch {path}"
        ).start()
        return flight

    def _fly(
        self, key: tuple[Target, str], flight: Flight, adapter: "_Adapter", parse: Callable[[Answer], Any]
    ) -> None:
        keep = key[0].interval > 0
        try:
            model = parse(_get(adapter, *key))
        except BaseException as error:
            keep = keep and getattr(error, "sent", True)
            flight.ended = time.monotonic()
            flight.model.set_exception(error)
        else:
            flight.ended = time.monotonic()
            flight.model.set_result(model)
        if not keep:
            with self._lock:
                self._flights.pop(key, None)


def _get(adapter: "_Adapter", target: Target, path: str) -> Answer:
    own = {"User-Agent": f"patroni-staytus-exporter/{__version__}", "Accept-Encoding": "identity"}
    try:
        request = requests.Request("GET", f"{target.url}/{path}", headers={**own, **dict(target.headers)}).prepare()
        try:
            return _send(adapter, request, target)
        except requests.ConnectionError as error:
            if not any(isinstance(cause, _Stale) for cause in _causes(error)):
                raise
            return _send(adapter, request, target)
    except (OSError, exceptions.HTTPError, ValueError) as error:  # requests' own errors are OSError or ValueError
        raise _fetch_error(error, target) from None


def _send(adapter: "_Adapter", request: requests.PreparedRequest, target: Target) -> Answer:
    timeout = (target.timeout, max(ABANDON_AFTER, target.timeout))
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
        if isinstance(cause, exceptions.ReadTimeoutError | TimeoutError):
            return FetchError(f"no whole answer within {max(ABANDON_AFTER, target.timeout):g} s")
        if isinstance(cause, http.client.RemoteDisconnected):
            return FetchError("the connection was closed without an answer")
        if isinstance(cause, http.client.BadStatusLine):
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


# Below requests: time limits that hold for the whole of a phase -------------------------------------------------------


class _Bounded(socket.socket):
    """A socket whose timeout is for all that is read until the next settimeout, not for each byte.

    urllib3 sets the timeout anew for each phase (connect, send, read), so that a server that sends byte by byte has
    no more time than one that sends at once.
    """

    _end: float | None = None

    def settimeout(self, value: float | None) -> None:
        self._end = None if value is None else time.monotonic() + value
        super().settimeout(value)

    def recv_into(self, *args: Any, **kwargs: Any) -> int:
        if self._end is not None:
            left = self._end - time.monotonic()
            if left <= 0:
                raise TimeoutError("timed out")
            super().settimeout(left)
        return super().recv_into(*args, **kwargs)


class _BoundedTLS(_Bounded, ssl.SSLSocket):
    """The same above TLS, whose handshake the ssl module bounds as a whole."""


class _Stale(ConnectionResetError):
    """The server closed a connection that it had kept after an answer, before it can have read this request."""


class _Connection(connection.HTTPConnection):
    """A connection whose socket is bounded, and which knows whether it has answered before."""

    _answered = False

    def _new_conn(self) -> socket.socket:
        plain = super()._new_conn()
        bounded = _Bounded(fileno=plain.detach())
        bounded.settimeout(self.timeout)
        self._answered = False
        return bounded

    def getresponse(self) -> HTTPResponse:  # type: ignore[override]  # as urllib3 has it
        try:
            response = super().getresponse()
        except ConnectionResetError as error:
            if self._answered:
                raise _Stale from error
            raise
        self._answered = True
        return response


class _Adapter(HTTPAdapter):
    """Sends a prepared request as it is: no proxy, netrc, cookie, redirect or variable of the environment counts."""

    def init_poolmanager(self, connections: int, maxsize: int, block: bool = False, **pool_kwargs: Any) -> None:
        super().init_poolmanager(connections, maxsize, block, **pool_kwargs)
        self.poolmanager.pool_classes_by_scheme = {"http": _Pool, "https": _TLSPool}
        self._contexts: dict[bool | str, ssl.SSLContext] = {}

    def build_connection_pool_key_attributes(
        self, request: requests.PreparedRequest, verify: Any, cert: Any = None
    ) -> tuple[Any, Any]:
        host, tls = super().build_connection_pool_key_attributes(request, verify, cert)
        if host["scheme"] != "https":
            return host, {}
        if verify not in self._contexts:
            self._contexts[verify] = _tls_context(verify)
        return host, {"ssl_context": self._contexts[verify], "cert_reqs": tls["cert_reqs"]}

    def cert_verify(self, conn: Any, url: Any, verify: Any, cert: Any) -> None:
        """Leaves the connection alone: its TLS context holds all that verify asks for."""


def _tls_context(verify: bool | str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.sslsocket_class = _BoundedTLS
    if verify is False:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    else:
        authorities = DEFAULT_CA_BUNDLE_PATH if verify is True else str(verify)
        folder = Path(authorities).is_dir()
        context.load_verify_locations(None if folder else authorities, authorities if folder else None)
    return context


class _TLSConnection(_Connection, connection.HTTPSConnection):
    """The same above TLS."""


class _Pool(connectionpool.HTTPConnectionPool):
    ConnectionCls = _Connection


class _TLSPool(connectionpool.HTTPSConnectionPool):
    ConnectionCls = _TLSConnection
