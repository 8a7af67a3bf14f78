"""The way of one request over the wire: time limits that hold for the whole of a phase, a size limit, and TLS."""

import socket
import ssl
import time
from pathlib import Path
from typing import Any

import requests
import urllib3
from requests.adapters import HTTPAdapter
from requests.utils import DEFAULT_CA_BUNDLE_PATH
from urllib3 import HTTPResponse, Timeout, connection, connectionpool, exceptions

#: Bytes that one answer may take on the wire, with its header and what chunks add; nothing that is read escapes it.
WIRE_LIMIT = 32 * 1024 * 1024

# Verification that is off was asked for, and is said once at the start, not with each request.
urllib3.disable_warnings(exceptions.InsecureRequestWarning)


class TooLarge(OSError):
    """The answer is larger on the wire than any may be."""


class _Bounded(socket.socket):
    """A socket whose timeout is for all that is read until the next settimeout, not for each byte.

    urllib3 sets the timeout anew for each phase (connect, send, read), so that a server that sends byte by byte has
    no more time than one that sends at once. http.client reads some things without an end of their own: header lines
    of 100 Continue, trailers, a chunk that says that it is -1 bytes long.
    """

    _end: float | None = None
    _size = 0

    def settimeout(self, value: float | None) -> None:
        self._end = None if value is None else time.monotonic() + value
        self._size = 0
        super().settimeout(value)

    def recv_into(self, *args: Any, **kwargs: Any) -> int:
        if self._end is not None:
            left = self._end - time.monotonic()
            if left <= 0:
                raise TimeoutError("timed out")
            super().settimeout(left)
        received = super().recv_into(*args, **kwargs)
        self._size += received
        if self._size > WIRE_LIMIT:
            raise TooLarge(f"the answer is larger than {WIRE_LIMIT // 1024 // 1024} MiB on the wire")
        return received


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


class _TLSConnection(_Connection, connection.HTTPSConnection):
    """The same above TLS."""


class _Pool(connectionpool.HTTPConnectionPool):
    """A pool that sends a request again, once and over a new connection, when a kept one turns out to be stale."""

    ConnectionCls = _Connection

    def _make_request(self, conn: Any, *args: Any, **kwargs: Any) -> Any:
        start = time.monotonic()
        try:
            return super()._make_request(conn, *args, **kwargs)
        except _Stale:
            conn.close()
            timeout = kwargs["timeout"]
            left = max(0.01, timeout.total - (time.monotonic() - start))
            kwargs["timeout"] = Timeout(connect=timeout.connect_timeout, total=left)
            return super()._make_request(conn, *args, **kwargs)


class _TLSPool(_Pool, connectionpool.HTTPSConnectionPool):
    """The same above TLS."""

    ConnectionCls = _TLSConnection

    def _validate_conn(self, conn: Any) -> None:
        try:
            super()._validate_conn(conn)
        except TimeoutError as error:  # of the handshake, which urllib3 would tell as one of the answer
            raise exceptions.ConnectTimeoutError(conn, "no TLS handshake in time") from error


class Adapter(HTTPAdapter):
    """Sends a prepared request as it is: no proxy, netrc, cookie, redirect or variable of the environment counts."""

    def __init__(self) -> None:
        super().__init__(max_retries=0, pool_connections=100, pool_maxsize=8)

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
