"""Readers: each turns the text of a setting into its value and describes the texts that it accepts."""

import ipaddress
import re
import ssl
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar
from urllib.parse import unquote, urlsplit

from exporter.upstream.headers import Headers, Secret, file_content, header_lines, header_value, printable_line
from exporter.upstream.target import Login

T = TypeVar("T")


@dataclass(frozen=True)
class Reader(Generic[T]):
    """Turns a text into a value; raises ValueError or OSError for a text that is not as `expected`."""

    expected: str
    read: Callable[[str], T]

    def __call__(self, text: str) -> T:
        return self.read(text)


def expects(expected: str) -> Callable[[Callable[[str], T]], Reader[T]]:
    """Makes a function a reader."""
    return lambda read: Reader(expected, read)


def invalid() -> Any:
    """Raises ValueError, as an expression."""
    raise ValueError


def matching(pattern: str, text: str) -> str:
    """Returns the text; raises ValueError when it does not match the pattern, whose classes are those of ASCII."""
    return text if re.fullmatch(pattern, text, re.ASCII) else invalid()


# Numbers and names


def _between(low: float, value: T, high: float) -> T:
    return value if low <= value <= high else invalid()  # type: ignore[operator]


def integer(low: int, high: int, name: str = "a number") -> Reader[int]:
    """Reads an integer from low to high."""
    return Reader(f"{name} from {low} to {high}", lambda text: _between(low, int(matching(r"\d{1,9}", text)), high))


def seconds(low: float, high: float) -> Reader[float]:
    """Reads a number of seconds from low to high."""
    expected = f"a number of seconds from {low:g} to {high:g}"
    return Reader(expected, lambda text: _between(low, float(matching(r"\d+(\.\d*)?|\.\d+", text)), high))


_UNITS = {"h": 3600.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "μs": 1e-6, "ns": 1e-9, "m": 60.0, "s": 1.0}


@expects("a duration such as 5s, 500ms or 1m30s")
def duration(text: str) -> float:
    """Reads a duration as Go and Prometheus write it; returns seconds."""
    part = rf"(\d+\.?\d*|\.\d+)({'|'.join(_UNITS)})"
    return sum(float(count) * _UNITS[unit] for count, unit in re.findall(part, matching(f"({part})+", text), re.ASCII))


def duration_or_seconds(low: float, high: float) -> Reader[float]:
    """Reads a duration, or a number of seconds, from low to high."""

    @expects(f"{duration.expected}, from {low:g} s to {high / 3600:g}h")
    def read(text: str) -> float:
        return _between(low, duration(text), high) if text[-1:].isalpha() else seconds(low, high)(text)

    return read


@expects("true or false")
def boolean(text: str) -> bool:
    """Reads true or false."""
    # The unit of the old Patroni exporter has DEBUG=-d in its EnvironmentFile, so it is in the environment too.
    if text.lower() in ("true", "1", "yes", "on", "-d", "--debug"):
        return True
    return False if text.lower() in ("false", "0", "no", "off") else invalid()


def choice(names: Iterable[str], **aliases: str) -> Reader[str]:
    """Reads one of the names, or an alias of one."""
    names = tuple(names)

    @expects(f"one of {', '.join(filter(None, names))}")
    def read(text: str) -> str:
        name = aliases.get(text, text)
        return name if name in names else invalid()

    return read


def subset(names: Iterable[str]) -> Reader[tuple[str, ...]]:
    """Reads some of the names, separated by commas."""
    names = tuple(names)

    @expects(f"a list of {', '.join(names)}, separated by commas")
    def read(text: str) -> tuple[str, ...]:
        found = tuple(dict.fromkeys(name.strip() for name in text.split(",")))
        return found if set(found) <= set(names) else invalid()

    return read


# Addresses


@expects("one of ipv4, ipv6, AF_INET, AF_INET6")
def address_family(text: str) -> str:
    """Reads AF_INET or AF_INET6."""
    families = {"ipv4": "AF_INET", "ipv6": "AF_INET6", "af_inet": "AF_INET", "af_inet6": "AF_INET6"}
    return families.get(text.lower()) or invalid()


@expects("an address or a host name")
def host(text: str) -> str:
    """Reads an address, also in brackets, or a host name."""
    bare = text[1:-1] if text.startswith("[") and text.endswith("]") else text
    return matching(r"[0-9A-Za-z_.:%-]*", bare)


@expects("a host name")
def host_name(text: str) -> str:
    """Reads a name or an address that a certificate can have."""
    if re.fullmatch(r"[0-9A-Za-z_-]+(\.[0-9A-Za-z_-]+)*", text) and len(text) < 254:
        return text
    return str(ipaddress.IPv6Address(text))


@dataclass(frozen=True)
class BaseURL:
    """The URL of a server without a slash at its end and without userinfo, and the login in its userinfo."""

    url: str
    login: Login | None = None

    def __str__(self) -> str:
        return self.url


def base_url(example: str) -> Reader[BaseURL]:
    """Reads the URL of a server; its userinfo is percent-encoded UTF-8."""

    @expects(f"a URL such as {example}")
    def read(text: str) -> BaseURL:
        url = urlsplit(text)
        if url.scheme not in ("http", "https") or not url.hostname or url.port == 0 or url.query or url.fragment:
            raise ValueError
        userinfo, _, hostport = url.netloc.rpartition("@")
        if re.search(r"[^!-~]", text) or not re.fullmatch(r"(\[.*\]|[\w-][\w.-]*)(:\d*)?", hostport):
            raise ValueError
        if hostport.startswith("["):
            ipaddress.IPv6Address(url.hostname)
        user, _, password = (unquote(part, errors="strict") for part in userinfo.partition(":"))
        login = Login(user, Secret(password)) if userinfo else None
        return BaseURL(f"{url.scheme}://{hostport}{url.path}".rstrip("/"), login)

    return read


def patroni_base(url: str) -> str:
    """Returns the base URL of Patroni's REST API for a URL with or without /patroni at its end."""
    return re.sub(r"(?<!:/)/patroni$", "", url).rstrip("/")  # in http://patroni it is the host


# Files


@expects("the path of a file")
def path(text: str) -> str:
    """Reads the path of a file, which need not exist."""
    return text if text.isprintable() and "://" not in text else invalid()


@expects("the path of a CA bundle that can be read")
def ca_bundle(text: str) -> str:
    """Reads the path of a file or directory of certificates."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if Path(text).is_dir():
        context.load_verify_locations(capath=text)
    else:
        file_content(text)  # raises OSError for a FIFO
        context.load_verify_locations(text)
    return text


@expects("true, false or the path of a CA bundle that can be read")
def verify(text: str) -> bool | str:
    """Reads true, false, or the path of a file or directory of certificates."""
    return text.lower() == "true" if text.lower() in ("true", "false") else ca_bundle(text)


def _pem_file(kind: str, mark: str) -> Reader[str]:
    @expects(f"the path of a file with a {kind} in PEM")
    def read(text: str) -> str:
        return text if mark in file_content(text).decode() else invalid()

    return read


certificate_file = _pem_file("certificate", "-----BEGIN CERTIFICATE-----")
key_file = _pem_file("private key", "PRIVATE KEY-----")


# Credentials


@expects("a name without a colon")
def user_name(text: str) -> str:
    """Reads a user name of basic authentication, which has no colon (RFC 7617, section 2)."""
    return text if text and ":" not in text and text.isprintable() else invalid()


password = Reader("a password, one line", printable_line)
ascii_line = Reader("one line of ASCII", header_value)
headers: Reader[Headers] = Reader("lines of the form Name: value, each name once", header_lines)
