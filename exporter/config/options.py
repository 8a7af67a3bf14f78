"""What can be set: every option as one row, with its variable, its arguments, its default and how it is read."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from exporter.config import readers


@dataclass(frozen=True)
class Option:
    """One setting, as the command line, the table of settings and `.env.sample` show it.

    `read` turns its text into a value and raises ValueError. `service` is the service that it switches on. A secret is
    never shown, and can be given in a file named by the variable with `_FILE` at its end. An option that can be empty
    is given when its variable is there. One without a default is required for its service, or else simply not there.
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
    required: bool = True

    @property
    def is_switch(self) -> bool:
        """Tells whether its argument takes no value."""
        return self.read is readers.switch

    def show(self, value: Any) -> str:
        """Returns a value as one would write it, without userinfo; to hide a secret is up to the caller."""
        if self.read is readers.url:
            return str(value[0])
        if isinstance(value, tuple):
            return ",".join(value)
        return str(value).lower() if isinstance(value, bool) else str(value)


# The table ------------------------------------------------------------------------------------------------------------

PATRONI_COLLECTORS = "node,cluster,history,config,failsafe"
STAYTUS_COLLECTORS = "services,issues"


def _keys(prefix: str, service: str, name: str) -> tuple[Option, ...]:
    """Returns the options of what this exporter shows to a service so that it is let in, and whom it takes it for."""

    def option(
        variable: str, meaning: str, expected: str, read: Callable[[str], Any], *, secret: bool = False
    ) -> Option:
        return Option(f"{prefix}_{variable}", None, meaning, expected, read, (), service, secret, required=False)

    return (
        option(
            "CERT_FILE",
            f"client certificate for {name}, with its chain",
            "the path of a file with a certificate in PEM",
            readers.certificate_file,
        ),
        option(
            "KEY_FILE",
            "private key of the client certificate, where that file does not hold it",
            "the path of a file with a private key in PEM",
            readers.key_file,
        ),
        option(
            "SERVER_NAME",
            f"name in the TLS certificate of {name}, where it is not the URL's host",
            "a host name",
            readers.host_name,
        ),
        option("USERNAME", f"user for basic authentication at {name}", "a name without a colon", readers.login_name),
        option("PASSWORD", "password of that user", "the password, one line", readers.line, secret=True),
        option(
            "HEADERS",
            f"more headers for {name}, each in a line: `Name: value`",
            "lines of the form Name: value, each name once, none that HTTP itself needs",
            readers.header_lines,
            secret=True,
        ),
    )


OPTIONS = (
    Option(
        "PATRONI_EXPORTER_PORT",
        "9547",
        "port to listen on; without it EXPORTER_PORT counts",
        "a port from 1 to 65535",
        readers.whole(1, 65535),
        ("-p", "--port"),
        "patroni",
    ),
    Option(
        "PATRONI_EXPORTER_BIND",
        "",
        "address or host name to listen on; empty is all interfaces",
        "an address or a host name",
        readers.host,
        ("-b", "--bind"),
        "patroni",
        can_be_empty=True,
    ),
    Option(
        "PATRONI_EXPORTER_URL",
        "http://localhost:8008/patroni",
        "Patroni's REST API, with or without /patroni at its end",
        "a URL such as http://localhost:8008/patroni",
        readers.url,
        ("-u", "--patroni-url"),
        "patroni",
    ),
    Option(
        "PATRONI_EXPORTER_DEBUG",
        "false",
        "log at debug level",
        "true or false",
        readers.switch,
        ("-d", "--debug"),
        "patroni",
    ),
    Option(
        "PATRONI_EXPORTER_TIMEOUT",
        "5",
        "seconds that Patroni has to answer",
        "a number of seconds from 0.01 to 3600",
        readers.seconds(0.01, 3600),
        ("-t", "--timeout"),
        "patroni",
    ),
    Option(
        "PATRONI_EXPORTER_ADDRESS_FAMILY",
        "AF_INET",
        "family of the address to listen on; AF_INET6 with an empty bind or :: listens on IPv4 too",
        "one of ipv4, ipv6, AF_INET, AF_INET6",
        readers.address_family,
        ("-a", "--address-family"),
        "patroni",
    ),
    Option(
        "PATRONI_EXPORTER_REQUEST_VERIFY",
        "true",
        "verification of Patroni's TLS certificate: true, false, or the path of a CA bundle",
        "true, false or the path of a CA bundle that can be read",
        readers.verify,
        ("--requests-verify",),
        "patroni",
    ),
    Option(
        "PATRONI_EXPORTER_COLLECT",
        PATRONI_COLLECTORS,
        "what is asked of Patroni; the first that is asked tells whether it is up",
        f"names out of {PATRONI_COLLECTORS}",
        readers.some_of(PATRONI_COLLECTORS),
        service="patroni",
    ),
    *_keys("PATRONI_EXPORTER", "patroni", "Patroni"),
    Option(
        "STAYTUS_API_URL",
        "http://localhost:8787/",
        "base URL of Staytus; a path in it is kept",
        "a URL such as http://localhost:8787/",
        readers.url,
        service="staytus",
    ),
    Option(
        "STAYTUS_API_TOKEN",
        None,
        "token of the Staytus API",
        "the token, one line of ASCII",
        readers.header_value,
        service="staytus",
        secret=True,
    ),
    Option(
        "STAYTUS_API_SECRET",
        None,
        "secret of the Staytus API",
        "the secret, one line of ASCII",
        readers.header_value,
        service="staytus",
        secret=True,
    ),
    Option(
        "POLLING_INTERVAL_SECONDS",
        "2",
        "Staytus is asked at most once in so many seconds",
        "a number of seconds from 1 to 60",
        readers.seconds(1, 60),
        service="staytus",
    ),
    Option(
        "STAYTUS_TIMEOUT",
        "5",
        "seconds that Staytus has to answer",
        "a number of seconds from 0.01 to 3600",
        readers.seconds(0.01, 3600),
        service="staytus",
    ),
    Option(
        "STAYTUS_REQUEST_VERIFY",
        "true",
        "verification of Staytus' TLS certificate: true, false, or the path of a CA bundle",
        "true, false or the path of a CA bundle that can be read",
        readers.verify,
        service="staytus",
    ),
    Option(
        "STAYTUS_COLLECT",
        STAYTUS_COLLECTORS,
        "what is asked of Staytus; the first that is asked tells whether it is up",
        f"names out of {STAYTUS_COLLECTORS}",
        readers.some_of(STAYTUS_COLLECTORS),
        service="staytus",
    ),
    *_keys("STAYTUS", "staytus", "Staytus"),
    Option(
        "EXPORTER_PORT",
        "9877",
        "port to listen on when only Staytus is on",
        "a port from 1025 to 65535",
        readers.whole(1025, 65535),
        service="staytus",
    ),
    Option(
        "DEBUG",
        "False",
        "log at debug level; alone it switches no module on",
        "True, true, 1, yes or False, false, 0, no",
        readers.switch,
    ),
    Option(
        "EXPORTER_LOG_LEVEL",
        "info",
        "least level of what is logged: debug, info, warning or error",
        "one of debug, info, warning, error",
        readers.one_of("debug,info,warning,error", warn="warning"),
        ("--log.level",),
    ),
    Option(
        "EXPORTER_LOG_FORMAT",
        "logfmt",
        "form of the log's lines: logfmt or json",
        "one of logfmt, json",
        readers.one_of("logfmt,json"),
        ("--log.format",),
    ),
    Option(
        "EXPORTER_WEB_CONFIG_FILE",
        None,
        "file that says how to serve: TLS, passwords, headers, in the format of the Prometheus exporter-toolkit",
        "the path of a file",
        readers.path,
        ("--web.config.file",),
        required=False,
    ),
    Option(
        "EXPORTER_WEB_OPEN_HEALTH",
        "false",
        "ask for no password at /-/healthy and /-/ready",
        "true or false",
        readers.switch,
        ("--web.open-health",),
    ),
    Option(
        "EXPORTER_WORKERS",
        "1",
        "gunicorn's worker processes; with as many as there are CPUs, each keeps to one",
        "a number from 1 to 64",
        readers.whole(1, 64),
        ("--workers",),
    ),
    Option(
        "EXPORTER_THREADS",
        "256",
        "threads of each worker, made when needed",
        "a number from 1 to 1024",
        readers.whole(1, 1024),
        ("--threads",),
    ),
    Option(
        "EXPORTER_PROBES",
        "200",
        "probes that each worker serves at once, which should be fewer than its threads; more of them get 503",
        "a number from 1 to 1024",
        readers.whole(1, 1024),
        ("--probes",),
    ),
    Option(
        "EXPORTER_CONFIG_FILE",
        None,
        "file with the modules of /probe and /sd; with it a module is on here only when told how it is asked",
        "the path of a file with modules",
        readers.path,
        ("--config.file",),
        required=False,
    ),
    Option(
        "EXPORTER_WEB_ENABLE_LIFECYCLE",
        "false",
        "let POST /-/reload load the file with the modules again",
        "true or false",
        readers.switch,
        ("--web.enable-lifecycle",),
    ),
)
