"""One request as libcurl sends it, and the requests.Response or FetchError that comes of it."""

import re
import socket
import time
from collections.abc import Callable, Mapping
from io import BytesIO
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import certifi
import pycurl
from requests import PreparedRequest, Response
from requests.utils import get_encoding_from_headers

from exporter.upstream.errors import ConnectionFailed, ConnectTimedOut, FetchError, ReadTimedOut, curl_error
from exporter.upstream.headers import file_content

#: Bytes of a response, before and after decompression, by default. libcurl limits the header to 300 kB.
SIZE_LIMIT = 16 * 1024 * 1024

#: Seconds after which a kept connection is not used again: since its last use, and since it was made, because the
#: certificates of either side may have been replaced.
KEPT_IDLE, KEPT_AT_MOST = 60, 300

#: Seconds within which a kept connection that the server has closed is noticed and replaced.
STALE_WITHIN = 1.0

#: Decides whether the address of a host and port may be connected to.
AddressPolicy = Callable[[str, int, IPv4Address | IPv6Address], bool]

#: Receives the result of a request. It runs in the thread that sends all requests, so it must be quick.
Done = Callable[[Response | FetchError], None]

#: Seconds for the connection and for the whole response, or one number for both; None is no limit, as in requests.
Timeout = float | tuple[float | None, float | None] | None

_ADDRESS = re.compile(r"https?://(\[|[\d.]+(:|/|$))")


class Transfer:
    """A request in flight; `header` are its header lines, `size_limit` is the largest response in bytes.

    The TLS files are read here, in the calling thread, because a disk can hang. Raises OSError or ValueError when one
    cannot be used.
    """

    def __init__(
        self,
        request: PreparedRequest,
        done: Done,
        size_limit: int,
        header: list[bytes],
        timeout: Timeout,
        verify: bool | str,
        cert: str | tuple[str, str] | None,
        server_name: str,
        allows: AddressPolicy | None,
    ) -> None:
        self.request = request
        self.done = done
        self._connect_timeout, self._total_timeout = timeout if isinstance(timeout, tuple) else (timeout, timeout)
        self._verify, self._cert = verify, cert
        self._server_name = server_name
        self._url = str(request.url)
        self._tls = _tls(verify, cert) if self._url.startswith("https:") else {}
        self._allows = None if _ADDRESS.match(self._url) else allows
        self._size_limit = size_limit
        self._header = header
        self._received = BytesIO()
        self._body = bytearray()
        self._sent_first = 0.0
        self._refused = ""

    def set_up(self, curl: pycurl.Curl) -> None:
        """Sets the options of libcurl for this request."""
        url, header = self._url, self._header
        if self._server_name and url.startswith("https:"):
            # The name is sent (SNI) and verified in place of the URL's host, which is connected to and is in Host.
            host = url.split("/")[2]
            name = f"[{self._server_name}]" if ":" in self._server_name else self._server_name
            url = url.replace(f"//{host}", f"//{name}{_port(host)}", 1)
            curl.setopt(pycurl.CONNECT_TO, [f"::{host if _port(host) else host + ':443'}"])
            header = [*header, f"Host: {host}".encode()]
        for option, value in {
            pycurl.URL: url,
            pycurl.HTTPHEADER: header,
            pycurl.ACCEPT_ENCODING: "gzip, deflate",  # what is decoded; the header of the request wins
            pycurl.CONNECTTIMEOUT_MS: _milliseconds(self._connect_timeout),
            pycurl.TIMEOUT_MS: _milliseconds(self._total_timeout),
            pycurl.PREREQFUNCTION: self._connected,
            pycurl.HEADERFUNCTION: self._received.write,
            pycurl.WRITEFUNCTION: self._write,
            pycurl.MAXFILESIZE_LARGE: self._size_limit,
            pycurl.PROXY: "",
            pycurl.NOSIGNAL: 1,
            # libcurl also caches addresses as if they were names, and searches all of them for each request.
            pycurl.DNS_CACHE_TIMEOUT: 0 if _ADDRESS.match(url) else 60,
            pycurl.PATH_AS_IS: 1,
            pycurl.HTTP_VERSION: pycurl.CURL_HTTP_VERSION_1_1,
            pycurl.MAXAGE_CONN: KEPT_IDLE,
            pycurl.MAXLIFETIME_CONN: KEPT_AT_MOST,
            **self._tls,
        }.items():
            curl.setopt(option, value)
        if self.request.method == "HEAD":
            curl.setopt(pycurl.NOBODY, 1)
        elif self.request.method != "GET" or self.request.body:
            curl.setopt(pycurl.POSTFIELDS, self.request.body or b"")
            curl.setopt(pycurl.CUSTOMREQUEST, self.request.method)
        if self._allows:
            curl.setopt(pycurl.OPENSOCKETFUNCTION, self._open_socket)
            curl.setopt(pycurl.FRESH_CONNECT, 1)  # a connection made for another module may lead to another address
            curl.setopt(pycurl.FORBID_REUSE, 1)

    def response(self, curl: pycurl.Curl) -> Response:
        """Returns the response, whose content is whole and decompressed."""
        response = Response()
        response.request = self.request
        response.url = self._url
        response.status_code = curl.getinfo(pycurl.RESPONSE_CODE)
        # After 1xx responses there are more headers than one; the last one counts.
        status, *lines = self._received.getvalue().decode("latin-1").strip().rpartition("\r\n\r\n")[2].split("\r\n")
        response.reason = status.split(" ", 2)[-1]
        headers: dict[str, str] = {}
        for line in lines:
            name, _, value = line.partition(":")
            headers[name] = f"{headers[name]}, {value.strip()}" if name in headers else value.strip()
        response.headers.update(headers)
        response.encoding = get_encoding_from_headers(response.headers)
        response.raw = BytesIO(self._body)
        return response

    def error(self, curl: pycurl.Curl, code: int, text: str) -> FetchError:
        """Returns the exception for libcurl's error code and text."""
        sent = curl.getinfo(pycurl.REQUEST_SIZE) > 0
        if self._refused or code == pycurl.E_FILESIZE_EXCEEDED:
            return ConnectionFailed(self._refused or self._too_large(), self.request, sent=sent)
        if code == pycurl.E_OPERATION_TIMEDOUT and sent:
            return ReadTimedOut(f"no whole response within {self._total_timeout:g} s", self.request)
        if code == pycurl.E_OPERATION_TIMEDOUT:
            return ConnectTimedOut(f"no connection within {self._connect_timeout:g} s", self.request, sent=False)
        return curl_error(curl, code, text, self.request, verify=self._verify, cert=self._cert)

    def _write(self, chunk: bytes) -> int | None:
        """Takes a part of the body; any result but None ends the request."""
        if len(self._body) + len(chunk) > self._size_limit:
            self._refused = self._too_large()
            return 0
        self._body += chunk
        return None

    def _too_large(self) -> str:
        return f"the response is larger than {self._size_limit // 1024 // 1024} MiB"

    def _connected(self, *_: object) -> int:
        """Allows libcurl to send over this connection: the first one, or the one that replaces a stale one."""
        self._sent_first = self._sent_first or time.monotonic()
        if time.monotonic() - self._sent_first > STALE_WITHIN:
            self._refused = "the connection was closed without a response"
            return int(pycurl.PREREQFUNC_ABORT)
        return int(pycurl.PREREQFUNC_OK)

    def _open_socket(self, _purpose: int, address: Any) -> socket.socket | int:
        """Returns the socket for an address that libcurl has looked up, if the address is allowed."""
        family, kind, protocol, (host, port, *_) = address
        ip = ip_address(host.decode() if isinstance(host, bytes) else host)
        if self._allows and not self._allows(urlsplit(self._url).hostname or "", port, ip):
            self._refused = f"the address {ip} is not allowed"
            return int(pycurl.SOCKET_BAD)
        return socket.socket(family, kind, protocol)


def header_lines(headers: Mapping[str, str]) -> list[bytes]:
    """Returns the header lines of a request in the form of libcurl, without those that it would add itself."""
    lines = [f"{name}: {value}" if value else f"{name};" for name, value in headers.items()]
    if "Accept" not in headers:
        lines.append("Accept:")
    return [line.encode("latin-1") for line in lines]


def _tls(verify: bool | str, cert: str | tuple[str, str] | None) -> dict[int, Any]:
    options: dict[int, Any] = {pycurl.SSLVERSION: pycurl.SSLVERSION_TLSv1_2}
    if verify is False:
        options |= {pycurl.SSL_VERIFYPEER: 0, pycurl.SSL_VERIFYHOST: 0}
    elif verify is True:
        options[pycurl.CAINFO] = certifi.where()
    elif Path(verify).is_dir():
        options[pycurl.CAPATH] = verify
    else:
        # Read here, because libcurl caches the content of a file for a day.
        options[pycurl.CAINFO_BLOB] = _pem(verify)
    if cert:
        cert_file, key_file = (cert, cert) if isinstance(cert, str) else cert
        # Read here too, so that no connection is used again that was made with a replaced certificate.
        options[pycurl.SSLCERT_BLOB] = _pem(cert_file)
        options[pycurl.SSLKEY_BLOB] = _pem(key_file)
        options[pycurl.SSL_SESSIONID_CACHE] = 0  # a resumed session would present the replaced certificate
    return options


def _pem(file: str) -> bytes:
    pem = file_content(file)
    if b"-----BEGIN" not in pem:
        raise ValueError(f"{file}: expected PEM")
    return pem


def _port(host: str) -> str:
    _, colon, port = host.rpartition("]")[2].partition(":")
    return colon + port


def _milliseconds(seconds: float | None) -> int:
    return 0 if seconds is None else max(1, round(seconds * 1000))
