"""Requests over the wire: libcurl's multi interface in one thread, with limits of time and size, and TLS."""

import os
import selectors
import socket
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import certifi
import pycurl

from exporter.document import Answer
from exporter.reasons import reason
from exporter.target import Target
from exporter.values import Headers
from exporter.version import __version__

#: Bytes of an answer, before and after decompression. libcurl itself allows 300 kB for all of its header.
SIZE_LIMIT = 16 * 1024 * 1024

#: Connections that are kept after an answer, and seconds after which one is not used again: since it was last used, and
#: since it was made, as the certificates of either side may have been replaced meanwhile.
KEPT, KEPT_IDLE, KEPT_AT_MOST = 256, 60, 300

#: Seconds in which a kept connection that the server has closed meanwhile shows that.
STALE_WITHIN = 1.0


class FetchError(Exception):
    """There is no answer; the text says why, and holds neither header nor userinfo.

    `sent` tells whether the server may have got the request.
    """

    def __init__(self, reason: str, *, sent: bool = True):
        super().__init__(reason)
        self.sent = sent


#: Takes what became of a request, in the thread that all requests share, so it must be quick.
Done = Callable[[Answer | FetchError], None]


@dataclass
class _Request:
    """A request on its way; `seconds` is how long the whole of it may take."""

    target: Target
    path: str
    seconds: float
    done: Done
    chunks: list[bytes] = field(default_factory=list)
    size: int = 0
    sent_first: float = 0.0
    refused: str = ""

    def write(self, chunk: bytes) -> int | None:
        """Takes a part of the body; what is not None ends the request."""
        self.size += len(chunk)
        if self.size > SIZE_LIMIT:
            self.refused = _too_large()
            return 0
        self.chunks.append(chunk)
        return None

    def connected(self, *_: object) -> int:
        """Lets libcurl send over this connection: the first one, or another one where a kept one was stale."""
        self.sent_first = self.sent_first or time.monotonic()
        if time.monotonic() - self.sent_first > STALE_WITHIN:
            self.refused = "the connection was closed without an answer"
            return int(pycurl.PREREQFUNC_ABORT)
        return int(pycurl.PREREQFUNC_OK)

    def open_socket(self, _purpose: int, address: Any) -> socket.socket | int:
        """Makes the socket for an address that libcurl has looked up and is about to connect to, if it is allowed."""
        family, kind, protocol, (host, *_) = address
        ip = ip_address(host.decode() if isinstance(host, bytes) else host)
        admits, refuses = self.target.admits, self.target.refuses
        if (admits and not any(ip in network for network in admits)) or any(ip in network for network in refuses):
            self.refused = f"the address {ip} is not allowed"
            return int(pycurl.SOCKET_BAD)
        return socket.socket(family, kind, protocol)


class Transport:
    """Sends requests, any number at once; its thread starts with the first and ends when nobody has the transport."""

    def __init__(self) -> None:
        self._loop = _Loop()
        weakref.finalize(self, self._loop.end).atexit = False  # a daemon: the process does not wait for who hangs

    def send(self, target: Target, path: str, seconds: float, done: Done) -> None:
        """Asks for `path` below the target's URL. The server has the target's timeout to accept the connection, and
        `seconds` for all. Proxies, netrc, cookies and variables of the environment do not count, and a redirect is not
        followed. A kept connection that turns out to be stale is replaced unseen.

        Raises RuntimeError when the system has no thread for us.
        """
        self._loop.begin(_Request(target, path, seconds, done))


class _Loop:
    """The thread: it waits for all sockets at once and lets libcurl do what they are ready for."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._new: deque[_Request] = deque()
        self._thread: threading.Thread | None = None
        self._ended = False
        self._woken, self._wake = socket.socketpair()
        self._sockets = selectors.DefaultSelector()
        self._sockets.register(self._woken, selectors.EVENT_READ)
        self._until: float | None = None
        self._under_way: dict[pycurl.Curl, _Request] = {}
        self._unused: list[pycurl.Curl] = []
        self._multi = pycurl.CurlMulti()
        self._multi.setopt(pycurl.M_SOCKETFUNCTION, self._watch)
        self._multi.setopt(pycurl.M_TIMERFUNCTION, self._wait)
        self._multi.setopt(pycurl.M_MAXCONNECTS, KEPT)

    def begin(self, request: _Request) -> None:
        with self._lock:
            if self._thread is None:
                thread = threading.Thread(target=self._run, name="fetch", daemon=True)
                thread.start()
                self._thread = thread
            self._new.append(request)
            if len(self._new) == 1:
                self._wake.send(b"w")

    def end(self) -> None:
        with self._lock:
            self._ended = True
            if self._thread is None:
                self._close()
            else:
                self._wake.send(b"e")

    def _watch(self, what: int, descriptor: int, _multi: Any, _data: Any) -> None:
        """libcurl says which socket it waits for, and for what."""
        if what == pycurl.POLL_REMOVE:
            if descriptor in self._sockets.get_map():
                self._sockets.unregister(descriptor)
            return
        events = _EVENTS[what]
        if descriptor in self._sockets.get_map():
            self._sockets.modify(descriptor, events)
        else:
            self._sockets.register(descriptor, events)

    def _wait(self, milliseconds: int) -> None:
        """libcurl says when it wants to be called if no socket is ready before; -1 is never."""
        self._until = None if milliseconds < 0 else time.monotonic() + milliseconds / 1000

    def _run(self) -> None:
        while True:
            wait = None if self._until is None else max(0.0, self._until - time.monotonic())
            for key, events in self._sockets.select(wait):
                if key.fileobj is self._woken:
                    self._woken.recv(64)
                    if self._ended:
                        return self._close()
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
        for request in new:
            curl = self._unused.pop() if self._unused else pycurl.Curl()
            try:
                _set_up(curl, request)
                self._multi.add_handle(curl)
            except (OSError, ValueError, pycurl.error) as error:
                curl.reset()
                self._unused.append(curl)
                request.done(_not_sent(error))
            else:
                self._under_way[curl] = request

    def _finish(self) -> None:
        more = len(self._under_way)
        while more:
            more, answered, failed = self._multi.info_read()
            for curl in answered:
                request = self._take(curl)
                answer = Answer(curl.getinfo(pycurl.RESPONSE_CODE), b"".join(request.chunks))
                self._put_back(curl)
                request.done(answer)
            for curl, code, text in failed:
                request = self._take(curl)
                error = _fetch_error(curl, code, text, request)
                self._put_back(curl)
                request.done(error)

    def _take(self, curl: pycurl.Curl) -> _Request:
        self._multi.remove_handle(curl)
        return self._under_way.pop(curl)

    def _put_back(self, curl: pycurl.Curl) -> None:
        curl.reset()
        if len(self._unused) < 64:
            self._unused.append(curl)

    def _close(self) -> None:
        for curl in self._under_way:
            self._multi.remove_handle(curl)
        self._multi.close()
        for resource in (self._sockets, self._woken, self._wake):
            resource.close()


_EVENTS = {
    pycurl.POLL_IN: selectors.EVENT_READ,
    pycurl.POLL_OUT: selectors.EVENT_WRITE,
    pycurl.POLL_INOUT: selectors.EVENT_READ | selectors.EVENT_WRITE,
}


def _set_up(curl: pycurl.Curl, request: _Request) -> None:
    """Tells libcurl all about one request; raises OSError or ValueError for a file that cannot be used."""
    target = request.target
    headers = _headers(target)
    url = f"{target.url}/{request.path}"
    if target.server_name and url.startswith("https:"):
        # The name is asked for (SNI) and verified in place of the URL's host, which is connected to and named in Host.
        host = url.split("/")[2]
        name = f"[{target.server_name}]" if ":" in target.server_name else target.server_name
        url = url.replace(f"//{host}", f"//{name}{_port(host)}", 1)
        curl.setopt(pycurl.CONNECT_TO, [f"::{host if _port(host) else host + ':443'}"])
        headers += (("Host", host),)
    for option, value in (
        (pycurl.URL, url),
        (pycurl.HTTPHEADER, [f"{name}: {value}".encode("latin-1") for name, value in headers] + [b"Accept:"]),
        (pycurl.ACCEPT_ENCODING, "gzip, deflate"),  # what is read; the header above asks for neither
        (pycurl.CONNECTTIMEOUT_MS, _milliseconds(target.timeout)),
        (pycurl.TIMEOUT_MS, _milliseconds(request.seconds)),
        (pycurl.PREREQFUNCTION, request.connected),
        (pycurl.WRITEFUNCTION, request.write),
        (pycurl.MAXFILESIZE_LARGE, SIZE_LIMIT),
        (pycurl.PROXY, ""),
        (pycurl.NOSIGNAL, 1),
        (pycurl.PATH_AS_IS, 1),
        (pycurl.HTTP_VERSION, pycurl.CURL_HTTP_VERSION_1_1),
        (pycurl.MAXAGE_CONN, KEPT_IDLE),
        (pycurl.MAXLIFETIME_CONN, KEPT_AT_MOST),
    ):
        curl.setopt(option, value)
    if target.admits or target.refuses:
        curl.setopt(pycurl.OPENSOCKETFUNCTION, request.open_socket)
        curl.setopt(pycurl.FRESH_CONNECT, 1)  # one that was made for others may lead to another address
        curl.setopt(pycurl.FORBID_REUSE, 1)
    if url.startswith("https:"):
        _set_up_tls(curl, target)


def _set_up_tls(curl: pycurl.Curl, target: Target) -> None:
    curl.setopt(pycurl.SSLVERSION, pycurl.SSLVERSION_TLSv1_2)
    if target.verify is False:
        curl.setopt(pycurl.SSL_VERIFYPEER, 0)
        curl.setopt(pycurl.SSL_VERIFYHOST, 0)
    elif target.verify is True:
        curl.setopt(pycurl.CAINFO, certifi.where())
    elif Path(str(target.verify)).is_dir():
        curl.setopt(pycurl.CAPATH, str(target.verify))
    else:
        # Read here, since libcurl keeps what it read of a file for a day.
        curl.setopt(pycurl.CAINFO_BLOB, _pem(str(target.verify)))
    if target.cert_file:
        # Read here too, so that no connection is used again that was made with what has been replaced since.
        curl.setopt(pycurl.SSLCERT_BLOB, _pem(target.cert_file))
        curl.setopt(pycurl.SSLKEY_BLOB, _pem(target.key_file or target.cert_file))
        curl.setopt(pycurl.SSL_SESSIONID_CACHE, 0)  # a resumed session would show the certificate that was replaced


def _headers(target: Target) -> Headers:
    """Returns each header once; those of files win, since only they can have changed since the start."""
    own = (("User-Agent", f"patroni-staytus-exporter/{__version__}"), ("Accept-Encoding", "identity"))
    of_files = (header for file in target.header_files for header in file.headers())
    return tuple({name.lower(): (name, value) for name, value in (*own, *target.headers, *of_files)}.values())


def _pem(file: str) -> bytes:
    pem = Path(file).read_bytes()
    if b"-----BEGIN" not in pem:
        raise ValueError(f"{file}: expected PEM")
    return pem


def _port(host: str) -> str:
    _, colon, port = host.rpartition("]")[2].partition(":")
    return colon + port


def _milliseconds(seconds: float) -> int:
    return max(1, round(seconds * 1000))


def _not_sent(error: Exception) -> FetchError:
    if isinstance(error, OSError):
        return FetchError(f"{error.filename}: {os.strerror(error.errno or 0).lower()}", sent=False)
    if isinstance(error, pycurl.error):
        return FetchError(f"the request cannot be sent: {error.args[-1]}", sent=False)
    return FetchError(str(error), sent=False)


def _fetch_error(curl: pycurl.Curl, code: int, text: str, request: _Request) -> FetchError:
    """Returns the error as a person would say it, from libcurl's number and text."""
    sent = curl.getinfo(pycurl.REQUEST_SIZE) > 0
    if request.refused:
        return FetchError(request.refused, sent=sent)
    if code == pycurl.E_OPERATION_TIMEDOUT:
        if sent:
            return FetchError(f"no whole answer within {request.seconds:g} s")
        return FetchError(f"no connection within {request.target.timeout:g} s", sent=False)
    if code == pycurl.E_FILESIZE_EXCEEDED:
        return FetchError(_too_large())
    return FetchError(reason(curl, code, text, request.target), sent=sent)


def _too_large() -> str:
    return f"the answer is larger than {SIZE_LIMIT // 1024 // 1024} MiB"
