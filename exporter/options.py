"""What can be set: every option as one row, with its variable, its arguments, its default and how it is read."""

import base64
import ipaddress
import math
import re
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote_to_bytes, urlsplit


@dataclass(frozen=True)
class Option:
    """One setting, as the command line, the README's table and `.env.sample` show it.

    `read` turns its text into a value and raises ValueError. `service` is the service that it switches on. A secret is
    never shown, and can be given in a file named by the variable with `_FILE` at its end. An option that can be empty
    is given when its variable is there.
    """

    variable: str
    default: str | None
    meaning: str
    expected: str
    read: Callable[[str], Any]
    flags: tuple[str, ...] = ()
    service: str | None = None
    secret: bool = False
    can_be_empty: bool = False

    @property
    def is_switch(self) -> bool:
        """Tells whether its argument takes no value."""
        return self.read is _switch

    def show(self, value: Any) -> str:
        """Returns a value as one would write it, without userinfo; to hide a secret is up to the caller."""
        if self.read is _url:
            return str(value[0])
        if isinstance(value, tuple):
            return ",".join(value)
        return str(value).lower() if isinstance(value, bool) else str(value)


# Readers: a text becomes a value, or ValueError -----------------------------------------------------------------------


def _whole(low: int, high: int) -> Callable[[str], int]:
    def read(text: str) -> int:
        if not re.fullmatch(r"\d{1,9}", text, re.ASCII) or not low <= int(text) <= high:
            raise ValueError
        return int(text)

    return read


def _seconds(low: float, high: float) -> Callable[[str], float]:
    def read(text: str) -> float:
        seconds = float(text) if re.fullmatch(r"\d+(\.\d*)?|\.\d+", text, re.ASCII) else math.nan
        if not low <= seconds <= high:
            raise ValueError
        return seconds

    return read


def _switch(text: str) -> bool:
    # The old Patroni exporter's unit file has DEBUG=-d in its EnvironmentFile, so it comes as a variable too.
    if text.lower() in ("true", "1", "yes", "on", "-d", "--debug"):
        return True
    if text.lower() in ("false", "0", "no", "off"):
        return False
    raise ValueError


def _family(text: str) -> str:
    return {"ipv4": "AF_INET", "ipv6": "AF_INET6", "af_inet": "AF_INET", "af_inet6": "AF_INET6"}.get(
        text.lower()
    ) or _refuse()


def _verify(text: str) -> bool | str:
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    try:
        place = "capath" if Path(text).is_dir() else "cafile"
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(**{place: text})
    except OSError:  # it is not there, may not be read, or holds no certificate
        raise ValueError from None
    return text


def _url(text: str) -> tuple[str, tuple[tuple[str, str], ...]]:
    """Returns the URL without a slash at its end, and the header that its userinfo asks for."""
    url = urlsplit(text)
    if url.scheme not in ("http", "https") or not url.hostname or url.port == 0 or url.query or url.fragment:
        raise ValueError
    userinfo, _, hostport = url.netloc.rpartition("@")
    if re.search(r"[^!-~]", text) or not re.fullmatch(r"(\[.*\]|[\w-][\w.-]*)(:\d*)?", hostport):
        raise ValueError
    if hostport.startswith("["):
        ipaddress.IPv6Address(url.hostname)
    user, _, password = userinfo.partition(":")  # the colon stands even without a password: RFC 7617, section 2
    login = base64.b64encode(unquote_to_bytes(user) + b":" + unquote_to_bytes(password)).decode()
    headers = (("Authorization", f"Basic {login}"),) if userinfo else ()
    return f"{url.scheme}://{hostport}{url.path}".rstrip("/"), headers


def _some_of(known: str) -> Callable[[str], tuple[str, ...]]:
    """Reads names out of the known ones, separated by commas."""

    def read(text: str) -> tuple[str, ...]:
        names = tuple(dict.fromkeys(name.strip() for name in text.split(",")))
        return names if set(names) <= set(known.split(",")) else _refuse()

    return read


def _host(text: str) -> str:
    bare = text[1:-1] if text.startswith("[") and text.endswith("]") else text
    return bare if re.fullmatch(r"[0-9A-Za-z_.:%-]*", bare) else _refuse()


def _header_value(text: str) -> str:
    return text if re.fullmatch(r"[!-~]([ -~]*[!-~])?", text) else _refuse()


def _refuse() -> Any:
    raise ValueError


# The table ------------------------------------------------------------------------------------------------------------

PATRONI_COLLECTORS = "node,cluster,history,config,failsafe"
STAYTUS_COLLECTORS = "services,issues"

OPTIONS = (
    Option(
        "PATRONI_EXPORTER_PORT",
        "9547",
        "port to listen on; without it EXPORTER_PORT counts",
        "a port from 1 to 65535",
        _whole(1, 65535),
        ("-p", "--port"),
        "patroni",
    ),
    Option(
        "PATRONI_EXPORTER_BIND",
        "",
        "address or host name to listen on; empty is all interfaces",
        "an address or a host name",
        _host,
        ("-b", "--bind"),
        "patroni",
        can_be_empty=True,
    ),
    Option(
        "PATRONI_EXPORTER_URL",
        "http://localhost:8008/patroni",
        "Patroni's REST API, with or without /patroni at its end",
        "a URL such as http://localhost:8008/patroni",
        _url,
        ("-u", "--patroni-url"),
        "patroni",
    ),
    Option(
        "PATRONI_EXPORTER_DEBUG", "false", "log at debug level", "true or false", _switch, ("-d", "--debug"), "patroni"
    ),
    Option(
        "PATRONI_EXPORTER_TIMEOUT",
        "5",
        "seconds that Patroni has to answer",
        "a number of seconds from 0.01 to 3600",
        _seconds(0.01, 3600),
        ("-t", "--timeout"),
        "patroni",
    ),
    Option(
        "PATRONI_EXPORTER_ADDRESS_FAMILY",
        "AF_INET",
        "family of the address to listen on; AF_INET6 with an empty bind or :: listens on IPv4 too",
        "one of ipv4, ipv6, AF_INET, AF_INET6",
        _family,
        ("-a", "--address-family"),
        "patroni",
    ),
    Option(
        "PATRONI_EXPORTER_REQUEST_VERIFY",
        "true",
        "verification of Patroni's TLS certificate: true, false, or the path of a CA bundle",
        "true, false or the path of a CA bundle that can be read",
        _verify,
        ("--requests-verify",),
        "patroni",
    ),
    Option(
        "PATRONI_EXPORTER_COLLECT",
        PATRONI_COLLECTORS,
        "what is asked of Patroni; the first that is asked tells whether it is up",
        f"names out of {PATRONI_COLLECTORS}",
        _some_of(PATRONI_COLLECTORS),
        service="patroni",
    ),
    Option(
        "STAYTUS_API_URL",
        "http://localhost:8787/",
        "base URL of Staytus; a path in it is kept",
        "a URL such as http://localhost:8787/",
        _url,
        service="staytus",
    ),
    Option(
        "STAYTUS_API_TOKEN",
        None,
        "token of the Staytus API",
        "the token, one line of ASCII",
        _header_value,
        service="staytus",
        secret=True,
    ),
    Option(
        "STAYTUS_API_SECRET",
        None,
        "secret of the Staytus API",
        "the secret, one line of ASCII",
        _header_value,
        service="staytus",
        secret=True,
    ),
    Option(
        "POLLING_INTERVAL_SECONDS",
        "2",
        "Staytus is asked at most once in so many seconds",
        "a number of seconds from 1 to 60",
        _seconds(1, 60),
        service="staytus",
    ),
    Option(
        "STAYTUS_TIMEOUT",
        "5",
        "seconds that Staytus has to answer",
        "a number of seconds from 0.01 to 3600",
        _seconds(0.01, 3600),
        service="staytus",
    ),
    Option(
        "STAYTUS_REQUEST_VERIFY",
        "true",
        "verification of Staytus' TLS certificate: true, false, or the path of a CA bundle",
        "true, false or the path of a CA bundle that can be read",
        _verify,
        service="staytus",
    ),
    Option(
        "STAYTUS_COLLECT",
        STAYTUS_COLLECTORS,
        "what is asked of Staytus; the first that is asked tells whether it is up",
        f"names out of {STAYTUS_COLLECTORS}",
        _some_of(STAYTUS_COLLECTORS),
        service="staytus",
    ),
    Option(
        "EXPORTER_PORT",
        "9877",
        "port to listen on when only Staytus is on",
        "a port from 1025 to 65535",
        _whole(1025, 65535),
        service="staytus",
    ),
    Option(
        "DEBUG",
        "False",
        "log at debug level; alone it switches no module on",
        "True, true, 1, yes or False, false, 0, no",
        _switch,
    ),
    Option(
        "EXPORTER_WORKERS", "1", "gunicorn's worker processes", "a number from 1 to 64", _whole(1, 64), ("--workers",)
    ),
    Option(
        "EXPORTER_THREADS",
        "64",
        "threads of each worker, made when needed",
        "a number from 1 to 1024",
        _whole(1, 1024),
        ("--threads",),
    ),
)
