"""The table of options: those of both old exporters, and how each text is read."""

import os
from collections import Counter
from pathlib import Path

import certifi
import pytest

from exporter.config.options import OPTIONS, Option
from exporter.config.readers import BaseURL
from exporter.upstream.headers import Secret
from exporter.upstream.target import Login

BY_VARIABLE = {option.variable: option for option in OPTIONS}


@pytest.mark.parametrize(
    ("variable", "flags", "default", "service"),
    [
        ("PATRONI_EXPORTER_PORT", ("-p", "--port"), "9547", "patroni"),
        ("PATRONI_EXPORTER_BIND", ("-b", "--bind"), "", "patroni"),
        ("PATRONI_EXPORTER_URL", ("-u", "--patroni-url"), "http://localhost:8008/patroni", "patroni"),
        ("PATRONI_EXPORTER_DEBUG", ("-d", "--debug"), "false", "patroni"),
        ("PATRONI_EXPORTER_TIMEOUT", ("-t", "--timeout"), "5", "patroni"),
        ("PATRONI_EXPORTER_ADDRESS_FAMILY", ("-a", "--address-family"), "AF_INET", "patroni"),
        ("PATRONI_EXPORTER_REQUEST_VERIFY", ("--requests-verify",), "true", "patroni"),
        ("POLLING_INTERVAL_SECONDS", (), "2", "staytus"),
        ("EXPORTER_PORT", (), "9877", "staytus"),
        ("STAYTUS_API_URL", (), "http://localhost:8787/", "staytus"),
        ("STAYTUS_API_TOKEN", (), None, "staytus"),
        ("STAYTUS_API_SECRET", (), None, "staytus"),
        ("DEBUG", (), "False", None),
    ],
)
def test_options_of_the_old_exporters(
    variable: str, flags: tuple[str, ...], default: str | None, service: str | None
) -> None:
    option = BY_VARIABLE[variable]
    assert (option.flags, option.default, option.service) == (flags, default, service)


def test_variables_and_flags_are_unique() -> None:
    names = Counter(name for option in OPTIONS for name in (option.variable, *option.flags))
    assert [name for name, count in names.items() if count > 1] == []


def test_flags_without_a_value() -> None:
    assert [option.flags for option in OPTIONS if option.flags and option.is_switch] == [
        ("-d", "--debug"),
        ("--web.open-health",),
        ("--web.enable-lifecycle",),
    ]


def test_secrets() -> None:
    assert [option.variable for option in OPTIONS if option.secret] == [
        "PATRONI_EXPORTER_PASSWORD",
        "PATRONI_EXPORTER_HEADERS",
        "STAYTUS_API_TOKEN",
        "STAYTUS_API_SECRET",
        "STAYTUS_PASSWORD",
        "STAYTUS_HEADERS",
    ]


@pytest.mark.parametrize("option", [option for option in OPTIONS if option.default], ids=lambda option: option.variable)
def test_shown_default_reads_the_same(option: Option) -> None:
    value = option.read(option.default or "")
    assert option.read(option.show(value)) == value


@pytest.mark.parametrize(
    ("variable", "values"),
    [
        ("PATRONI_EXPORTER_PORT", {"1": 1, "65535": 65535}),
        ("EXPORTER_PORT", {"1025": 1025, "65535": 65535}),
        ("PATRONI_EXPORTER_BIND", {text: text for text in ("", "localhost", "pg_1.example.org", "::", "fe80::1%eth0")}),
        ("PATRONI_EXPORTER_BIND", {"[::1]": "::1"}),
        ("PATRONI_EXPORTER_TIMEOUT", {"5": 5.0, "0.01": 0.01, ".5": 0.5, "3600": 3600.0}),
        ("POLLING_INTERVAL_SECONDS", {"1": 1.0, "1.5": 1.5, "60": 60.0}),
        ("PATRONI_EXPORTER_ADDRESS_FAMILY", {"ipv4": "AF_INET", "AF_INET": "AF_INET"}),
        ("PATRONI_EXPORTER_ADDRESS_FAMILY", {"IPv6": "AF_INET6", "AF_INET6": "AF_INET6"}),
        ("PATRONI_EXPORTER_REQUEST_VERIFY", {"true": True, "False": False}),
        ("PATRONI_EXPORTER_REQUEST_VERIFY", {certifi.where(): certifi.where(), os.sep: os.sep}),
        ("STAYTUS_API_TOKEN", {"d68d6510-3829-4cb4-be51-4b9fc5f576b4": "d68d6510-3829-4cb4-be51-4b9fc5f576b4"}),
        ("STAYTUS_API_SECRET", {"a b": "a b"}),
        ("STAYTUS_CERT_FILE", {certifi.where(): certifi.where()}),
        ("STAYTUS_SERVER_NAME", {text: text for text in ("h", "pg_1.Example.org", "10.0.0.1", "::1")}),
        ("STAYTUS_USERNAME", {"ü s": "ü s"}),
        ("STAYTUS_PASSWORD", {"p:ä ss": "p:ä ss"}),
        ("PATRONI_EXPORTER_HEADERS", {"X-A: b": (("X-A", "b"),)}),
        ("PATRONI_EXPORTER_HEADERS", {"\n X-A :b: c \r\n\nHost:h\n": (("X-A", "b: c"), ("Host", "h"))}),
        ("EXPORTER_WEB_CONFIG_FILE", {"../my web.yml": "../my web.yml"}),
        ("EXPORTER_WORKERS", {"64": 64}),
        ("EXPORTER_LOG_LEVEL", {"warn": "warning", "warning": "warning"}),
        ("DEBUG", dict.fromkeys(("True", "true", "TRUE", "1", "yes", "Yes", "on"), True)),
        ("DEBUG", dict.fromkeys(("False", "false", "FALSE", "0", "no", "No", "off"), False)),
        ("DEBUG", {"-d": True, "--debug": True}),  # from the EnvironmentFile of the old systemd unit
    ],
)
def test_read(variable: str, values: dict[str, object]) -> None:
    assert {text: BY_VARIABLE[variable].read(text) for text in values} == values


PORTS = ["0", "65536", "-1", "+1", "1.0", "1e3", "0x50", "1 2", "٣", "http"]
SECONDS = ["0", "-1", "+1", "1e1", "nan", "inf", "1,5", "5s", ".", "٣", "ten"]
LONG = "x" * 256  # longer than a file name can be


@pytest.mark.parametrize(
    ("variable", "text"),
    [
        *(("PATRONI_EXPORTER_PORT", text) for text in PORTS),
        *(("EXPORTER_PORT", text) for text in [*PORTS, "1024", "80"]),
        *(("PATRONI_EXPORTER_TIMEOUT", text) for text in [*SECONDS, "0.009", "3601"]),
        *(("STAYTUS_TIMEOUT", text) for text in [*SECONDS, "0.009", "3601"]),
        *(("POLLING_INTERVAL_SECONDS", text) for text in [*SECONDS, "0.99", "60.1", "61"]),
        *(("EXPORTER_WEB_CONFIG_FILE", text) for text in ["a\nb", "\x00"]),
        *(("EXPORTER_WEB_OPEN_HEALTH", text) for text in ["2", "y"]),
        ("PATRONI_EXPORTER_COMPAT_METRICS", "maybe"),
        *(("EXPORTER_WORKERS", text) for text in ["0", "65", "1.0"]),
        *(("EXPORTER_THREADS", text) for text in ["0", "1025", "1.0"]),
        *(("EXPORTER_PROBES", text) for text in ["0", "1025", "many"]),
        *(("EXPORTER_CONFIG_FILE", text) for text in ["a\nb", "http://h/modules.yml"]),
        ("EXPORTER_WEB_ENABLE_LIFECYCLE", "maybe"),
        *(("EXPORTER_LOG_LEVEL", text) for text in ["INFO", "trace", "debug,info", ""]),
        *(("EXPORTER_LOG_FORMAT", text) for text in ["JSON", "text", "logfmt,json"]),
        *(("DEBUG", text) for text in ["2", "y", "debug", "release", "None"]),
        *(("PATRONI_EXPORTER_DEBUG", text) for text in ["2", "y", "debug"]),
        *(("PATRONI_EXPORTER_BIND", text) for text in ["a b", "http://h", "h/", "ü", "0.0.0.0,::", "[::1]:80", "*"]),
        *(("PATRONI_EXPORTER_ADDRESS_FAMILY", text) for text in ["4", "inet", "AF_UNIX", "ipv5"]),
        *(("PATRONI_EXPORTER_REQUEST_VERIFY", text) for text in ["yes", "0", "/no/such/bundle", __file__, LONG]),
        *(("STAYTUS_REQUEST_VERIFY", text) for text in ["no", "/no/such/bundle", __file__, LONG]),
        *(("STAYTUS_API_TOKEN", text) for text in ["", "a\nb", "ü", "a\tb", " a", "a\x7f"]),
        *(("STAYTUS_API_SECRET", text) for text in ["", "a\r\nX-Other: b", "ü"]),
        *(("STAYTUS_CERT_FILE", text) for text in ["/no/cert", os.sep, __file__, LONG]),
        *(("STAYTUS_KEY_FILE", text) for text in ["/no/key", os.sep, certifi.where(), LONG]),
        *(("STAYTUS_SERVER_NAME", text) for text in ["https://h", "h:1", "h/", "a..b", ".", "ü", "[::1]", "x" * 254]),
        *(("STAYTUS_USERNAME", text) for text in ["a:b", "a\nb"]),
        *(("STAYTUS_PASSWORD", text) for text in ["", "a\nb", "a\0"]),
        *(("STAYTUS_HEADERS", text) for text in ["", "\n", "h1dden", ": a", "X A: b", "X-A:", "X-A: ü", "X-A: \x01"]),
        *(("STAYTUS_HEADERS", f"X-A: b\n{n}: 1") for n in ["x-a", "Content-Length", "connection", "TE", "Range"]),
    ],
)
def test_read_error(variable: str, text: str) -> None:
    with pytest.raises((ValueError, OSError)):  # the option adds the text
        BY_VARIABLE[variable].read(text)


@pytest.mark.parametrize(
    "variable", ["PATRONI_EXPORTER_REQUEST_VERIFY", "PATRONI_EXPORTER_CERT_FILE", "PATRONI_EXPORTER_KEY_FILE"]
)
def test_empty_file_and_fifo(variable: str, tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    os.mkfifo(tmp_path / "fifo")  # which must not block
    for name in ("empty", "fifo"):
        with pytest.raises((ValueError, OSError)):
            BY_VARIABLE[variable].read(str(tmp_path / name))


# URLs

URLS = ["PATRONI_EXPORTER_URL", "STAYTUS_API_URL"]


@pytest.mark.parametrize("variable", URLS)
@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("http://h", "http://h"),
        ("http://h/", "http://h"),
        ("http://h:8008//", "http://h:8008"),
        ("HTTPS://H:1/Path/", "https://H:1/Path"),
        ("http://pg_1.example.org/below/a/path/", "http://pg_1.example.org/below/a/path"),
        ("http://10.0.0.1:65535/x", "http://10.0.0.1:65535/x"),
        ("http://[::1]", "http://[::1]"),
        ("http://[2001:db8::1]:8008/patroni/", "http://[2001:db8::1]:8008/patroni"),
        ("http://[fe80::1%25eth0]:8008/", "http://[fe80::1%25eth0]:8008"),
        ("http://h/%C3%BC", "http://h/%C3%BC"),
        ("http://h/a@b", "http://h/a@b"),
        ("http://@h", "http://h"),
    ],
)
def test_url(variable: str, text: str, url: str) -> None:
    assert BY_VARIABLE[variable].read(text) == BaseURL(url)


@pytest.mark.parametrize("variable", URLS)
@pytest.mark.parametrize(
    ("userinfo", "login"),
    [
        ("user:pass", ("user", "pass")),
        ("user:p@ss:word", ("user", "p@ss:word")),
        ("user:p%40ss%2Fw%3A", ("user", "p@ss/w:")),
        ("us%3Aer:p", ("us:er", "p")),
        ("user:", ("user", "")),
        ("user", ("user", "")),
        (":pass", ("", "pass")),
        ("%C3%BC:%F0%9F%97%9D", ("ü", "🗝")),
    ],
)
def test_userinfo_is_a_login_and_not_shown(variable: str, userinfo: str, login: tuple[str, str]) -> None:
    option = BY_VARIABLE[variable]
    value = option.read(f"https://{userinfo}@[::1]:1/x/")
    user, password = login
    assert value == BaseURL("https://[::1]:1/x", Login(user, Secret(password)))
    assert option.show(value) == "https://[::1]:1/x"


@pytest.mark.parametrize("variable", URLS)
@pytest.mark.parametrize(
    "text",
    [
        "h", "h:8008/patroni", "//h/patroni", "ftp://h", "unix:///run/patroni", "http:/h", "http://", "http:///patroni",
        "http://:8008", "http://u:p@/", "http://h:0", "http://h:65536", "http://h:port", "http://h:-1",
        "http://::1:8008", "http://[::1", "http://[::1]8008", "http://[1:2]", "http://[v1.x]", "http://[127.0.0.1]",
        "http://h?x=1", "http://h/#x", "http://h /", "http://h/a b", "http://ü/", "http://h/ü", "http://h/\n",
        "http://*", "http://.h", "http://a|b", "http://u:p/w@h", "http://u:%FF@h",
    ],
)  # fmt: skip
def test_url_error(variable: str, text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - of urlsplit or of ours
        BY_VARIABLE[variable].read(text)


# Error texts

EXPECTED_SECONDS = "expected a number of seconds from 0.01 to 3600"
EXPECTED_URL = "expected a URL such as http://localhost"
BUNDLE = "expected true, false or the path of a CA bundle that can be read"
KEY = "Staytus needs STAYTUS_API_TOKEN and STAYTUS_API_SECRET"

REFUSED = [
    ("PATRONI_EXPORTER_PORT", "0", "PATRONI_EXPORTER_PORT='0': expected a port from 1 to 65535"),
    ("PATRONI_EXPORTER_BIND", "a b", "PATRONI_EXPORTER_BIND='a b': expected an address or a host name"),
    ("PATRONI_EXPORTER_URL", "h:8008", f"PATRONI_EXPORTER_URL='h:8008': {EXPECTED_URL}:8008/patroni"),
    ("PATRONI_EXPORTER_URL", "http://u:h1/dden@h", f"PATRONI_EXPORTER_URL='http://***@h': {EXPECTED_URL}:8008/patroni"),
    ("PATRONI_EXPORTER_URL", "http://u:h1 dden@h", f"PATRONI_EXPORTER_URL='http://***@h': {EXPECTED_URL}:8008/patroni"),
    ("PATRONI_EXPORTER_URL", "u:h1/d:\n//den@h", f"PATRONI_EXPORTER_URL='***@h': {EXPECTED_URL}:8008/patroni"),
    ("PATRONI_EXPORTER_URL", "http://u:h1dden@h:0/x@y",
     f"PATRONI_EXPORTER_URL='http://***@y': {EXPECTED_URL}:8008/patroni"),
    ("PATRONI_EXPORTER_DEBUG", "maybe", "PATRONI_EXPORTER_DEBUG='maybe': expected true or false"),
    ("PATRONI_EXPORTER_TIMEOUT", "ten", f"PATRONI_EXPORTER_TIMEOUT='ten': {EXPECTED_SECONDS}"),
    ("PATRONI_EXPORTER_TIMEOUT", "1\n2", f"PATRONI_EXPORTER_TIMEOUT='1\\n2': {EXPECTED_SECONDS}"),
    ("PATRONI_EXPORTER_ADDRESS_FAMILY", "inet",
     "PATRONI_EXPORTER_ADDRESS_FAMILY='inet': expected one of ipv4, ipv6, AF_INET, AF_INET6"),
    ("PATRONI_EXPORTER_REQUEST_VERIFY", "/no/ca", f"PATRONI_EXPORTER_REQUEST_VERIFY='/no/ca': {BUNDLE}"),
    ("STAYTUS_API_URL", "http://u:h1dden@h?x", f"STAYTUS_API_URL='http://***@h?x': {EXPECTED_URL}:8787/"),
    ("STAYTUS_API_TOKEN", "h1d\nden", "STAYTUS_API_TOKEN: expected one line of ASCII"),
    ("STAYTUS_API_TOKEN", "", f"STAYTUS_API_TOKEN is not set: {KEY}"),
    ("STAYTUS_API_SECRET", "h1ddenü", "STAYTUS_API_SECRET: expected one line of ASCII"),
    ("STAYTUS_API_SECRET", "", f"STAYTUS_API_SECRET is not set: {KEY}"),
    ("STAYTUS_API_SECRET_FILE", "/secret",
     "STAYTUS_API_SECRET and STAYTUS_API_SECRET_FILE are both set: expected one of them"),
    ("POLLING_INTERVAL_SECONDS", "61", "POLLING_INTERVAL_SECONDS='61': expected a number of seconds from 1 to 60"),
    ("STAYTUS_TIMEOUT", "0", f"STAYTUS_TIMEOUT='0': {EXPECTED_SECONDS}"),
    ("PATRONI_EXPORTER_COLLECT", "node,nodes",
     "PATRONI_EXPORTER_COLLECT='node,nodes': expected a list of node, cluster, history, config, failsafe, "
     "separated by commas"),
    ("STAYTUS_COLLECT", "issues,",
     "STAYTUS_COLLECT='issues,': expected a list of services, issues, separated by commas"),
    ("STAYTUS_REQUEST_VERIFY", "on", f"STAYTUS_REQUEST_VERIFY='on': {BUNDLE}"),
    ("EXPORTER_PORT", "1024", "EXPORTER_PORT='1024': expected a port from 1025 to 65535"),
    ("DEBUG", "release", "DEBUG='release': expected true or false"),
    *(
        (f"{prefix}_{name}", text, f"{prefix}_{name}{shown}: expected {expected}")
        for prefix in ("PATRONI_EXPORTER", "STAYTUS")
        for name, text, shown, expected in [
            ("CERT_FILE", "/no", "='/no'", "the path of a file with a certificate in PEM"),
            ("KEY_FILE", "/no", "='/no'", "the path of a file with a private key in PEM"),
            ("KEY_FILE", "-----BEGIN PRIVATE KEY-----\nh1dden", "", "the path of a file with a private key in PEM"),
            ("SERVER_NAME", "https://h", "='https://h'", "a host name"),
            ("USERNAME", "a:b", "='a:b'", "a name without a colon"),
            ("PASSWORD", "h1d\nden", "", "a password, one line"),
            ("HEADERS", "h1dden", "", "lines of the form Name: value, each name once"),
        ]
    ),
    ("EXPORTER_LOG_LEVEL", "trace", "EXPORTER_LOG_LEVEL='trace': expected one of debug, info, warning, error"),
    ("EXPORTER_LOG_FORMAT", "text", "EXPORTER_LOG_FORMAT='text': expected one of logfmt, json"),
    ("EXPORTER_WEB_CONFIG_FILE", "a\nb", "EXPORTER_WEB_CONFIG_FILE='a\\nb': expected the path of a file"),
    ("EXPORTER_WEB_OPEN_HEALTH", "maybe", "EXPORTER_WEB_OPEN_HEALTH='maybe': expected true or false"),
    ("PATRONI_EXPORTER_COMPAT_METRICS", "-1", "PATRONI_EXPORTER_COMPAT_METRICS='-1': expected true or false"),
    ("EXPORTER_WORKERS", "0", "EXPORTER_WORKERS='0': expected a number from 1 to 64"),
    ("EXPORTER_THREADS", "1025", "EXPORTER_THREADS='1025': expected a number from 1 to 1024"),
    ("EXPORTER_PROBES", "0", "EXPORTER_PROBES='0': expected a number from 1 to 1024"),
    ("EXPORTER_CONFIG_FILE", "a\nb", "EXPORTER_CONFIG_FILE='a\\nb': expected the path of a file"),
    ("EXPORTER_WEB_ENABLE_LIFECYCLE", "maybe", "EXPORTER_WEB_ENABLE_LIFECYCLE='maybe': expected true or false"),
]  # fmt: skip


def test_every_option_has_an_error_text() -> None:
    assert {option.variable for option in OPTIONS} <= {variable for variable, _, _ in REFUSED}
