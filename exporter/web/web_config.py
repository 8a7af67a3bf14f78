"""The web configuration file, in the format of the Prometheus exporter-toolkit: TLS, users and headers.

The format: https://github.com/prometheus/exporter-toolkit/blob/master/docs/web-configuration.md
"""

import logging
import re
import ssl
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, fields
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any, Generic, TypeVar

from exporter.config import readers
from exporter.config.last_good import LastGood
from exporter.config.readers import Headers
from exporter.config.settings import SettingsError
from exporter.config.yaml_file import Entry, YAMLError, stamp, text_of
from exporter.log import known
from exporter.web.tls import (
    CIPHER_SUITES,
    CIPHER_SUITES_13,
    CLIENT_AUTH_TYPES,
    CURVES,
    VERSIONS,
    ServerTLS,
    server_context,
)

log = logging.getLogger(__name__)

#: The headers that can be set, each with the values that it can have, where not every one will do.
HEADERS: Mapping[str, tuple[str, ...]] = {
    "Content-Security-Policy": (),
    "Strict-Transport-Security": (),
    "X-Content-Type-Options": ("nosniff",),
    "X-Frame-Options": ("deny", "sameorigin"),
    "X-XSS-Protection": (),
}

#: A hash as bcrypt writes it: version, cost, and 22 + 31 characters, of which the 22nd has two bits alone.
BCRYPT = re.compile(r"\$2[abxy]\$(0[4-9]|[12]\d|3[01])\$[./A-Za-z0-9]{21}[.Oeu][./A-Za-z0-9]{31}", re.ASCII)


@dataclass(frozen=True)
class WebConfig:
    """What the file says; `users` are bcrypt hashes by name; `headers` go with every answer."""

    tls: ServerTLS = field(default_factory=ServerTLS)
    users: Mapping[str, str] = field(default_factory=dict, repr=False)
    headers: Headers = ()

    def told(self) -> list[str]:
        """Returns what it asks for in lines for people, with the names of users and without their hashes."""
        users = ", ".join(sorted(self.users)) or "nobody is asked for a password"
        headers = ", ".join(name for name, _ in self.headers) or "none"
        if self.tls.is_on:
            certificate = self.tls.cert_file or "a certificate within the file"
            asked = self.tls.client_auth_type or "NoClientCert"
            tls = f"with {certificate}, {max('TLS12', self.tls.min_version)} or later, {asked}"
        return [f"TLS: {tls if self.tls.is_on else 'off'}", f"users: {users}", f"headers: {headers}", *self.tls.remarks]


def read_web_config(path: str) -> WebConfig:
    """Returns what the file says; raises SettingsError, one line that names file, line and key, where it cannot be.

    The files that it names are not looked at: `server_context` does so.
    """
    return _read(path)[0]


def _read(path: str) -> tuple[WebConfig, str]:
    try:
        text = text_of(path)
        return _parsed(text, path), text
    except YAMLError as error:
        raise SettingsError(str(error)) from None


def _parsed(text: str, path: str) -> WebConfig:
    return _web_config(Entry.of(text, path), Path(path).absolute().parent)


def checked_web_config(path: str) -> WebConfig:
    """Returns what the file says when all that it names is there and can be used; else raises SettingsError."""
    config = read_web_config(path)
    if config.tls.is_on:
        _context(path, config.tls)
    return config


def _context(path: str, tls: ServerTLS) -> ssl.SSLContext:
    try:
        return server_context(tls)
    except ValueError as error:
        raise SettingsError(f"{path}: tls_server_config: {error}") from None


# How it is read -------------------------------------------------------------------------------------------------------


def _web_config(root: Entry, folder: Path) -> WebConfig:
    sections = _rows(root, ("tls_server_config", "http_server_config", "basic_auth_users", "rate_limit"))
    if "rate_limit" in sections:
        sections["rate_limit"].fail("there is no limit of requests here; leave it out")
    http = _rows(sections.get("http_server_config"), ("http2", "headers"))
    if "http2" in http and not http["http2"].is_null:
        http["http2"].flag()  # what is served is HTTP/1.1, which every client speaks
    users = {
        user: entry.read(_bcrypt, "a bcrypt hash, such as htpasswd -nBC 10 makes", secret=True)
        for user, entry in _rows(sections.get("basic_auth_users")).items()
    }
    headers = [(name, _header(name, entry)) for name, entry in _rows(http.get("headers"), HEADERS).items()]
    return WebConfig(
        _tls(_rows(sections.get("tls_server_config"), TLS_KEYS), folder),
        MappingProxyType(users),
        tuple((name, value) for name, value in headers if value),
    )


TLS_KEYS = tuple(key.name for key in fields(ServerTLS))
CHOICES: Mapping[str, Iterable[str]] = {
    "client_auth_type": CLIENT_AUTH_TYPES,
    "min_version": VERSIONS,
    "max_version": VERSIONS,
}
LISTS: Mapping[str, Iterable[str] | None] = {
    "cipher_suites": (*CIPHER_SUITES, *CIPHER_SUITES_13),
    "curve_preferences": CURVES,
    "client_allowed_sans": None,
}


def _tls(rows: Mapping[str, Entry], folder: Path) -> ServerTLS:
    tls: dict[str, Any] = {}
    for key, entry in rows.items():
        if entry.is_null:
            continue
        if key in LISTS:
            tls[key] = tuple(_text(one, LISTS[key]) for one in entry.items(some=False))
        elif key == "prefer_server_cipher_suites":
            tls[key] = entry.flag()
        else:
            text = _text(entry, CHOICES.get(key))
            tls[key] = str(folder / text) if text and key.endswith("_file") else text
    return ServerTLS(**tls)


def _header(name: str, entry: Entry) -> str:
    if HEADERS[name]:
        return _text(entry, HEADERS[name])
    return "" if entry.is_null else entry.read(_one_line, "ASCII that can be printed", number=True)


def _rows(entry: Entry | None, known: Iterable[str] | None = None) -> Mapping[str, Entry]:
    """Returns the values of a mapping by their keys; one that is left out or has nothing in it is empty."""
    return {} if entry is None or entry.is_null else entry.keys(known)


def _text(entry: Entry, choices: Iterable[str] | None) -> str:
    if choices is None:
        return entry.read(str, "a text", number=True)
    return entry.read(readers.one_of(",".join(choices)), f"one of {', '.join(filter(None, choices))}")


def _bcrypt(text: str) -> str:
    return text if BCRYPT.fullmatch(text) else readers.refuse()


def _one_line(text: str) -> str:
    line = re.sub(r"[\r\n]", " ", text).strip()  # it may go over many lines
    return line if re.fullmatch(r"[ -~]*", line) else readers.refuse()


# How it is read again -------------------------------------------------------------------------------------------------

Made = TypeVar("Made")


class Reread(Generic[Made]):
    """What is made of files, and made anew when one of them has changed.

    `make` returns it with the paths of all files that it is made of. What cannot be made anew stays as it was, at first
    as it was `before`, is said once, and is tried again each time.
    """

    def __init__(self, make: Callable[[], tuple[Made, tuple[str, ...]]], before: Made | None = None):
        self._make = make
        self._lock = threading.Lock()
        self._refusal = ""
        self._seen: dict[str, object] | None = None
        try:
            self._made, files = make()
            # Of a file that is new here nobody knows whether it has changed since it was read: it is read once more.
            self._seen = dict.fromkeys(files)
        except SettingsError as error:
            if before is None:
                raise
            self._made = before
            self._refuse(error)

    def get(self) -> Made:
        """Returns what the files say now; never waits for another thread that is reading them."""
        stamps = {path: stamp(path) for path in self._seen or ()}
        if stamps != self._seen and self._lock.acquire(blocking=False):
            try:
                self._made, files = self._make()
                self._seen = {path: stamps.get(path) for path in files}
                self._refusal = ""
            except SettingsError as error:
                self._refuse(error)
            finally:
                self._lock.release()
        return self._made

    def _refuse(self, error: SettingsError) -> None:
        if self._refusal != str(error):
            self._refusal = str(error)
            told = known("file not read again", reason=str(error))
            log.error("%s; what was read before goes on to count", error, extra=told)


_last_good = cache(LastGood)


def reread_web_config(path: str) -> Reread[WebConfig]:
    """Returns the users and headers of the file, and what else it says, always as they are now.

    A file without users never takes the place of one with users: it can be one that is just being written. Called
    before a server forks its workers, it lets one that starts while the file is bad have what another has read.
    """
    kept = _last_good(path)
    text = kept.text()
    last = before = None if text is None else _parsed(text, path)

    def make() -> tuple[WebConfig, tuple[str, ...]]:
        nonlocal last
        config, text = _read(path)
        if last and last.users and not config.users:
            raise SettingsError(f"{path}: basic_auth_users is gone: to let everybody in takes a restart")
        last = config
        kept.keep(text)
        return config, (path,)

    return Reread(make, before)


def reread_context(path: str) -> Reread[ssl.SSLContext]:
    """Returns what gunicorn serves TLS with, always of the files as they are now."""

    def make() -> tuple[ssl.SSLContext, tuple[str, ...]]:
        tls = read_web_config(path).tls
        if not tls.is_on:
            raise SettingsError(f"{path}: tls_server_config is gone: to serve without TLS takes a restart")
        return _context(path, tls), (path, *tls.files)

    return Reread(make)
