"""The web configuration file in the format of the Prometheus exporter-toolkit: TLS, users, headers, rate limit.

The format: https://github.com/prometheus/exporter-toolkit/blob/master/docs/web-configuration.md
"""

import logging
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from exporter.config.errors import ConfigError
from exporter.config.readers import Reader, choice, duration, expects, integer, invalid
from exporter.config.reloadable import ReloadableFile
from exporter.config.yaml_file import TEXT_OR_NUMBER, Entry, text_of
from exporter.log import Event
from exporter.upstream.headers import Headers
from exporter.web.tls import (
    CIPHER_SUITES,
    CIPHER_SUITES_13,
    CLIENT_AUTH_TYPES,
    CURVES,
    VERSIONS,
    Context,
    ServerTLS,
    server_context,
)

log = logging.getLogger(__name__)

#: The headers that can be set, with their values where not any value is valid.
HEADERS: Mapping[str, tuple[str, ...]] = {
    "Content-Security-Policy": (),
    "Strict-Transport-Security": (),
    "X-Content-Type-Options": ("nosniff",),
    "X-Frame-Options": ("deny", "sameorigin"),
    "X-XSS-Protection": (),
}

#: A bcrypt hash: version, cost, and 22 + 31 characters, of which the 22nd has only two bits.
BCRYPT = re.compile(r"\$2[abxy]\$(0[4-9]|[12]\d|3[01])\$[./A-Za-z0-9]{21}[.Oeu][./A-Za-z0-9]{31}", re.ASCII)


@dataclass(frozen=True)
class RateLimit:
    """A token bucket: one request per interval, in seconds, and a burst of requests."""

    interval: float
    burst: int


@dataclass(frozen=True)
class WebConfig:
    """The content of the file.

    `users` are bcrypt hashes by user name; `headers` are set in every response; without a `rate_limit` there is none.
    """

    tls: ServerTLS = field(default_factory=ServerTLS)
    users: Mapping[str, str] = field(default_factory=dict, repr=False)
    headers: Headers = ()
    rate_limit: RateLimit | None = None

    def summary(self) -> list[str]:
        """Returns what is configured, in lines for `check`; without hashes."""
        if self.tls.is_on:
            certificate = self.tls.cert_file or "a certificate in the file"
            client_auth = self.tls.client_auth_type or "NoClientCert"
            tls = f"{certificate}, {max('TLS12', self.tls.min_version)} or later, {client_auth}"
        limit = self.rate_limit
        return [
            f"TLS: {tls if self.tls.is_on else 'off'}",
            f"users: {', '.join(sorted(self.users)) or 'none, no authentication'}",
            f"headers: {', '.join(name for name, _ in self.headers) or 'none'}",
            *([f"rate limit: {limit.burst} requests, then one every {limit.interval:g} s"] if limit else []),
            *self.tls.remarks,
        ]


def read_web_config(path: str) -> WebConfig:
    """Returns the content of the file, but not of the files that it names; raises ConfigError."""
    return _web_config(text_of(path), path)


def checked_web_config(path: str) -> WebConfig:
    """Returns the content of the file after loading the files that it names; raises ConfigError."""
    config = read_web_config(path)
    if config.tls.is_on:
        _context(path, config.tls)
    return config


class WebConfigFile(ReloadableFile[WebConfig]):
    """The users, the headers and the rest of the file.

    A version without users does not replace one with users: it can be a file that is being written.
    """

    def parse(self, text: str, before: WebConfig | None) -> WebConfig:
        config = _web_config(text, self.path)
        if before and before.users and not config.users:
            raise ConfigError(f"{self.path}: basic_auth_users is missing: a restart is needed to serve without users")
        return config

    def log_state(self) -> None:
        """Logs where the TLS of the file is not fully served, or why its present version cannot be used."""
        super().log_state()
        for remark in () if self.failure else self._value.tls.remarks:
            log.warning(Event("TLS setting not applied", file=self.path, reason=remark))


class ServerContext(ReloadableFile[Context]):
    """The TLS context of the server, from the certificates as they are now."""

    def parse(self, text: str, _: object) -> Context:
        tls = _web_config(text, self.path).tls
        if not tls.is_on:
            raise ConfigError(f"{self.path}: tls_server_config is missing: a restart is needed to serve without TLS")
        return _context(self.path, tls)

    def files(self, value: Context) -> Iterable[str]:
        return value.files


def _context(path: str, tls: ServerTLS) -> Context:
    try:
        return server_context(tls)
    except ValueError as error:
        raise ConfigError(f"{path}: tls_server_config: {error}") from None


# The sections


def _web_config(text: str, path: str) -> WebConfig:
    sections = _rows(
        Entry.of(text, path), ("tls_server_config", "http_server_config", "basic_auth_users", "rate_limit")
    )
    http = _rows(sections.get("http_server_config"), ("http2", "headers"))
    if "http2" in http and not http["http2"].is_null:
        http["http2"].boolean()  # the server speaks HTTP/1.1, as every client does
    users = {user: entry.read(_bcrypt, secret=True) for user, entry in _rows(sections.get("basic_auth_users")).items()}
    headers = [(name, _header(name, entry)) for name, entry in _rows(http.get("headers"), HEADERS).items()]
    return WebConfig(
        _tls(_rows(sections.get("tls_server_config"), TLS_KEYS)),
        users,
        tuple((name, value) for name, value in headers if value),
        _rate_limit(_rows(sections.get("rate_limit"), ("interval", "burst"))),
    )


TLS_KEYS = tuple(key.name for key in fields(ServerTLS))
LISTS = ("client_allowed_sans", "cipher_suites", "curve_preferences")
CHOICES: Mapping[str, Iterable[str]] = {
    "client_auth_type": CLIENT_AUTH_TYPES,
    "min_version": VERSIONS,
    "max_version": VERSIONS,
    "cipher_suites": (*CIPHER_SUITES, *CIPHER_SUITES_13),
    "curve_preferences": CURVES,
}


def _tls(rows: Mapping[str, Entry]) -> ServerTLS:
    tls: dict[str, Any] = {}
    for key, entry in rows.items():
        if entry.is_null:
            continue
        if key in LISTS:
            tls[key] = tuple(_text(one, CHOICES.get(key)) for one in entry.items(can_be_empty=True))
        elif key == "prefer_server_cipher_suites":
            tls[key] = entry.boolean()
        else:
            text = _text(entry, CHOICES.get(key))
            tls[key] = entry.path(text) if text and key.endswith("_file") else text
    return ServerTLS(**tls)


def _header(name: str, entry: Entry) -> str:
    if HEADERS[name]:
        return _text(entry, HEADERS[name])
    return "" if entry.is_null else entry.read(_header_value, kinds=TEXT_OR_NUMBER)


def _rows(entry: Entry | None, known: Iterable[str] | None = None) -> Mapping[str, Entry]:
    """Returns the values of a mapping by their keys; it is empty if it is left out or null."""
    return {} if entry is None or entry.is_null else entry.keys(known)


def _text(entry: Entry, choices: Iterable[str] | None) -> str:
    return entry.read(Reader("a text", str), kinds=TEXT_OR_NUMBER) if choices is None else entry.read(choice(choices))


def _rate_limit(rows: Mapping[str, Entry]) -> RateLimit | None:
    interval, burst = (rows[key] if key in rows and not rows[key].is_null else None for key in ("interval", "burst"))
    # In the exporter-toolkit a number without a unit is nanoseconds, so only 0 is one here.
    or_zero = Reader(f"{duration.expected}, or 0", lambda text: 0.0 if text == "0" else duration(text))
    seconds = interval.read(or_zero, kinds=("str", "int")) if interval else 0.0
    requests = burst.read(integer(0, 10**9 - 1), kinds=("int",)) if burst else 0
    if interval and seconds and not requests:
        (burst or interval).fail("expected a burst of at least 1: with 0 every request would be refused")
    return RateLimit(seconds, requests) if seconds else None


@expects("a bcrypt hash, such as from htpasswd -nBC 10")
def _bcrypt(text: str) -> str:
    return text if BCRYPT.fullmatch(text) else invalid()


@expects("printable ASCII")
def _header_value(text: str) -> str:
    line = re.sub(r"[\r\n]", " ", text).strip()  # it can have several lines
    return line if re.fullmatch(r"[ -~]*", line) else invalid()
