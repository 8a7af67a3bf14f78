"""The settings of a process and the modules that they switch on; the only reader of the environment."""

import logging
import os
import re
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from exporter.config.credentials import DuplicateHeader, client_certificate, credentials
from exporter.config.environment import EnvFile, Ignored, ignored
from exporter.config.errors import ConfigError
from exporter.config.modules_file import ModulesFile
from exporter.config.options import OPTIONS, PREFIXES, STAYTUS_TOKENS, URLS, Option
from exporter.config.readers import patroni_base
from exporter.log import Event
from exporter.upstream.headers import Secret, file_content
from exporter.upstream.target import Credentials, Header, HeaderLines, Login, Module, RequestOptions, Target

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Settings:
    """Everything that is set.

    `host` is a name or an address, empty for all interfaces. `web_config_file` and `config_file`, the modules file, are
    paths or empty. `open_health` is whether /-/healthy needs no authentication, `lifecycle` whether POST /-/reload is
    enabled. `ignored` is the variables and the lines of the `.env` file that set nothing.
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
    ignored: tuple[Ignored, ...] = ()

    @classmethod
    def load(cls, environ: Mapping[str, str] = os.environ) -> "Settings":
        """Returns the settings of this environment and its `.env` file; raises ConfigError."""
        file = EnvFile.load(environ)
        given = {option.variable: given for option, given in given_settings(environ, file)}
        return _settings(given, ignored(environ, file))

    def log_ignored(self) -> None:
        """Logs the variables and the lines that were ignored."""
        for each in self.ignored:
            log.warning(Event("setting ignored", source=each.source, reason=each.reason))

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


def given_settings(environ: Mapping[str, str], file: EnvFile) -> list[tuple[Option, Given]]:
    """Returns every option with its value from the environment, else from the `.env` file, else its default.

    Raises ConfigError.
    """
    sources = [("environment", environ), (file.path, file.variables)]
    return [(option, _given(option, sources)) for option in OPTIONS]


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
    except (OSError, ValueError):
        hidden = option.secret or "PRIVATE KEY" in text  # where a path is expected
        # What precedes the last @ is hidden, but the scheme: a password can have any character.
        shown = "" if hidden else "=" + repr(re.sub(r"^(\w+://)?.*@", r"\1***@", text, flags=re.DOTALL))
        raise ConfigError(f"{option.variable}{shown}: expected {option.read.expected}") from None


# The settings

#: Options that do not configure requests: with a modules file they switch no module on.
LISTENING = {
    "PATRONI_EXPORTER_PORT",
    "PATRONI_EXPORTER_BIND",
    "PATRONI_EXPORTER_ADDRESS_FAMILY",
    "PATRONI_EXPORTER_DEBUG",
    "PATRONI_EXPORTER_COMPAT_METRICS",
    "EXPORTER_PORT",
}


def _settings(given: Mapping[str, Given], ignored: tuple[Ignored, ...]) -> Settings:
    def value(variable: str) -> Any:
        return given[variable].value

    services = _services(given)
    return Settings(
        host=value("PATRONI_EXPORTER_BIND"),
        port=_port(given, services),
        address_family=value("PATRONI_EXPORTER_ADDRESS_FAMILY"),
        log_level="debug" if value("PATRONI_EXPORTER_DEBUG") or value("DEBUG") else value("EXPORTER_LOG_LEVEL"),
        log_format=value("EXPORTER_LOG_FORMAT"),
        workers=value("EXPORTER_WORKERS"),
        threads=value("EXPORTER_THREADS"),
        probes=value("EXPORTER_PROBES"),
        modules=tuple(_module(service, given) for service in ("patroni", "staytus") if service in services),
        web_config_file=value("EXPORTER_WEB_CONFIG_FILE") or "",
        open_health=value("EXPORTER_WEB_OPEN_HEALTH"),
        config_file=value("EXPORTER_CONFIG_FILE") or "",
        lifecycle=value("EXPORTER_WEB_ENABLE_LIFECYCLE"),
        ignored=ignored,
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


def _module(service: str, given: Mapping[str, Given]) -> Module:
    url = str(given[URLS[service]].value)
    if service == "patroni":
        url = patroni_base(url)
    prefix = PREFIXES[service]
    for name in ("CERT_FILE", "KEY_FILE", "SERVER_NAME"):
        if given[f"{prefix}_{name}"].value and not url.startswith("https:"):
            raise ConfigError(f"{prefix}_{name}: expected an https URL in {URLS[service]}, not {url}")
    request_options = RequestOptions(
        timeout=given[f"{prefix}_TIMEOUT"].value,
        verify=given[f"{prefix}_REQUEST_VERIFY"].value,
        interval=given["POLLING_INTERVAL_SECONDS"].value if service == "staytus" else 0.0,
        cert=_certificate(prefix, given),
        auth=_credentials(service, given),
        server_name=given[f"{prefix}_SERVER_NAME"].value or "",
    )
    compat_metrics = service != "patroni" or given["PATRONI_EXPORTER_COMPAT_METRICS"].value
    return Module(service, service, Target(url, request_options), given[f"{prefix}_COLLECT"].value, compat_metrics)


def _certificate(prefix: str, given: Mapping[str, Given]) -> str | tuple[str, str] | None:
    cert, key = f"{prefix}_CERT_FILE", f"{prefix}_KEY_FILE"
    cert_file, key_file = given[cert].value or "", given[key].value or ""
    if key_file and not cert_file:
        raise ConfigError(f"{cert} is not set: {key} needs it")
    try:
        return client_certificate(cert_file, key_file)
    except OSError:
        where = f"in {key}={key_file!r}" if key_file else f"in the same file or in {key}"
        raise ConfigError(f"{cert}={cert_file!r}: expected its private key, without a passphrase, {where}") from None


def _credentials(service: str, given: Mapping[str, Given]) -> Credentials:
    own: list[Header | Login] = []
    for name, variable in STAYTUS_TOKENS.items() if service == "staytus" else ():
        if given[variable].value is None:
            raise ConfigError(f"{variable} is not set: Staytus needs STAYTUS_API_TOKEN and STAYTUS_API_SECRET")
        own.append(Header(name, given[variable].secret))
    username, password = f"{PREFIXES[service]}_USERNAME", f"{PREFIXES[service]}_PASSWORD"
    for one, other in ((username, password), (password, username)):
        if given[one].value is None and given[other].value is not None:
            raise ConfigError(f"{one} is not set: {other} needs it")
    login: Login | None = given[URLS[service]].value.login
    if given[username].value is not None:
        if login:
            raise ConfigError(f"{username}: {URLS[service]} has a user too, expected one of them")
        login = Login(given[username].value, given[password].secret)
    own += [login] if login else []
    variable = f"{PREFIXES[service]}_HEADERS"
    headers = given[variable]
    try:
        auth = credentials([*own, *(Header(name, Secret(text)) for name, text in headers.value or ())])
    except DuplicateHeader as error:
        raise ConfigError(f"{variable}: another setting sets {error} too, expected one of them") from None
    return Credentials((*own, HeaderLines(headers.secret))) if headers.file else auth
