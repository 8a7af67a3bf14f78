"""The settings that a process runs with and the targets that come of them; the only reader of the environment."""

import os
import re
import socket
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

from dotenv import dotenv_values

from exporter import values
from exporter.options import OPTIONS, Option
from exporter.target import HeaderFile, Module, Target
from exporter.values import Headers

#: The folder of wsgi.py, where `.env` is looked for.
ROOT = Path(__file__).resolve().parent.parent


class SettingsError(Exception):
    """A setting cannot be used; the text is one line that names it, its value (no secret's) and what is expected."""


# What comes out -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Settings:
    """Everything that is set. `host` is a name or an address, empty for all interfaces; the path of
    the web configuration file is empty where there is none.
    """

    host: str
    port: int
    address_family: str
    debug: bool
    workers: int
    threads: int
    modules: tuple[Module, ...]
    web_config_file: str = ""
    open_health: bool = False

    @classmethod
    def load(cls, environ: Mapping[str, str] = os.environ) -> "Settings":
        """Returns the settings of this environment and its `.env` file.

        Raises SettingsError for a value that cannot be used.
        """
        return _settings({option.variable: given for option, given in given_settings(environ)})

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
        return option.read(Path(file).read_text(encoding="utf-8-sig").strip())
    except (OSError, ValueError) as error:
        reason = f"{error.strerror}; " if isinstance(error, OSError) else ""
        raise SettingsError(
            f"{option.variable}_FILE={file!r}: {reason}expected a file that holds {option.expected}"
        ) from None


def _read(option: Option, text: str) -> Any:
    try:
        return option.read(text)
    except ValueError:
        shown = "" if option.secret else "=" + repr(without_userinfo(text))
        raise SettingsError(f"{option.variable}{shown}: expected {option.expected}") from None


def without_userinfo(text: str) -> str:
    """Returns the text with all before its last @ but a scheme hidden, since that can be a password with any sign."""
    return re.sub(r"^(\w+://)?.*@", r"\1***@", text, flags=re.DOTALL)


def _settings(given: Mapping[str, Given]) -> Settings:
    def value(variable: str) -> Any:
        return given[variable].value

    def is_given(variable: str) -> bool:
        return given[variable].source != "default"

    services = {o.service for o in OPTIONS if o.service and is_given(o.variable) and value(o.variable) != ""}
    services = services or {"patroni"}
    modules = []
    if "patroni" in services:
        url, login = value("PATRONI_EXPORTER_URL")
        target = Target(
            url=re.sub(r"(?<!:/)/patroni$", "", url).rstrip("/"),  # http://patroni is a host
            timeout=value("PATRONI_EXPORTER_TIMEOUT"),
            verify=value("PATRONI_EXPORTER_REQUEST_VERIFY"),
            **_keys(given, "PATRONI_EXPORTER", login),
        )
        modules.append(Module("patroni", "patroni", target, value("PATRONI_EXPORTER_COLLECT")))
    if "staytus" in services:
        url, login = value("STAYTUS_API_URL")
        for variable in ("STAYTUS_API_TOKEN", "STAYTUS_API_SECRET"):
            if value(variable) is None:
                raise SettingsError(f"{variable} is missing: Staytus needs STAYTUS_API_TOKEN and STAYTUS_API_SECRET")
        target = Target(
            url=url,
            timeout=value("STAYTUS_TIMEOUT"),
            verify=value("STAYTUS_REQUEST_VERIFY"),
            interval=value("POLLING_INTERVAL_SECONDS"),
            **_keys(
                given, "STAYTUS", login, {"X-Auth-Token": "STAYTUS_API_TOKEN", "X-Auth-Secret": "STAYTUS_API_SECRET"}
            ),
        )
        modules.append(Module("staytus", "staytus", target, value("STAYTUS_COLLECT")))

    only_staytus = services == {"staytus"}
    staytus_port = not is_given("PATRONI_EXPORTER_PORT") and (only_staytus or is_given("EXPORTER_PORT"))
    return Settings(
        host=value("PATRONI_EXPORTER_BIND"),
        port=value("EXPORTER_PORT" if staytus_port else "PATRONI_EXPORTER_PORT"),
        address_family=value("PATRONI_EXPORTER_ADDRESS_FAMILY"),
        debug=value("PATRONI_EXPORTER_DEBUG") or value("DEBUG"),
        workers=value("EXPORTER_WORKERS"),
        threads=value("EXPORTER_THREADS"),
        modules=tuple(modules),
        web_config_file=value("EXPORTER_WEB_CONFIG_FILE") or "",
        open_health=value("EXPORTER_WEB_OPEN_HEALTH"),
    )


def _keys(
    given: Mapping[str, Given], prefix: str, login: Headers, secrets: Mapping[str, str] = MappingProxyType({})
) -> dict[str, Any]:
    """Returns what a target is shown so that it lets us in; `secrets` are variables by the header that they go into."""
    cert, key, name = (given[f"{prefix}_{what}"].value or "" for what in ("CERT_FILE", "KEY_FILE", "SERVER_NAME"))
    if key and not cert:
        raise SettingsError(f"{prefix}_CERT_FILE is missing: {prefix}_KEY_FILE is set, expected both or none")
    user, password = (given[f"{prefix}_{what}"] for what in ("USERNAME", "PASSWORD"))
    if (user.value is None) != (password.value is None):
        raise SettingsError(f"{prefix}_USERNAME and {prefix}_PASSWORD: one of them is missing, expected both or none")
    if login and user.value is not None:
        raise SettingsError(f"{prefix}_USERNAME: the URL has a user too, expected one of them")

    rows: list[tuple[Given, Callable[[str], Headers]]] = [
        (given[variable], partial(_one_header, header)) for header, variable in secrets.items()
    ]
    if user.value is not None:
        rows.append((password, lambda text: values.basic_login(user.value.encode(), values.line(text).encode())))
    rows.append((given[f"{prefix}_HEADERS"], values.header_lines))
    return {
        "headers": tuple(h for row, made_of in rows if row.value and not row.file for h in made_of(row.value)) + login,
        "header_files": tuple(HeaderFile(row.file, made_of) for row, made_of in rows if row.file),
        "cert_file": cert,
        "key_file": key,
        "server_name": name,
    }


def _one_header(name: str, text: str) -> Headers:
    return ((name, values.header_value(text)),)


@contextmanager
def settings_errors_exit() -> Iterator[None]:
    """Ends the process with one line on standard error and status 2 where a setting cannot be used."""
    try:
        yield
    except SettingsError as error:
        print(f"patroni-staytus-exporter: {error}", file=sys.stderr)
        raise SystemExit(2) from None
