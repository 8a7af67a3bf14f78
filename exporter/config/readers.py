"""How the text of a setting is read: each of these turns a text into a value, or raises ValueError."""

import base64
import errno
import ipaddress
import math
import os
import re
import ssl
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import unquote_to_bytes, urlsplit

#: Names and values of HTTP headers.
Headers = tuple[tuple[str, str], ...]


def whole(low: int, high: int) -> Callable[[str], int]:
    """Reads a whole number from low to high."""

    def read(text: str) -> int:
        if not re.fullmatch(r"\d{1,9}", text, re.ASCII) or not low <= int(text) <= high:
            raise ValueError
        return int(text)

    return read


def seconds(low: float, high: float) -> Callable[[str], float]:
    """Reads seconds, with or without a fraction, from low to high."""

    def read(text: str) -> float:
        value = float(text) if re.fullmatch(r"\d+(\.\d*)?|\.\d+", text, re.ASCII) else math.nan
        if not low <= value <= high:
            raise ValueError
        return value

    return read


def switch(text: str) -> bool:
    """Reads yes or no."""
    # The old Patroni exporter's unit file has DEBUG=-d in its EnvironmentFile, so it comes as a variable too.
    if text.lower() in ("true", "1", "yes", "on", "-d", "--debug"):
        return True
    if text.lower() in ("false", "0", "no", "off"):
        return False
    raise ValueError


def address_family(text: str) -> str:
    """Reads AF_INET or AF_INET6."""
    return {"ipv4": "AF_INET", "ipv6": "AF_INET6", "af_inet": "AF_INET", "af_inet6": "AF_INET6"}.get(
        text.lower()
    ) or refuse()


def verify(text: str) -> bool | str:
    """Reads true, false, or the path of a file or folder of certificates."""
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    try:
        if Path(text).is_dir():
            ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(capath=text)
        else:
            file_content(text)
            ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(text)
    except OSError:  # it is not there, may not be read, or holds no certificate
        raise ValueError from None
    return text


def url(text: str) -> tuple[str, Headers]:
    """Reads a URL without a slash at its end, and the header that its userinfo asks for."""
    parts = urlsplit(text)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.port == 0 or parts.query or parts.fragment:
        raise ValueError
    userinfo, _, hostport = parts.netloc.rpartition("@")
    if re.search(r"[^!-~]", text) or not re.fullmatch(r"(\[.*\]|[\w-][\w.-]*)(:\d*)?", hostport):
        raise ValueError
    if hostport.startswith("["):
        ipaddress.IPv6Address(parts.hostname)
    user, _, password = userinfo.partition(":")
    login = basic_login(unquote_to_bytes(user), unquote_to_bytes(password)) if userinfo else ()
    return f"{parts.scheme}://{hostport}{parts.path}".rstrip("/"), login


def patroni_base(url: str) -> str:
    """Returns the base of Patroni's REST API, from its URL with or without /patroni at the end."""
    return re.sub(r"(?<!:/)/patroni$", "", url).rstrip("/")  # http://patroni is a host


def duration(low: float, high: float) -> Callable[[str], float]:
    """Reads seconds from low to high as Prometheus writes them (1m30s, 500ms), or as a number."""

    def read(text: str) -> float:
        units = re.fullmatch(r"(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?(?:(\d+)ms)?", text, re.ASCII)
        if not text or units is None:
            return seconds(low, high)(text)
        value = sum(int(count or 0) * unit for count, unit in zip(units.groups(), (3600, 60, 1, 0.001), strict=True))
        return value if low <= value <= high else refuse()

    return read


def basic_login(user: bytes, password: bytes) -> Headers:
    """Returns the header for this user; the colon stands even without a password (RFC 7617, section 2)."""
    return (("Authorization", f"Basic {base64.b64encode(user + b':' + password).decode()}"),)


def some_of(known: str) -> Callable[[str], tuple[str, ...]]:
    """Reads names out of the known ones, separated by commas."""

    def read(text: str) -> tuple[str, ...]:
        names = tuple(dict.fromkeys(name.strip() for name in text.split(",")))
        return names if set(names) <= set(known.split(",")) else refuse()

    return read


def one_of(known: str, **others: str) -> Callable[[str], str]:
    """Reads one of the known names, which are separated by commas, or another spelling of one."""

    def read(text: str) -> str:
        name = others.get(text, text)
        return name if name in known.split(",") else refuse()

    return read


def host(text: str) -> str:
    """Reads an address, also in brackets, or a host name."""
    bare = text[1:-1] if text.startswith("[") and text.endswith("]") else text
    return bare if re.fullmatch(r"[0-9A-Za-z_.:%-]*", bare) else refuse()


def header_value(text: str) -> str:
    """Reads what can be the value of an HTTP header."""
    return text if re.fullmatch(r"[!-~]([ -~]*[!-~])?", text) else refuse()


def path(text: str) -> str:
    """Reads the path of a file that may come and go, which is no URL."""
    return text if text.isprintable() and "://" not in text else refuse()


def line(text: str) -> str:
    """Reads one line of printable text."""
    return text if text and text.isprintable() else refuse()


#: What belongs to the connection, or decides how an answer comes: an HTTP client says these itself.
_OF_THE_CLIENT = (
    *("accept-encoding", "connection", "content-length", "expect", "keep-alive", "proxy-connection", "range"),
    *("te", "trailer", "transfer-encoding", "upgrade"),
)


def header_lines(text: str) -> Headers:
    """Reads headers, one in a line, each name once: Name: value. Those that belong to the connection are refused."""
    headers: dict[str, tuple[str, str]] = {}
    for row in filter(str.strip, text.splitlines()):
        name, _, value = row.partition(":")
        name, key = name.strip(), name.strip().lower()
        if not re.fullmatch(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+", name) or key in _OF_THE_CLIENT or key in headers:
            raise ValueError
        headers[key] = (name, header_value(value.strip()))
    return tuple(headers.values()) or refuse()


def login_name(text: str) -> str:
    """Reads a user name of basic authentication, which has no colon (RFC 7617, section 2)."""
    return text if ":" not in text and text.isprintable() else refuse()


def host_name(text: str) -> str:
    """Reads a name, or an address, that a certificate can be for."""
    if re.fullmatch(r"[0-9A-Za-z_-]+(\.[0-9A-Za-z_-]+)*", text) and len(text) < 254:
        return text
    try:
        return str(ipaddress.IPv6Address(text))
    except ValueError:
        raise ValueError from None


def certificate_file(text: str) -> str:
    """Reads the path of a file with a certificate in PEM."""
    _pem(text, "-----BEGIN CERTIFICATE-----")
    return text


def key_file(text: str) -> str:
    """Reads the path of a file with a private key in PEM."""
    _pem(text, "PRIVATE KEY-----")
    return text


def belong_together(cert_file: str, key_file: str) -> bool:
    """Tells whether these files hold a certificate and its private key, without a passphrase; both can be in one."""
    try:
        # Without a passphrase of ours OpenSSL would ask for one on the terminal.
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_cert_chain(cert_file, key_file or None, password=lambda: b"")
    except (OSError, ValueError):
        return False
    return True


def _pem(path: str, mark: str) -> None:
    try:
        if mark not in file_content(path).decode():
            raise ValueError
    except OSError:
        raise ValueError from None


def file_content(path: str) -> bytes:
    """Returns what a file holds; raises OSError, also for a FIFO or a device, which could keep its reader for ever."""
    with open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)) as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise OSError(errno.EINVAL, "not a regular file", path)
        return file.read()


def refuse() -> Any:
    """Raises ValueError, as an expression."""
    raise ValueError
