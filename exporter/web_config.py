"""The web configuration file, in the format of the Prometheus exporter-toolkit: TLS, users and headers.

The format: https://github.com/prometheus/exporter-toolkit/blob/master/docs/web-configuration.md
"""

import logging
import re
import ssl
import threading
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from types import MappingProxyType
from typing import Any, Generic, TypeVar

import yaml

from exporter.settings import SettingsError
from exporter.tls import CIPHER_SUITES, CIPHER_SUITES_13, CLIENT_AUTH_TYPES, CURVES, VERSIONS, ServerTLS, server_context
from exporter.values import Headers

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
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
        root = yaml.compose(text, yaml.SafeLoader)
        return _web_config(root, Path(path).absolute().parent) if root is not None else WebConfig()
    except OSError as error:
        raise SettingsError(f"{path}: {error.strerror}; expected a web configuration file") from None
    except _Refused as refused:
        raise SettingsError(f"{path}: {refused}") from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise SettingsError(f"{path}: {f'line {mark.line + 1}: ' if mark else ''}{error.problem}") from None
    except (yaml.YAMLError, ValueError, RecursionError):
        raise SettingsError(f"{path}: expected YAML in UTF-8") from None


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


class _Refused(Exception):
    def __init__(self, node: yaml.Node, key: str, text: str):
        line = f"line {node.start_mark.line + 1}: {f'{key}: ' if key else ''}{text}"
        super().__init__(" ".join(line.split()))  # a key can go over lines


def _web_config(root: yaml.Node, folder: Path) -> WebConfig:
    sections = _rows(root, "", ("tls_server_config", "http_server_config", "basic_auth_users", "rate_limit"))
    if "rate_limit" in sections:
        raise _Refused(sections["rate_limit"], "rate_limit", "there is no limit of requests here; leave it out")

    tls: dict[str, Any] = {}
    for key, node in _rows(sections.get("tls_server_config"), "tls_server_config", TLS_KEYS).items():
        name = f"tls_server_config.{key}"
        if node.tag == _NULL:
            continue
        if key in CHOICES:
            tls[key] = _choice(node, name, CHOICES[key])
        elif key in LISTS:
            tls[key] = tuple(_choice(item, name, LISTS[key]) for item in _items(node, name))
        elif key == "prefer_server_cipher_suites":
            tls[key] = _switch(node, name)
        else:
            text = _text(node, name)
            tls[key] = str(folder / text) if text and key.endswith("_file") else text

    http = _rows(sections.get("http_server_config"), "http_server_config", ("http2", "headers"))
    if "http2" in http:
        _switch(http["http2"], "http_server_config.http2")  # what is served is HTTP/1.1, which every client speaks
    headers = []
    for header, node in _rows(http.get("headers"), "http_server_config.headers", HEADERS).items():
        if value := _header_value(node, f"http_server_config.headers.{header}", HEADERS[header]):
            headers.append((header, value))

    users = {}
    for user, node in _rows(sections.get("basic_auth_users"), "basic_auth_users", None).items():
        users[user] = _text(node, f"basic_auth_users.{user}")
        if not BCRYPT.fullmatch(users[user]):
            raise _Refused(node, f"basic_auth_users.{user}", "expected a bcrypt hash, such as htpasswd -nBC 10 makes")
    return WebConfig(ServerTLS(**tls), MappingProxyType(users), tuple(headers))


_NULL = "tag:yaml.org,2002:null"

TLS_KEYS = tuple(key.name for key in fields(ServerTLS))
CHOICES: Mapping[str, Collection[str]] = {
    "client_auth_type": CLIENT_AUTH_TYPES,
    "min_version": VERSIONS,
    "max_version": VERSIONS,
}
LISTS: Mapping[str, Collection[str] | None] = {
    "cipher_suites": (*CIPHER_SUITES, *CIPHER_SUITES_13),
    "curve_preferences": CURVES,
    "client_allowed_sans": None,
}


def _rows(node: yaml.Node | None, name: str, known: Collection[str] | None) -> dict[str, yaml.Node]:
    """Returns the values of a mapping by its keys, which are out of the known ones where there are such."""
    if node is None or node.tag == _NULL:
        return {}
    if not isinstance(node, yaml.MappingNode):
        raise _Refused(node, name, "expected keys with values")
    rows: dict[str, yaml.Node] = {}
    for key_node, value in node.value:
        key = _text(key_node, name)
        shown = f"{name}.{key}" if name else key
        if known is not None and key not in known:
            raise _Refused(key_node, shown, f"unknown key; expected one of {', '.join(known)}")
        if key in rows:
            raise _Refused(key_node, shown, "stands twice")
        rows[key] = value
    return rows


def _text(node: yaml.Node, name: str) -> str:
    # What YAML takes for a number or a date is a text all the same where a text is expected, as in the toolkit.
    if not isinstance(node, yaml.ScalarNode):
        raise _Refused(node, name, "expected a text")
    return "" if node.tag == _NULL else str(node.value)


def _items(node: yaml.Node, name: str) -> list[yaml.Node]:
    if not isinstance(node, yaml.SequenceNode):
        raise _Refused(node, name, "expected a list")
    return list(node.value)


def _choice(node: yaml.Node, name: str, choices: Collection[str] | None) -> str:
    text = _text(node, name)
    if choices is not None and text not in choices:
        raise _Refused(node, name, f"{text!r}: expected one of {', '.join(filter(None, choices))}")
    return text


def _switch(node: yaml.Node, name: str) -> bool:
    if node.tag not in (_NULL, "tag:yaml.org,2002:bool"):
        raise _Refused(node, name, "expected true or false")
    return str(node.value).lower() not in ("false", "no", "off")


def _header_value(node: yaml.Node, name: str, choices: tuple[str, ...]) -> str:
    text = re.sub(r"[\r\n]", " ", _text(node, name)).strip()  # it may go over many lines
    if choices and text not in choices:
        raise _Refused(node, name, f"{text!r}: expected one of {', '.join(choices)}")
    if not re.fullmatch(r"[ -~]*", text):
        raise _Refused(node, name, "expected ASCII that can be printed")
    return text


# How it is read again -------------------------------------------------------------------------------------------------

Made = TypeVar("Made")


class Reread(Generic[Made]):
    """What is made of files, and made anew when one of them has changed.

    `make` returns it with the paths of all files that it is made of. What cannot be made anew stays as it was, is said
    once, and is tried again each time.
    """

    def __init__(self, make: Callable[[], tuple[Made, tuple[str, ...]]]):
        self._make = make
        self._lock = threading.Lock()
        self._refusal = ""
        self._made, files = make()
        # Of a file that is new here nobody knows whether it has changed since it was read: it is read once more.
        self._seen: dict[str, tuple[int, ...]] = dict.fromkeys(files, (-1,))

    def get(self) -> Made:
        """Returns what the files say now; never waits for another thread that is reading them."""
        stamps = _stamps(tuple(self._seen))
        if stamps != self._seen and self._lock.acquire(blocking=False):
            try:
                self._made, files = self._make()
                self._seen = {path: stamps.get(path, (-1,)) for path in files}
                self._refusal = ""
            except SettingsError as error:
                if self._refusal != str(error):
                    self._refusal = str(error)
                    log.error("%s; what was read before goes on to count", error)
            finally:
                self._lock.release()
        return self._made


def _stamps(files: tuple[str, ...]) -> dict[str, tuple[int, ...]]:
    """Returns what tells one state of each file from the next, following links."""
    stamps: dict[str, tuple[int, ...]] = {}
    for path in files:
        try:
            stat = Path(path).stat()
            stamps[path] = (stat.st_mtime_ns, stat.st_ctime_ns, stat.st_size, stat.st_ino)
        except OSError:
            stamps[path] = ()
    return stamps


def reread_web_config(path: str) -> Reread[WebConfig]:
    """Returns the users and headers of the file, and what else it says, always as they are now.

    A file without users never takes the place of one with users: it can be one that is just being written.
    """
    is_locked = False

    def make() -> tuple[WebConfig, tuple[str, ...]]:
        nonlocal is_locked
        config = read_web_config(path)
        if is_locked and not config.users:
            raise SettingsError(f"{path}: basic_auth_users is gone: to let everybody in takes a restart")
        is_locked = bool(config.users)
        return config, (path,)

    return Reread(make)


def reread_context(path: str) -> Reread[ssl.SSLContext]:
    """Returns what gunicorn serves TLS with, always of the files as they are now."""

    def make() -> tuple[ssl.SSLContext, tuple[str, ...]]:
        tls = read_web_config(path).tls
        if not tls.is_on:
            raise SettingsError(f"{path}: tls_server_config is gone: to serve without TLS takes a restart")
        return _context(path, tls), (path, *tls.files)

    return Reread(make)
