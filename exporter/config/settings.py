"""The settings of a process and the modules that they switch on; the only reader of the environment."""

import os
import re
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dotenv import dotenv_values

from exporter.config.credentials import DuplicateHeader, client_certificate, credentials
from exporter.config.errors import ConfigError
from exporter.config.modules_file import ModulesFile
from exporter.config.options import OPTIONS, PATRONI, STAYTUS, STAYTUS_TOKENS, Option, ServiceOptions
from exporter.config.readers import patroni_base
from exporter.upstream.headers import Secret, file_content
from exporter.upstream.target import Credentials, Header, HeaderLines, Login, Module, RequestOptions, Target

#: The directory of wsgi.py, in which `.env` is looked for.
ROOT = Path(__file__).resolve().parents[2]

ENV_FILE = "EXPORTER_ENV_FILE"


@dataclass(frozen=True)
class Settings:
    """Everything that is set.

    `host` is a name or an address, empty for all interfaces. `web_config_file` and `config_file`, the modules file, are
    paths or empty. `open_health` is whether /-/healthy needs no authentication, `lifecycle` whether POST /-/reload is
    enabled.
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
        """Returns the settings of this environment and its `.env` file; raises ConfigError."""
        return _settings({option.variable: given for option, given in given_settings(environ)})

    def load_file(self) -> ModulesFile | None:
        """Returns the modules file, loaded; raises ConfigError when it cannot be used and never could."""
        return ModulesFile.load(self.config_file) if self.config_file else None

    def listen(self) -> str:
        """Returns the address to listen on in the form of gunicorn's `bind`.

        An empty host is all interfaces: of IPv4, or of both with AF_INET6. Names are looked up. Raises ConfigError
        when the host has no address of the family.
        """
        ipv6 = self.address_family == "AF_INET6" or ":" in self.host
        if not self.host:
            host = "::" if ipv6 else "0.0.0.0"  # noqa: S104 - as both old exporters do
        else:
            family = socket.AF_INET6 if ipv6 else socket.AF_INET
            try:
                host = str(socket.getaddrinfo(self.host, self.port, family, socket.SOCK_STREAM)[0][4][0])
            except (OSError, UnicodeError):  # the name is not known, or is not valid
                raise ConfigError(
                    f"PATRONI_EXPORTER_BIND={self.host!r}: expected an address or a host name with an address of the "
                    f"family {'AF_INET6' if ipv6 else 'AF_INET'} (PATRONI_EXPORTER_ADDRESS_FAMILY)"
                ) from None
        return f"[{host}]:{self.port}" if ipv6 else f"{host}:{self.port}"


# The values


@dataclass(frozen=True)
class Given:
    """The value of an option and its source: `environment`, `default`, or the path of the `.env` file.

    `file` is the path of the file that holds a secret.
    """

    value: Any = field(repr=False)  # it can be a secret
    source: str
    file: str = ""

    @property
    def is_set(self) -> bool:
        """Whether it is not the default."""
        return self.source != "default"

    @property
    def secret(self) -> Secret:
        """The text, or the file that holds it."""
        return Secret(file=self.file) if self.file else Secret(self.value)


def given_settings(environ: Mapping[str, str]) -> list[tuple[Option, Given]]:
    """Returns every option with its value from the environment, else from the `.env` file, else its default.

    Raises ConfigError.
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
            values = dotenv_values(stream=lines, interpolate=False)  # it would replace ${NAME} in passwords
            return str(path), {name: value for name, value in values.items() if value is not None}
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8"
        raise ConfigError(
            f"{ENV_FILE}={str(path)!r}: {reason}; expected a file with lines of the form NAME=value"
        ) from None


def _given(option: Option, sources: list[tuple[str, Mapping[str, str]]]) -> Given:
    for source, variables in sources:
        text = variables.get(option.variable, "").strip()
        file = variables.get(option.variable + "_FILE") if option.secret else None
        if text and file:
            raise ConfigError(f"{option.variable} and {option.variable}_FILE are both set: expected one of them")
        if file:
            return Given(_read_file(option, file), f"{option.variable}_FILE", file)
        if text or (option.can_be_empty and option.variable in variables):
            return Given(_read(option, text), source)
    return Given(None if option.default is None else option.read(option.default), "default")


def _read_file(option: Option, file: str) -> Any:
    try:
        return option.read(file_content(file).decode("utf-8-sig").strip())
    except (OSError, ValueError) as error:
        reason = f"{error.strerror}; " if isinstance(error, OSError) else ""
        raise ConfigError(
            f"{option.variable}_FILE={file!r}: {reason}expected a file that holds {option.read.expected}"
        ) from None


def _read(option: Option, text: str) -> Any:
    try:
        return option.read(text)
    except ValueError:
        hidden = option.secret or "PRIVATE KEY" in text  # where a path is expected
        shown = "" if hidden else "=" + repr(without_userinfo(text))
        raise ConfigError(f"{option.variable}{shown}: expected {option.read.expected}") from None


def without_userinfo(text: str) -> str:
    """Returns the text with everything before its last @ hidden but the scheme: a password can have any character."""
    return re.sub(r"^(\w+://)?.*@", r"\1***@", text, flags=re.DOTALL)


# The settings

#: Options that do not configure requests: with a modules file they switch no module on.
LISTENING = {
    "PATRONI_EXPORTER_PORT",
    "PATRONI_EXPORTER_BIND",
    "PATRONI_EXPORTER_ADDRESS_FAMILY",
    "PATRONI_EXPORTER_DEBUG",
    "EXPORTER_PORT",
}


def _settings(given: Mapping[str, Given]) -> Settings:
    def value(variable: str) -> Any:
        return given[variable].value

    services = _services(given)
    modules = []
    if "patroni" in services:
        base = value(PATRONI.url.variable)
        modules.append(_module("patroni", patroni_base(base.url), PATRONI, given))
    if "staytus" in services:
        for option in STAYTUS_TOKENS.values():
            if value(option.variable) is None:
                raise ConfigError(
                    f"{option.variable} is not set: Staytus needs STAYTUS_API_TOKEN and STAYTUS_API_SECRET"
                )
        base = value(STAYTUS.url.variable)
        interval = value("POLLING_INTERVAL_SECONDS")
        modules.append(_module("staytus", base.url, STAYTUS, given, STAYTUS_TOKENS, interval))
    return Settings(
        host=value("PATRONI_EXPORTER_BIND"),
        port=_port(given, services),
        address_family=value("PATRONI_EXPORTER_ADDRESS_FAMILY"),
        log_level="debug" if value("PATRONI_EXPORTER_DEBUG") or value("DEBUG") else value("EXPORTER_LOG_LEVEL"),
        log_format=value("EXPORTER_LOG_FORMAT"),
        workers=value("EXPORTER_WORKERS"),
        threads=value("EXPORTER_THREADS"),
        probes=value("EXPORTER_PROBES"),
        modules=tuple(modules),
        web_config_file=value("EXPORTER_WEB_CONFIG_FILE") or "",
        open_health=value("EXPORTER_WEB_OPEN_HEALTH"),
        config_file=value("EXPORTER_CONFIG_FILE") or "",
        lifecycle=value("EXPORTER_WEB_ENABLE_LIFECYCLE"),
    )


def _services(given: Mapping[str, Given]) -> set[str]:
    """Returns the services that are on.

    A service is on when one of its options is set. With a modules file the options that only say where to listen do not
    count; without one Patroni is on if nothing is set.
    """
    file = given["EXPORTER_CONFIG_FILE"].is_set
    found = {
        option.service
        for option in OPTIONS
        if option.service
        and given[option.variable].is_set
        and given[option.variable].value != ""
        and not (file and option.variable in LISTENING)
    }
    return found or (set() if file else {"patroni"})


def _port(given: Mapping[str, Given], services: set[str]) -> int:
    """Returns the port: that of Patroni if it is set, else that of Staytus if it is set or only Staytus is on."""
    patroni, staytus = given["PATRONI_EXPORTER_PORT"], given["EXPORTER_PORT"]
    port = staytus if not patroni.is_set and (staytus.is_set or services == {"staytus"}) else patroni
    return int(port.value)


def _module(
    service: str,
    url: str,
    options: ServiceOptions,
    given: Mapping[str, Given],
    tokens: Mapping[str, Option] | None = None,
    interval: float = 0.0,
) -> Module:
    def value(option: Option) -> Any:
        return given[option.variable].value

    for option in (options.cert_file, options.key_file, options.server_name):
        if value(option) and not url.startswith("https:"):
            raise ConfigError(f"{option.variable}: expected an https URL in {options.url.variable}, not {url}")
    request_options = RequestOptions(
        timeout=value(options.timeout),
        verify=value(options.verify),
        interval=interval,
        cert=_certificate(options, given),
        auth=_credentials(options, given, tokens or {}),
        server_name=value(options.server_name) or "",
    )
    return Module(service, service, Target(url, request_options), value(options.collect))


def _certificate(options: ServiceOptions, given: Mapping[str, Given]) -> str | tuple[str, str] | None:
    cert, key = options.cert_file.variable, options.key_file.variable
    cert_file, key_file = given[cert].value or "", given[key].value or ""
    if key_file and not cert_file:
        raise ConfigError(f"{cert} is not set: {key} needs it")
    try:
        return client_certificate(cert_file, key_file)
    except ValueError:
        where = f"in {key}={key_file!r}" if key_file else f"in the same file or in {key}"
        raise ConfigError(f"{cert}={cert_file!r}: expected its private key, without a passphrase, {where}") from None


def _credentials(options: ServiceOptions, given: Mapping[str, Given], tokens: Mapping[str, Option]) -> Credentials:
    user, password, headers = (given[o.variable] for o in (options.username, options.password, options.headers))
    login: Login | None = given[options.url.variable].value.login
    for one, other in ((options.username, options.password), (options.password, options.username)):
        if given[one.variable].value is None and given[other.variable].value is not None:
            raise ConfigError(f"{one.variable} is not set: {other.variable} needs it")
    if user.value is not None:
        if login:
            raise ConfigError(
                f"{options.username.variable}: {options.url.variable} has a user too, expected one of them"
            )
        login = Login(user.value, password.secret)
    own: list[Header | Login] = [Header(name, given[option.variable].secret) for name, option in tokens.items()]
    own += [login] if login else []
    try:
        auth = credentials([*own, *(Header(name, Secret(text)) for name, text in headers.value or ())])
    except DuplicateHeader as error:
        raise ConfigError(
            f"{options.headers.variable}: another setting sets {error} too, expected one of them"
        ) from None
    return Credentials((*own, HeaderLines(headers.secret))) if headers.file else auth
