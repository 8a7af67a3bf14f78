"""The transport adapter of requests that sends through libcurl's multi interface: one thread for all requests."""

import logging
import os
import selectors
import socket
import threading
import time
from collections import deque
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from functools import partial
from typing import Any

import pycurl
from requests import PreparedRequest, Response
from requests.adapters import BaseAdapter
from requests.exceptions import InvalidURL

from exporter.upstream.errors import FetchError, failed, not_sent
from exporter.upstream.names import Names
from exporter.upstream.transfer import SIZE_LIMIT, AddressPolicy, Cert, Done, Timeout, Transfer, curl_options, name_of

log = logging.getLogger(__name__)

#: Connections that are kept open after a response.
KEPT = 256

#: Seconds after which a request that waits for the thread that sends it is late.
LATE = 0.25

INTERNAL_ERROR = "an internal error ended the request; the log of the exporter has its traceback"


class CurlAdapter(BaseAdapter):
    """Sends the requests of one module.

    Unlike in requests' own adapter the read timeout is for the whole response, and a response is read whole before
    it is returned. Proxies are not used. A kept connection that the server has closed is replaced.
    """

    def __init__(self, *, server_name: str = "", allows: AddressPolicy | None = None) -> None:
        super().__init__()
        self._server_name = server_name
        self._allows = allows

    def begin(
        self, requests: Sequence[tuple[PreparedRequest, int, Done]], *, timeout: Timeout, verify: bool | str, cert: Cert
    ) -> None:
        """Sends requests to one server, with the same headers, at once and without waiting.

        Each comes with the largest response in bytes, and with what receives its Response or FetchError in any thread.
        """
        try:
            options = curl_options(requests[0][0], timeout, verify, cert)
        except (OSError, ValueError) as error:
            for _, _, done in requests:
                done(not_sent(error))
            return
        transfers = [Transfer(*request, options, verify, cert, self._server_name, self._allows) for request in requests]
        if host := name_of(requests[0][0]):
            _names.look_up(host, timeout[0], partial(_send, transfers))
        else:
            _send(transfers, [])

    def send(
        self,
        request: PreparedRequest,
        stream: bool = False,  # noqa: ARG002
        timeout: Any = None,
        verify: bool | str = True,
        cert: Any = None,
        proxies: Mapping[str, str] | None = None,  # noqa: ARG002
    ) -> Response:
        """Returns the response to a request, which needs a timeout; raises FetchError, a requests.RequestException."""
        timeout = timeout if isinstance(timeout, tuple) else (timeout, timeout)
        future: Future[Response | FetchError] = Future()
        self.begin([(request, SIZE_LIMIT, future.set_result)], timeout=timeout, verify=verify, cert=cert)
        result = future.result()
        if isinstance(result, FetchError):
            raise result
        return result

    def close(self) -> None:
        """Does nothing: connections are shared by all adapters of the process."""


class _Loop:
    """The thread that waits for all sockets and lets libcurl handle those that are ready."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._new: deque[Transfer] = deque()
        self._since = 0.0  # when the first of the new ones came
        self._was_late = False
        self.ended = False
        self._woken, self._wake = socket.socketpair()
        self._sockets = selectors.DefaultSelector()
        self._sockets.register(self._woken, selectors.EVENT_READ)
        self._watched: set[int] = set()
        self._until: float | None = None
        self._in_flight: dict[pycurl.Curl, Transfer] = {}
        self._unused: list[pycurl.Curl] = []
        self._multi = pycurl.CurlMulti()
        self._multi.setopt(pycurl.M_SOCKETFUNCTION, self._watch)
        self._multi.setopt(pycurl.M_TIMERFUNCTION, self._wait)
        self._multi.setopt(pycurl.M_MAXCONNECTS, KEPT)
        try:
            threading.Thread(target=self._run, name="fetch", daemon=True).start()
        except RuntimeError:
            self._close()
            raise ValueError("no thread could be started for the request") from None

    def begin(self, transfers: Sequence[Transfer]) -> bool:
        """Takes requests; returns False when the thread has ended."""
        with self._lock:
            if self.ended:
                return False
            if not self._new:
                self._since = time.monotonic()
                self._wake.send(b"w")
            self._new.extend(transfers)
            return True

    def is_overloaded(self) -> bool:
        """Returns whether new requests are late, and those before them were too."""
        with self._lock:
            return self._was_late and bool(self._new) and not self.ended and self._is_late()

    def _is_late(self) -> bool:
        return time.monotonic() - self._since > LATE

    def _watch(self, what: int, descriptor: int, _multi: Any, _data: Any) -> None:
        """libcurl calls this when it waits for a socket, or no longer does."""
        if what != pycurl.POLL_REMOVE:
            (self._sockets.modify if descriptor in self._watched else self._sockets.register)(descriptor, _EVENTS[what])
            self._watched.add(descriptor)
        elif descriptor in self._watched:
            self._sockets.unregister(descriptor)
            self._watched.remove(descriptor)

    def _wait(self, milliseconds: int) -> None:
        """libcurl calls this with the time after which it must be called if no socket is ready; -1 is never."""
        self._until = None if milliseconds < 0 else time.monotonic() + milliseconds / 1000

    def _run(self) -> None:
        try:
            while True:
                self._step()
        except BaseException:
            log.exception("the thread that sends requests failed; the next request starts another one")
        finally:
            with self._lock:
                self.ended = True
            for transfer in (*self._in_flight.values(), *self._new):
                transfer.done(failed(FetchError, INTERNAL_ERROR))
            for curl in self._in_flight:
                self._multi.remove_handle(curl)
            self._close()

    def _close(self) -> None:
        for resource in (self._multi, self._sockets, self._woken, self._wake):
            resource.close()

    def _step(self) -> None:
        wait = None if self._until is None else max(0.0, self._until - time.monotonic())
        for key, events in self._sockets.select(wait):
            if key.fileobj is self._woken:
                self._woken.recv(64)
                self._start()
            else:
                action = (pycurl.CSELECT_IN if events & selectors.EVENT_READ else 0) | (
                    pycurl.CSELECT_OUT if events & selectors.EVENT_WRITE else 0
                )
                self._multi.socket_action(key.fd, action)
        if self._until is not None and self._until <= time.monotonic():
            self._until = None
            self._multi.socket_action(pycurl.SOCKET_TIMEOUT, 0)
        self._finish()

    def _start(self) -> None:
        with self._lock:
            new, self._new = self._new, deque()
            self._was_late = self._is_late()
        for transfer in new:
            curl = self._unused.pop() if self._unused else pycurl.Curl()
            try:
                transfer.set_up(curl)
                self._multi.add_handle(curl)
            except Exception as error:
                self._put_back(curl)
                reason = f"the request cannot be sent: {error.args[-1] if error.args else type(error).__name__}"
                transfer.done(failed(InvalidURL, reason, sent=False))
            else:
                self._in_flight[curl] = transfer

    def _finish(self) -> None:
        more = len(self._in_flight)
        while more:
            more, ended, failures = self._multi.info_read()
            for curl in ended:
                self._end(curl)
            for curl, code, text in failures:
                if code in _DIED and not (curl.getinfo(pycurl.NUM_CONNECTS) or curl.getinfo(pycurl.HEADER_SIZE)):
                    # libcurl replaces no more than five stale connections; its text can be that of one before.
                    self._multi.remove_handle(curl)
                    curl.setopt(pycurl.FRESH_CONNECT, 1)
                    self._multi.add_handle(curl)
                else:
                    self._end(curl, code, text)

    def _end(self, curl: pycurl.Curl, code: int = 0, text: str = "") -> None:
        """Passes the result of a request on; a failure of our own is logged and ends this request alone."""
        self._multi.remove_handle(curl)
        transfer = self._in_flight.pop(curl)
        try:
            transfer.done(transfer.error(curl, code, text) if code else transfer.response(curl))
        except Exception:
            log.exception("a request ended with an internal error")
            transfer.done(failed(FetchError, INTERNAL_ERROR))
        self._put_back(curl)

    def _put_back(self, curl: pycurl.Curl) -> None:
        curl.reset()
        if len(self._unused) < 64:
            self._unused.append(curl)


_EVENTS = {
    pycurl.POLL_IN: selectors.EVENT_READ,
    pycurl.POLL_OUT: selectors.EVENT_WRITE,
    pycurl.POLL_INOUT: selectors.EVENT_READ | selectors.EVENT_WRITE,
}

#: The errors of a connection that ended before its response.
_DIED = (pycurl.E_SEND_ERROR, pycurl.E_RECV_ERROR)


def _send(transfers: Sequence[Transfer], addresses: list[str] | Exception) -> None:
    """Sends requests to the addresses of their host; libcurl looks up the host where there are none."""
    if isinstance(addresses, Exception):
        for transfer in transfers:
            transfer.done(transfer.lookup_error(addresses))
        return
    for transfer in transfers:
        transfer.addresses = addresses
    try:
        while not _loop().begin(transfers):
            pass  # that one has just ended
    except (OSError, ValueError) as error:
        for transfer in transfers:
            transfer.done(not_sent(error))


_names = Names()

#: The loop of this process by its id, and those of its parents: closing one would end the parent's connections.
_loops: dict[int, _Loop] = {}
_lock = threading.Lock()


def _replace_lock() -> None:
    global _lock
    _lock = threading.Lock()


os.register_at_fork(after_in_child=_replace_lock)  # another thread of the parent may have held it


def _loop() -> _Loop:
    """Returns the loop of this process, which starts with its first request."""
    with _lock:
        loop = _loops.get(os.getpid())
        if loop is None or loop.ended:
            loop = _loops[os.getpid()] = _Loop()
        return loop


def is_overloaded() -> bool:
    """Returns whether the requests of this process are sent late: it gets less CPU time than they need."""
    loop = _loops.get(os.getpid())
    return loop is not None and loop.is_overloaded()
