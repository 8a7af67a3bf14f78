"""The options: each as one row with its variable, its flags, its default and its reader."""

from dataclasses import dataclass
from typing import Any

from exporter.collectors import COLLECTORS
from exporter.config import readers
from exporter.config.readers import Reader


@dataclass(frozen=True)
class Option:
    """One setting, as it appears in --help, in the table of settings and in `.env.sample`.

    `service` is the service that it switches on. A secret is never shown, and can also be given in a file whose path is
    in the variable with the suffix `_FILE`. An empty variable is not set unless the option `can_be_empty`. The service
    needs the options that are `required`.
    """

    variable: str
    default: str | None
    meaning: str
    read: Reader[Any]
    flags: tuple[str, ...] = ()
    service: str | None = None
    secret: bool = False
    can_be_empty: bool = False
    required: bool = False

    @property
    def is_switch(self) -> bool:
        """Whether its flag takes no value."""
        return self.read is readers.boolean

    @staticmethod
    def show(value: Any) -> str:
        """Returns a value as a text that its reader accepts, without userinfo; it does not hide secrets."""
        if isinstance(value, tuple):
            return ",".join(value)
        return str(value).lower() if isinstance(value, bool) else str(value)


#: The names of the collectors of each service, in the order of the exposition.
COLLECTOR_NAMES = {service: tuple(c.name for c in collectors) for service, collectors in COLLECTORS.items()}

#: How the variables of each service begin that _request_options returns.
PREFIXES = {"patroni": "PATRONI_EXPORTER", "staytus": "STAYTUS"}

#: The variable of the URL of each service.
URLS = {"patroni": "PATRONI_EXPORTER_URL", "staytus": "STAYTUS_API_URL"}

#: The variables with the credentials of the Staytus API, by header.
STAYTUS_TOKENS = {"X-Auth-Token": "STAYTUS_API_TOKEN", "X-Auth-Secret": "STAYTUS_API_SECRET"}


def _request_options(service: str, name: str) -> tuple[Option, ...]:
    """Returns the options that Patroni and Staytus both have."""
    collectors = COLLECTOR_NAMES[service]
    flags = {"PATRONI_EXPORTER_TIMEOUT": ("-t", "--timeout"), "PATRONI_EXPORTER_REQUEST_VERIFY": ("--requests-verify",)}
    rows: tuple[tuple[str, str | None, str, Reader[Any]], ...] = (
        ("TIMEOUT", "5", f"timeout of a scrape of {name}, in seconds", readers.seconds(0.01, 3600)),
        ("REQUEST_VERIFY", "true", f"verify the TLS certificate of {name}: true, false, or the path of a CA bundle",
            readers.verify),
        ("COLLECT", ",".join(collectors),
            f"collectors of {name} that are on; the first of them decides whether it is up",
            readers.subset(collectors)),
        ("CERT_FILE", None, f"file with the client certificate for {name} and its chain", readers.certificate_file),
        ("KEY_FILE", None, "file with the private key of the client certificate, if it is another one",
            readers.key_file),
        ("SERVER_NAME", None, f"name in the TLS certificate of {name}, if it is not the host of the URL",
            readers.host_name),
        ("USERNAME", None, f"user name for basic authentication to {name}", readers.user_name),
        ("PASSWORD", None, "password for basic authentication", readers.password),
        ("HEADERS", None, f"more headers for {name}, one per line: `Name: value`", readers.headers),
    )  # fmt: skip
    return tuple(
        Option(variable, default, meaning, read, flags.get(variable, ()), service, suffix in ("PASSWORD", "HEADERS"))
        for suffix, default, meaning, read in rows
        for variable in [f"{PREFIXES[service]}_{suffix}"]
    )


OPTIONS = (
    Option("PATRONI_EXPORTER_PORT", "9547", "port to listen on; if it is not set, EXPORTER_PORT is used",
        readers.integer(1, 65535, "a port"), ("-p", "--port"), "patroni"),
    Option("PATRONI_EXPORTER_BIND", "", "address or host name to listen on; empty for all interfaces",
        readers.host, ("-b", "--bind"), "patroni", can_be_empty=True),
    Option("PATRONI_EXPORTER_ADDRESS_FAMILY", "AF_INET",
        "address family to listen on; AF_INET6 with an empty bind address or :: includes IPv4",
        readers.address_family, ("-a", "--address-family"), "patroni"),
    Option("PATRONI_EXPORTER_DEBUG", "false", "log at debug level", readers.boolean, ("-d", "--debug"), "patroni"),
    Option("PATRONI_EXPORTER_URL", "http://localhost:8008/patroni",
        "URL of Patroni's REST API, with or without /patroni at its end",
        readers.base_url("http://localhost:8008/patroni"), ("-u", "--patroni-url"), "patroni"),
    *_request_options("patroni", "Patroni"),
    Option("PATRONI_EXPORTER_COMPAT_METRICS", "true",
        "export the families of the former Patroni exporter too, which repeat others under its names",
        readers.boolean, service="patroni"),
    Option("STAYTUS_API_URL", "http://localhost:8787/", "base URL of Staytus, with its path if it has one",
        readers.base_url("http://localhost:8787/"), service="staytus"),
    Option("STAYTUS_API_TOKEN", None, "token of the Staytus API",
        readers.ascii_line, service="staytus", secret=True, required=True),
    Option("STAYTUS_API_SECRET", None, "secret of the Staytus API",
        readers.ascii_line, service="staytus", secret=True, required=True),
    Option("POLLING_INTERVAL_SECONDS", "2", "seconds for which a response of Staytus is used again",
        readers.seconds(1, 60), service="staytus"),
    *_request_options("staytus", "Staytus"),
    Option("EXPORTER_PORT", "9877", "port to listen on if only Staytus is on",
        readers.integer(1025, 65535, "a port"), service="staytus"),
    Option("DEBUG", "False", "log at debug level; switches no module on", readers.boolean),
    Option("EXPORTER_LOG_LEVEL", "info", "lowest level that is logged: debug, info, warning or error",
        readers.choice(("debug", "info", "warning", "error"), warn="warning"), ("--log.level",)),
    Option("EXPORTER_LOG_FORMAT", "logfmt", "format of the log: logfmt or json",
        readers.choice(("logfmt", "json")), ("--log.format",)),
    Option("EXPORTER_WEB_CONFIG_FILE", None,
        "web configuration file with TLS, users and headers, in the format of the Prometheus exporter-toolkit",
        readers.path, ("--web.config.file",)),
    Option("EXPORTER_WEB_OPEN_HEALTH", "false", "serve /-/healthy and /-/ready without authentication",
        readers.boolean, ("--web.open-health",)),
    Option("EXPORTER_WORKERS", "1",
        "worker processes of gunicorn; if there are as many as CPUs, each one runs on its own CPU",
        readers.integer(1, 64), ("--workers",)),
    Option("EXPORTER_THREADS", "1024", "maximum number of threads of each worker",
        readers.integer(1, 1024), ("--threads",)),
    Option("EXPORTER_PROBES", "1000",
        "maximum number of concurrent probes of each worker, should be less than its threads; further probes get 503",
        readers.integer(1, 1024), ("--probes",)),
    Option("EXPORTER_CONFIG_FILE", None,
        "file with the modules of /probe and /sd; with it, /metrics has only modules whose requests are configured",
        readers.path, ("--config.file",)),
    Option("EXPORTER_WEB_ENABLE_LIFECYCLE", "false", "enable POST /-/reload, which reloads the modules file",
        readers.boolean, ("--web.enable-lifecycle",)),
)  # fmt: skip
