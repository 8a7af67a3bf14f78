"""One request as libcurl sends it, and the requests.Response or FetchError that comes of it."""

import contextlib
import os
import re
import socket
import ssl
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from io import BytesIO
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import certifi
import pycurl
from requests import ConnectionError, ConnectTimeout, PreparedRequest, ReadTimeout, Response

from exporter.upstream.errors import UNKNOWN_HOST, FetchError, curl_error, failed
from exporter.upstream.headers import file_content
from exporter.upstream.names import NO_ADDRESS

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

#: The file of a client certificate, or that file and the file of its key.
Cert = str | tuple[str, str] | None

#: Seconds for the connection and for the whole response.
Timeout = tuple[float, float]

_ADDRESS = re.compile(r"https?://(\[|[\d.]+(:|/|$))")

#: A name that is looked up. libcurl knows localhost, and handles what has other characters.
_NAME = re.compile(r"(?!(.*\.)?localhost$)[a-z0-9._-]*[a-z0-9]\.?")


class Body(BytesIO):
    """The body of a response, with when the server's TLS certificate expires, in Unix seconds."""

    certificate_not_after: float | None = None


#: When the certificate of each host and port, and server name, expires, for responses over a kept connection.
_expiries: dict[tuple[str, str], float] = {}


@dataclass(eq=False)
class Transfer:
    """A request in flight; `options` are those of libcurl that it has in common with other requests to its server.

    `addresses` are those of its host, in the order in which libcurl tries them.
    """

    request: PreparedRequest
    size_limit: int
    done: Done
    options: Mapping[int, Any]
    verify: bool | str
    cert: Cert
    server_name: str
    allows: AddressPolicy | None

    def __post_init__(self) -> None:
        self.addresses: list[str] = []
        self._url = str(self.request.url)
        self._received = BytesIO()
        self._body = bytearray()
        self._sent_first = 0.0
        self._refused = ""

    def set_up(self, curl: pycurl.Curl) -> None:
        """Sets the options of libcurl for this request."""
        for option, value in self.options.items():
            curl.setopt(option, value)
        curl.setopt(pycurl.URL, self._url)
        curl.setopt(pycurl.PREREQFUNCTION, self._connected)
        curl.setopt(pycurl.HEADERFUNCTION, self._received.write)
        curl.setopt(pycurl.WRITEFUNCTION, self._write)
        curl.setopt(pycurl.MAXFILESIZE_LARGE, self.size_limit)
        if self.server_name and self._url.startswith("https:"):
            # The name is sent (SNI) and verified in place of the URL's host, which is connected to and is in Host.
            host = self._url.split("/")[2]
            name = f"[{self.server_name}]" if ":" in self.server_name else self.server_name
            curl.setopt(pycurl.URL, self._url.replace(f"//{host}", f"//{name}{_port(host)}", 1))
            curl.setopt(pycurl.CONNECT_TO, [f"::{host if _port(host) else host + ':443'}"])
            curl.setopt(pycurl.HTTPHEADER, [*self.options[pycurl.HTTPHEADER], f"Host: {host}".encode()])
            curl.setopt(pycurl.DNS_CACHE_TIMEOUT, 60)
        if self.addresses:
            url = urlsplit(self._url)
            port = url.port or (443 if url.scheme == "https" else 80)
            curl.setopt(pycurl.RESOLVE, [f"+{url.hostname}:{port}:{','.join(self.addresses)}"])
            curl.setopt(pycurl.DNS_CACHE_TIMEOUT, 1)  # libcurl searches all names in its cache for each request
        if self.request.method != "GET":
            curl.setopt(pycurl.POSTFIELDS, self.request.body or b"")
            curl.setopt(pycurl.CUSTOMREQUEST, self.request.method)
        if self.allows and not _ADDRESS.match(self._url):
            curl.setopt(pycurl.OPENSOCKETFUNCTION, self._open_socket)
            curl.setopt(pycurl.FRESH_CONNECT, 1)  # a connection made for another module may lead to another address
            curl.setopt(pycurl.FORBID_REUSE, 1)

    def response(self, curl: pycurl.Curl) -> Response:
        """Returns the response, whose content is whole and decompressed; it has no `reason` and no `encoding`."""
        response = Response()
        response.request = self.request
        response.url = self._url
        response.status_code = curl.getinfo(pycurl.RESPONSE_CODE)
        # After 1xx responses there are more headers than one; the last one counts.
        _, *lines = self._received.getvalue().decode("latin-1").strip().rpartition("\r\n\r\n")[2].split("\r\n")
        headers: dict[str, str] = {}
        for line in lines:
            name, _, value = line.partition(":")
            headers[name] = f"{headers[name]}, {value.strip()}" if name in headers else value.strip()
        response.headers.update(headers)
        response.raw = Body(self._body)
        if self._url.startswith("https:"):
            response.raw.certificate_not_after = self._certificate_not_after(curl)
        return response

    def _certificate_not_after(self, curl: pycurl.Curl) -> float | None:
        """Returns when the server's certificate expires; libcurl reports it for the first request of a connection."""
        server = self._url.split("/", 3)[2], self.server_name
        certificate = dict(next(iter(curl.getinfo(pycurl.INFO_CERTINFO)), ()))  # the first one is the server's
        with contextlib.suppress(KeyError, ValueError):
            _expiries[server] = float(ssl.cert_time_to_seconds(certificate["Expire date"]))
        return _expiries.get(server)

    def lookup_error(self, error: Exception) -> FetchError:
        """Returns the exception for a host name that could not be looked up."""
        kind, reason = UNKNOWN_HOST
        if isinstance(error, TimeoutError):
            kind, reason = ConnectTimeout, self._no_connection()
        elif isinstance(error, RuntimeError):
            kind, reason = FetchError, "no thread could be started for the request"
        elif isinstance(error, socket.gaierror) and error.errno not in NO_ADDRESS:  # the name server does not respond
            reason = f"the lookup of the host name failed: {str(error.strerror).lower()}"
        return failed(kind, reason, sent=False)

    def error(self, curl: pycurl.Curl, code: int, text: str) -> FetchError:
        """Returns the exception for libcurl's error code and text."""
        sent = curl.getinfo(pycurl.REQUEST_SIZE) > 0
        kind: type[FetchError]
        if self._refused or code == pycurl.E_FILESIZE_EXCEEDED:
            kind, reason = ConnectionError, self._refused or self._too_large()
        elif code == pycurl.E_OPERATION_TIMEDOUT and sent:
            kind, reason = ReadTimeout, f"no whole response within {self.options[pycurl.TIMEOUT_MS] / 1000:g} s"
        elif code == pycurl.E_OPERATION_TIMEDOUT:
            kind, reason = ConnectTimeout, self._no_connection()
        else:
            is_https = self._url.startswith("https:")
            kind, reason = curl_error(curl, code, text, is_https=is_https, verify=self.verify, cert=self.cert)
        return failed(kind, reason, sent=sent)

    def _write(self, chunk: bytes) -> int | None:
        """Takes a part of the body; any result but None ends the request."""
        if len(self._body) + len(chunk) > self.size_limit:
            self._refused = self._too_large()
            return 0
        self._body += chunk
        return None

    def _too_large(self) -> str:
        return f"the response is larger than {self.size_limit // 1024 // 1024} MiB"

    def _no_connection(self) -> str:
        return f"no connection within {self.options[pycurl.CONNECTTIMEOUT_MS] / 1000:g} s"

    def _connected(self, *_: object) -> int:
        """Allows libcurl to send over this connection: the first one, or the one that replaces a stale one."""
        self._sent_first = self._sent_first or time.monotonic()
        if time.monotonic() - self._sent_first > STALE_WITHIN:
            self._refused = "the connection was closed without a response"
            return int(pycurl.PREREQFUNC_ABORT)
        return int(pycurl.PREREQFUNC_OK)

    def _open_socket(self, _purpose: int, address: Any) -> "_Descriptor | int":
        """Returns the socket for an address that libcurl has looked up, if the address is allowed."""
        family, kind, protocol, (host, port, *_) = address
        ip = ip_address(host.decode() if isinstance(host, bytes) else host)
        if self.allows and not self.allows(urlsplit(self._url).hostname or "", port, ip):
            self._refused = f"the address {ip} is not allowed"
            return int(pycurl.SOCKET_BAD)
        return _Descriptor(socket.socket(family, kind, protocol).detach())


class _Descriptor:
    """A file descriptor that pycurl duplicates. A socket would warn when it is closed in the end."""

    def __init__(self, number: int) -> None:
        self._number = number

    def fileno(self) -> int:
        return self._number

    def __del__(self) -> None:
        os.close(self._number)


def name_of(request: PreparedRequest) -> str:
    """Returns the host of a request in lower case if it must be looked up, else nothing."""
    if _ADDRESS.match(url := str(request.url)):
        return ""
    host = urlsplit(url).hostname or ""
    return host if _NAME.fullmatch(host) else ""


def curl_options(request: PreparedRequest, timeout: Timeout, verify: bool | str, cert: Cert) -> dict[int, Any]:
    """Returns the options of libcurl for requests to the server of this one and with its headers.

    The TLS files are read here, in the calling thread, because a disk can hang. Raises OSError or ValueError when one
    cannot be used.
    """
    url = str(request.url)
    lines = [f"{name}: {value}" if value else f"{name};" for name, value in request.headers.items()]
    if "Accept" not in request.headers:
        lines.append("Accept:")  # libcurl would add one
    return {
        pycurl.HTTPHEADER: [line.encode("latin-1") for line in lines],
        pycurl.ACCEPT_ENCODING: "gzip, deflate",  # what is decoded; the header of the request wins
        pycurl.CONNECTTIMEOUT_MS: max(1, round(timeout[0] * 1000)),
        pycurl.TIMEOUT_MS: max(1, round(timeout[1] * 1000)),
        pycurl.PROXY: "",
        pycurl.NOSIGNAL: 1,
        # libcurl also caches addresses as if they were names.
        pycurl.DNS_CACHE_TIMEOUT: 0 if _ADDRESS.match(url) else 60,
        pycurl.PATH_AS_IS: 1,
        pycurl.HTTP_VERSION: pycurl.CURL_HTTP_VERSION_1_1,
        pycurl.MAXAGE_CONN: KEPT_IDLE,
        pycurl.MAXLIFETIME_CONN: KEPT_AT_MOST,
        **(_tls(verify, cert) if url.startswith("https:") else {}),
    }


def _tls(verify: bool | str, cert: Cert) -> dict[int, Any]:
    options: dict[int, Any] = {pycurl.SSLVERSION: pycurl.SSLVERSION_TLSv1_2, pycurl.OPT_CERTINFO: 1}
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
