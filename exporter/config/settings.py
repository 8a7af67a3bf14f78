"""The settings that a process runs with and the targets that come of them; the only reader of the environment."""

import os
import re
import socket
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

from dotenv import dotenv_values

from exporter.config import readers
from exporter.config.modules_file import ModulesFile
from exporter.config.options import OPTIONS, Option
from exporter.config.readers import Headers
from exporter.config.yaml_file import YAMLError
from exporter.upstream.target import HeaderFile, Module, Target

#: The folder of wsgi.py, where `.env` is looked for.
ROOT = Path(__file__).resolve().parents[2]

#: The variables of what Staytus asks for, by the header that each goes into.
STAYTUS_TOKENS = {"X-Auth-Token": "STAYTUS_API_TOKEN", "X-Auth-Secret": "STAYTUS_API_SECRET"}


class SettingsError(Exception):
    """A setting cannot be used; the text is one line that names it, its value (no secret's) and what is expected."""


# What comes out -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Settings:
    """Everything that is set. `host` is a name or an address, empty for all interfaces.

    `web_config_file` and `config_file`, that with more modules, are paths, empty for none; `open_health` tells whether
    /-/healthy asks for no password, `lifecycle` whether POST /-/reload may load the modules again.
    """

    host: str
    port: int
    address_family: str
    log_level: str
    log_format: str
    workers: int
    threads: int
    probes: int
    modules: tuple[Module, ...]
    web_config_file: str = ""
    open_health: bool = False
    config_file: str = ""
    lifecycle: bool = False

    @classmethod
    def load(cls, environ: Mapping[str, str] = os.environ) -> "Settings":
        """Returns the settings of this environment and its `.env` file.

        Raises SettingsError for a value that cannot be used.
        """
        return _settings({option.variable: given for option, given in given_settings(environ)})

    def load_file(self) -> ModulesFile | None:
        """Returns the file with more modules, loaded now; raises SettingsError when it never could be."""
        try:
            return ModulesFile.load(self.config_file) if self.config_file else None
        except YAMLError as error:
            raise SettingsError(str(error)) from None

    def listen(self) -> str:
        """Returns the address to listen on, as gunicorn's `bind` takes it.

        An empty host is every interface: of IPv4, or of both with AF_INET6. Looks names up; raises SettingsError
        when the host has no address of the family.
        """
        ipv6 = self.address_family == "AF_INET6" or ":" in self.host
        if not self.host:
            host = "::" if ipv6 else "0.0.0.0"  # noqa: S104 - as both old exporters do
        else:
            family = socket.AF_INET6 if ipv6 else socket.AF_INET
            try:
                host = str(socket.getaddrinfo(self.host, self.port, family, socket.SOCK_STREAM)[0][4][0])
            except (OSError, UnicodeError):  # no such name, or nothing that can be one
                raise SettingsError(
                    f"PATRONI_EXPORTER_BIND={self.host!r}: expected an address or a host name with an address of the "
                    f"family {'AF_INET6' if ipv6 else 'AF_INET'} (PATRONI_EXPORTER_ADDRESS_FAMILY)"
                ) from None
        return f"[{host}]:{self.port}" if ipv6 else f"{host}:{self.port}"


# How it is read -------------------------------------------------------------------------------------------------------

ENV_FILE = "EXPORTER_ENV_FILE"

#: What says nothing of how Patroni or Staytus is asked: beside a modules file these switch no module on.
LISTENING = {
    "PATRONI_EXPORTER_PORT",
    "PATRONI_EXPORTER_BIND",
    "PATRONI_EXPORTER_ADDRESS_FAMILY",
    "PATRONI_EXPORTER_DEBUG",
    "EXPORTER_PORT",
}


@dataclass(frozen=True)
class Given:
    """The value of an option and where it comes from: `environment`, `default`, or the name of a file.

    A secret that is in a file of its own has the path of that `file`.
    """

    value: Any = field(repr=False)  # it can be a secret
    source: str
    file: str = ""


def given_settings(environ: Mapping[str, str]) -> list[tuple[Option, Given]]:
    """Returns every option with its value: from the environment, else from the `.env` file, else its default.

    Raises SettingsError for a value that cannot be used. What is empty is not given, save where empty is a value.
    """
    sources = [("environment", environ), _env_file(environ)]
    return [(option, _given(option, sources)) for option in OPTIONS]


def _env_file(environ: Mapping[str, str]) -> tuple[str, Mapping[str, str]]:
    named = environ.get(ENV_FILE)
    path = Path(named) if named else ROOT / ".env"
    try:
        if not named and not path.exists():
            return ".env", {}
        with path.open(encoding="utf-8") as lines:
            return str(path), {name: value for name, value in dotenv_values(stream=lines).items() if value is not None}
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not text in UTF-8"
        raise SettingsError(
            f"{ENV_FILE}={str(path)!r}: {reason}; expected a file with lines of the form NAME=value"
        ) from None


def _given(option: Option, sources: list[tuple[str, Mapping[str, str]]]) -> Given:
    for source, variables in sources:
        text = variables.get(option.variable, "").strip()
        file = variables.get(option.variable + "_FILE") if option.secret else None
        if text and file:
            raise SettingsError(f"{option.variable} and {option.variable}_FILE are both set: expected one of them")
        if file:
            return Given(_secret(option, file), f"{option.variable}_FILE", file)
        if text or (option.can_be_empty and option.variable in variables):
            return Given(_read(option, text), source)
    return Given(None if option.default is None else option.read(option.default), "default")


def _secret(option: Option, file: str) -> Any:
    try:
        return option.read(readers.file_content(file).decode("utf-8-sig").strip())
    except (OSError, ValueError) as error:
        reason = f"{error.strerror}; " if isinstance(error, OSError) else ""
        raise SettingsError(
            f"{option.variable}_FILE={file!r}: {reason}expected a file that holds {option.expected}"
        ) from None


def _read(option: Option, text: str) -> Any:
    try:
        return option.read(text)
    except ValueError:
        hidden = option.secret or "PRIVATE KEY" in text  # where a path was expected
        shown = "" if hidden else "=" + repr(without_userinfo(text))
        raise SettingsError(f"{option.variable}{shown}: expected {option.expected}") from None


def without_userinfo(text: str) -> str:
    """Returns the text with all before its last @ but a scheme hidden, since that can be a password with any sign."""
    return re.sub(r"^(\w+://)?.*@", r"\1***@", text, flags=re.DOTALL)


def _settings(given: Mapping[str, Given]) -> Settings:
    def value(variable: str) -> Any:
        return given[variable].value

    def is_given(variable: str) -> bool:
        return given[variable].source != "default"

    file = value("EXPORTER_CONFIG_FILE")
    set_here = [o for o in OPTIONS if is_given(o.variable) and value(o.variable) != ""]
    services = {o.service for o in set_here if o.service and not (file and o.variable in LISTENING)}
    services = services or (set() if file else {"patroni"})
    modules = []
    if "patroni" in services:
        url, login = value("PATRONI_EXPORTER_URL")
        target = Target(
            url=readers.patroni_base(url),
            timeout=value("PATRONI_EXPORTER_TIMEOUT"),
            verify=value("PATRONI_EXPORTER_REQUEST_VERIFY"),
            **_keys(given, "PATRONI_EXPORTER", url, login),
        )
        modules.append(Module("patroni", "patroni", target, value("PATRONI_EXPORTER_COLLECT")))
    if "staytus" in services:
        url, login = value("STAYTUS_API_URL")
        for variable in STAYTUS_TOKENS.values():
            if value(variable) is None:
                raise SettingsError(f"{variable} is missing: Staytus needs STAYTUS_API_TOKEN and STAYTUS_API_SECRET")
        target = Target(
            url=url,
            timeout=value("STAYTUS_TIMEOUT"),
            verify=value("STAYTUS_REQUEST_VERIFY"),
            interval=value("POLLING_INTERVAL_SECONDS"),
            **_keys(given, "STAYTUS", url, login, STAYTUS_TOKENS),
        )
        modules.append(Module("staytus", "staytus", target, value("STAYTUS_COLLECT")))

    only_staytus = services == {"staytus"}
    staytus_port = not is_given("PATRONI_EXPORTER_PORT") and (only_staytus or is_given("EXPORTER_PORT"))
    return Settings(
        host=value("PATRONI_EXPORTER_BIND"),
        port=value("EXPORTER_PORT" if staytus_port else "PATRONI_EXPORTER_PORT"),
        address_family=value("PATRONI_EXPORTER_ADDRESS_FAMILY"),
        log_level="debug" if value("PATRONI_EXPORTER_DEBUG") or value("DEBUG") else value("EXPORTER_LOG_LEVEL"),
        log_format=value("EXPORTER_LOG_FORMAT"),
        workers=value("EXPORTER_WORKERS"),
        threads=value("EXPORTER_THREADS"),
        probes=value("EXPORTER_PROBES"),
        modules=tuple(modules),
        web_config_file=value("EXPORTER_WEB_CONFIG_FILE") or "",
        open_health=value("EXPORTER_WEB_OPEN_HEALTH"),
        config_file=file or "",
        lifecycle=value("EXPORTER_WEB_ENABLE_LIFECYCLE"),
    )


def _keys(
    given: Mapping[str, Given], prefix: str, url: str, login: Headers, tokens: Mapping[str, str] = MappingProxyType({})
) -> dict[str, Any]:
    """Returns what a target at this URL is shown so that it lets us in; `tokens` are variables by their header."""
    return {**_certificate(given, prefix, url), **_headers(given, prefix, login, tokens)}


def _certificate(given: Mapping[str, Given], prefix: str, url: str) -> dict[str, str]:
    found = {what.lower(): given[f"{prefix}_{what}"].value or "" for what in ("CERT_FILE", "KEY_FILE", "SERVER_NAME")}
    useless = [] if url.startswith("https:") else [name.upper() for name, value in found.items() if value]
    if useless:
        raise SettingsError(f"{prefix}_{useless[0]}: expected a URL of https beside it, not {url}")
    cert, key = found["cert_file"], found["key_file"]
    if key and not cert:
        raise SettingsError(f"{prefix}_CERT_FILE is missing: {prefix}_KEY_FILE is set, expected the certificate too")
    if cert and not readers.belong_together(cert, key):
        where = f"in {prefix}_KEY_FILE={key!r}" if key else f"in the same file, or in {prefix}_KEY_FILE"
        raise SettingsError(f"{prefix}_CERT_FILE={cert!r}: expected its private key, without a passphrase, {where}")
    return found


def _headers(given: Mapping[str, Given], prefix: str, login: Headers, tokens: Mapping[str, str]) -> dict[str, Any]:
    user, password, more = (given[f"{prefix}_{what}"] for what in ("USERNAME", "PASSWORD", "HEADERS"))
    if (user.value is None) != (password.value is None):
        missing, there = ("USERNAME", "PASSWORD") if user.value is None else ("PASSWORD", "USERNAME")
        raise SettingsError(f"{prefix}_{missing} is missing: {prefix}_{there} is set, expected both or none")
    if login and user.value is not None:
        raise SettingsError(f"{prefix}_USERNAME: the URL has a user too, expected one of them")
    headers: Headers = ()
    files = []
    for header, variable in tokens.items():
        if given[variable].file:
            files.append(HeaderFile(given[variable].file, header))
        else:
            headers += ((header, given[variable].value),)
    headers += login
    if user.value is not None:
        if password.file:
            files.append(HeaderFile(password.file, user=user.value))
        else:
            headers += readers.basic_login(user.value.encode(), password.value.encode())

    taken = {name.lower() for name in tokens} | ({"authorization"} if login or user.value is not None else set())
    twice = [name for name, _ in more.value or () if name.lower() in taken]
    if twice:
        raise SettingsError(f"{prefix}_HEADERS: {twice[0]} comes of another setting too, expected one of them")
    if more.file:
        files.append(HeaderFile(more.file))
    else:
        headers += more.value or ()
    return {"headers": headers, "header_files": tuple(files)}


@contextmanager
def settings_errors_exit() -> Iterator[None]:
    """Ends the process with one line on standard error and status 2 where a setting cannot be used."""
    try:
        yield
    except SettingsError as error:
        print(f"patroni-staytus-exporter: {error}", file=sys.stderr)
        raise SystemExit(2) from None
