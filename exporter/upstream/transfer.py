"""One request as libcurl is told of it: its headers, TLS and limits, and what may happen on its way."""

import re
import socket
import time
from collections.abc import Callable
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import certifi
import pycurl

from exporter.collectors.document import Answer
from exporter.config import readers
from exporter.upstream.errors import reason
from exporter.upstream.target import Target
from exporter.version import __version__

#: Bytes of an answer, before and after decompression. libcurl itself allows 300 kB for all of its header.
SIZE_LIMIT = 16 * 1024 * 1024

#: Seconds after which a kept connection is not used again: since it was last used, and since it was made, as the
#: certificates of either side may have been replaced meanwhile.
KEPT_IDLE, KEPT_AT_MOST = 60, 300

#: Seconds in which a kept connection that the server has closed meanwhile shows that.
STALE_WITHIN = 1.0

_ADDRESS = re.compile(r"https?://(\[|[\d.]+(:|/|$))")


class FetchError(Exception):
    """There is no answer; the text says why, and holds neither header nor userinfo.

    `sent` tells whether the server may have got the request.
    """

    def __init__(self, reason: str, *, sent: bool = True):
        super().__init__(reason)
        self.sent = sent


#: Takes what became of a request. It must be quick: mostly it runs in the thread that all requests share.
Done = Callable[[Answer | FetchError], None]


class Request:
    """A request on its way; `seconds` is how long the whole of it may take.

    The files of its target are read here, in the thread of whoever asks: a disk that hangs is then no other's matter.
    Raises OSError or ValueError for a file that cannot be used.
    """

    def __init__(self, target: Target, path: str, seconds: float, done: Done) -> None:
        self.target = target
        self.done = done
        self._path = path
        self._seconds = seconds
        self._headers = _headers(target)
        self._tls = _tls(target) if target.url.startswith("https:") else {}
        self._chunks: list[bytes] = []
        self._size = 0
        self._sent_first = 0.0
        self._refused = ""

    def set_up(self, curl: pycurl.Curl) -> None:
        """Tells libcurl all about it."""
        target, headers = self.target, self._headers
        url = f"{target.url}/{self._path}"
        if target.server_name and url.startswith("https:"):
            # The name is asked for (SNI) and verified in place of the URL's host, which is connected to and in Host.
            host = url.split("/")[2]
            name = f"[{target.server_name}]" if ":" in target.server_name else target.server_name
            url = url.replace(f"//{host}", f"//{name}{_port(host)}", 1)
            curl.setopt(pycurl.CONNECT_TO, [f"::{host if _port(host) else host + ':443'}"])
            headers = [*headers, f"Host: {host}".encode()]
        for option, value in {
            pycurl.URL: url,
            pycurl.HTTPHEADER: [*headers, b"Accept:"],
            pycurl.ACCEPT_ENCODING: "gzip, deflate",  # what is read; the header above asks for neither
            pycurl.CONNECTTIMEOUT_MS: _milliseconds(target.timeout),
            pycurl.TIMEOUT_MS: _milliseconds(self._seconds),
            pycurl.PREREQFUNCTION: self._connected,
            pycurl.WRITEFUNCTION: self._write,
            pycurl.MAXFILESIZE_LARGE: SIZE_LIMIT,
            pycurl.PROXY: "",
            pycurl.NOSIGNAL: 1,
            # libcurl remembers addresses too as names looked up, and goes through all of them with each request.
            pycurl.DNS_CACHE_TIMEOUT: 0 if _ADDRESS.match(target.url) else 60,
            pycurl.PATH_AS_IS: 1,
            pycurl.HTTP_VERSION: pycurl.CURL_HTTP_VERSION_1_1,
            pycurl.MAXAGE_CONN: KEPT_IDLE,
            pycurl.MAXLIFETIME_CONN: KEPT_AT_MOST,
            **self._tls,
        }.items():
            curl.setopt(option, value)
        if target.admits or target.refuses:
            curl.setopt(pycurl.OPENSOCKETFUNCTION, self._open_socket)
            curl.setopt(pycurl.FRESH_CONNECT, 1)  # one that was made for others may lead to another address
            curl.setopt(pycurl.FORBID_REUSE, 1)

    def answer(self, curl: pycurl.Curl) -> Answer:
        """Returns what came, which is whole."""
        return Answer(curl.getinfo(pycurl.RESPONSE_CODE), b"".join(self._chunks))

    def error(self, curl: pycurl.Curl, code: int, text: str) -> FetchError:
        """Returns the error as a person would say it, from libcurl's number and text."""
        sent = curl.getinfo(pycurl.REQUEST_SIZE) > 0
        if self._refused:
            return FetchError(self._refused, sent=sent)
        if code == pycurl.E_OPERATION_TIMEDOUT:
            if sent:
                return FetchError(f"no whole answer within {self._seconds:g} s")
            return FetchError(f"no connection within {self.target.timeout:g} s", sent=False)
        if code == pycurl.E_FILESIZE_EXCEEDED:
            return FetchError(_too_large())
        return FetchError(reason(curl, code, text, self.target), sent=sent)

    def _write(self, chunk: bytes) -> int | None:
        """Takes a part of the body; what is not None ends the request."""
        self._size += len(chunk)
        if self._size > SIZE_LIMIT:
            self._refused = _too_large()
            return 0
        self._chunks.append(chunk)
        return None

    def _connected(self, *_: object) -> int:
        """Lets libcurl send over this connection: the first one, or another one where a kept one was stale."""
        self._sent_first = self._sent_first or time.monotonic()
        if time.monotonic() - self._sent_first > STALE_WITHIN:
            self._refused = "the connection was closed without an answer"
            return int(pycurl.PREREQFUNC_ABORT)
        return int(pycurl.PREREQFUNC_OK)

    def _open_socket(self, _purpose: int, address: Any) -> socket.socket | int:
        """Makes the socket for an address that libcurl has looked up and is about to connect to, if it is allowed."""
        family, kind, protocol, (host, *_) = address
        ip = ip_address(host.decode() if isinstance(host, bytes) else host)
        admits, refuses = self.target.admits, self.target.refuses
        if (admits and not any(ip in network for network in admits)) or any(ip in network for network in refuses):
            self._refused = f"the address {ip} is not allowed"
            return int(pycurl.SOCKET_BAD)
        return socket.socket(family, kind, protocol)


def not_sent(error: Exception) -> FetchError:
    """Returns the error of a request that could not even be begun."""
    if isinstance(error, OSError):
        return FetchError(f"{error.filename}: {(error.strerror or '').lower()}", sent=False)
    if isinstance(error, pycurl.error):
        return FetchError(f"the request cannot be sent: {error.args[-1]}", sent=False)
    return FetchError(str(error), sent=False)


def _headers(target: Target) -> list[bytes]:
    """Returns each header once; those of files win, since only they can have changed since the start."""
    own = (("User-Agent", f"patroni-staytus-exporter/{__version__}"), ("Accept-Encoding", "identity"))
    of_files = (header for file in target.header_files for header in file.headers())
    headers = {name.lower(): (name, value) for name, value in (*own, *target.headers, *of_files)}
    return [f"{name}: {value}".encode("latin-1") for name, value in headers.values()]


def _tls(target: Target) -> dict[int, Any]:
    options: dict[int, Any] = {pycurl.SSLVERSION: pycurl.SSLVERSION_TLSv1_2}
    if target.verify is False:
        options |= {pycurl.SSL_VERIFYPEER: 0, pycurl.SSL_VERIFYHOST: 0}
    elif target.verify is True:
        options[pycurl.CAINFO] = certifi.where()
    elif Path(str(target.verify)).is_dir():
        options[pycurl.CAPATH] = str(target.verify)
    else:
        # Read here, since libcurl keeps what it read of a file for a day.
        options[pycurl.CAINFO_BLOB] = _pem(str(target.verify))
    if target.cert_file:
        # Read here too, so that no connection is used again that was made with what has been replaced since.
        options[pycurl.SSLCERT_BLOB] = _pem(target.cert_file)
        options[pycurl.SSLKEY_BLOB] = _pem(target.key_file or target.cert_file)
        options[pycurl.SSL_SESSIONID_CACHE] = 0  # a resumed session would show the certificate that was replaced
    return options


def _pem(file: str) -> bytes:
    pem = readers.file_content(file)
    if b"-----BEGIN" not in pem:
        raise ValueError(f"{file}: expected PEM")
    return pem


def _port(host: str) -> str:
    _, colon, port = host.rpartition("]")[2].partition(":")
    return colon + port


def _milliseconds(seconds: float) -> int:
    return max(1, round(seconds * 1000))


def _too_large() -> str:
    return f"the answer is larger than {SIZE_LIMIT // 1024 // 1024} MiB"
