"""Settings: the source of a value, the modules that are on, the address to listen on, and errors."""

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import certifi
import pytest

from exporter.config.errors import ConfigError
from exporter.config.options import OPTIONS
from exporter.config.settings import Settings
from exporter.upstream.headers import Secret
from exporter.upstream.target import Credentials, Header, HeaderLines, Login, Module, RequestOptions, Target

PATRONI_COLLECT = ("node", "cluster", "history", "config", "failsafe")
STAYTUS_COLLECT = ("services", "issues")
KEYS = {"STAYTUS_API_TOKEN": "t0ken", "STAYTUS_API_SECRET": "s3cret"}


Part = Header | HeaderLines | Login


def patroni(url: str = "http://localhost:8008", auth: tuple[Part, ...] = (), **options: Any) -> Module:
    """Patroni's module, with the default request options but these."""
    request_options = RequestOptions(**{"timeout": 5.0, "auth": Credentials(auth), **options})
    return Module("patroni", "patroni", Target(url, request_options), PATRONI_COLLECT)


def tokens(token: str = "t0ken", secret: str = "s3cret") -> tuple[Header, ...]:
    return (Header("X-Auth-Token", Secret(token)), Header("X-Auth-Secret", Secret(secret)))


def staytus(url: str = "http://localhost:8787", auth: tuple[Part, ...] | None = None, **options: Any) -> Module:
    """The module of Staytus with KEYS, with the default request options but these."""
    auth = tokens() if auth is None else auth
    request_options = RequestOptions(**{"timeout": 5.0, "interval": 2.0, "auth": Credentials(auth), **options})
    return Module("staytus", "staytus", Target(url, request_options), STAYTUS_COLLECT)


def settings(*modules: Module, **changes: Any) -> Settings:
    """The default settings, with these modules (else only Patroni) and these changes."""
    port = 9877 if modules and modules[0].service == "staytus" else 9547
    default = Settings("", port, "AF_INET", "info", "logfmt", 1, 1024, 1000, modules or (patroni(),))
    return replace(default, **changes)


def load(environ: Mapping[str, str]) -> Settings:
    """The settings of this environment, without a `.env` file unless it names one."""
    return Settings.load({"EXPORTER_ENV_FILE": os.devnull, **environ})


def env_file(folder: Path, values: Mapping[str, str]) -> str:
    """Writes a `.env` file and returns its path."""
    path = folder / "some.env"
    path.write_text("".join(f'{name}="{value}"\n' for name, value in values.items()))
    return str(path)


def with_file(path: str, *modules: Module, **changes: Any) -> Settings:
    """The settings with this modules file, with which no module is on by default."""
    return replace(settings(*modules, **changes), modules=modules, config_file=path)


CA = certifi.where()
ROOT = Path(__file__).parents[2]
MODULES, MORE_MODULES = str(ROOT / "deploy" / "modules.yml"), str(ROOT / "tests" / "modules.yml")

#: The options that are tested in test_credentials.py.
KEY_OPTIONS = [
    f"{prefix}_{name}"
    for prefix in ("PATRONI_EXPORTER", "STAYTUS")
    for name in ("CERT_FILE", "KEY_FILE", "SERVER_NAME", "USERNAME", "PASSWORD", "HEADERS")
]

#: Each variable with two values and the settings that they give; those of Staytus together with KEYS.
ROWS = [
    ("PATRONI_EXPORTER_PORT", "1", settings(port=1), "65535", settings(port=65535)),
    ("PATRONI_EXPORTER_BIND", "[::1]", settings(host="::1"), "pg-1", settings(host="pg-1")),
    ("PATRONI_EXPORTER_URL", "http://a", settings(patroni("http://a")), "http://b", settings(patroni("http://b"))),
    ("PATRONI_EXPORTER_DEBUG", "true", settings(log_level="debug"), "false", settings()),
    ("PATRONI_EXPORTER_TIMEOUT", "1", settings(patroni(timeout=1.0)), "2.5", settings(patroni(timeout=2.5))),
    ("PATRONI_EXPORTER_ADDRESS_FAMILY", "ipv6", settings(address_family="AF_INET6"), "ipv4", settings()),
    ("PATRONI_EXPORTER_REQUEST_VERIFY", "false", settings(patroni(verify=False)), CA, settings(patroni(verify=CA))),
    ("PATRONI_EXPORTER_COLLECT", "cluster, history", settings(replace(patroni(), collect=("cluster", "history"))),
     "node", settings(replace(patroni(), collect=("node",)))),
    ("PATRONI_EXPORTER_COMPAT_METRICS", "false", settings(replace(patroni(), compat_metrics=False)),
     "true", settings()),
    ("STAYTUS_API_URL", "https://a/s/", settings(staytus("https://a/s")), "http://b", settings(staytus("http://b"))),
    ("STAYTUS_API_TOKEN", "one", settings(staytus(auth=tokens("one"))), "two", settings(staytus(auth=tokens("two")))),
    ("STAYTUS_API_SECRET", "one", settings(staytus(auth=tokens(secret="one"))),
     "two", settings(staytus(auth=tokens(secret="two")))),
    ("POLLING_INTERVAL_SECONDS", "60", settings(staytus(interval=60.0)), "1", settings(staytus(interval=1.0))),
    ("STAYTUS_TIMEOUT", "1", settings(staytus(timeout=1.0)), "2.5", settings(staytus(timeout=2.5))),
    ("STAYTUS_REQUEST_VERIFY", "false", settings(staytus(verify=False)), "true", settings(staytus())),
    ("STAYTUS_COLLECT", "issues", settings(replace(staytus(), collect=("issues",))),
     "services,issues", settings(staytus())),
    ("EXPORTER_PORT", "1025", settings(staytus(), port=1025), "65535", settings(staytus(), port=65535)),
    ("DEBUG", "yes", settings(log_level="debug"), "False", settings()),
    ("EXPORTER_LOG_LEVEL", "warn", settings(log_level="warning"), "error", settings(log_level="error")),
    ("EXPORTER_LOG_FORMAT", "json", settings(log_format="json"), "logfmt", settings()),
    ("EXPORTER_WEB_CONFIG_FILE", "web.yml", settings(web_config_file="web.yml"), "/w", settings(web_config_file="/w")),
    ("EXPORTER_WEB_OPEN_HEALTH", "true", settings(open_health=True), "no", settings()),
    ("EXPORTER_WORKERS", "2", settings(workers=2), "64", settings(workers=64)),
    ("EXPORTER_THREADS", "1", settings(threads=1), "1024", settings(threads=1024)),
    ("EXPORTER_PROBES", "1", settings(probes=1), "1024", settings(probes=1024)),
    ("EXPORTER_CONFIG_FILE", MODULES, with_file(MODULES), MORE_MODULES, with_file(MORE_MODULES)),
    ("EXPORTER_WEB_ENABLE_LIFECYCLE", "true", settings(lifecycle=True), "false", settings()),
]  # fmt: skip


def test_every_option_is_tested() -> None:
    assert {row[0] for row in ROWS} == {option.variable for option in OPTIONS} - set(KEY_OPTIONS)


def test_defaults() -> None:
    assert load({}) == settings()
    assert load(KEYS) == settings(staytus())


@pytest.mark.parametrize(("variable", "one", "as_one", "two", "as_two"), ROWS, ids=[row[0] for row in ROWS])
def test_source(variable: str, one: str, as_one: Settings, two: str, as_two: Settings, tmp_path: Path) -> None:
    """The environment takes precedence over the `.env` file; an empty variable is not set."""
    is_of_staytus = any(option.variable == variable and option.service == "staytus" for option in OPTIONS)
    needed = KEYS if is_of_staytus else {}
    assert load({**needed, variable: one}) == as_one
    assert load({**needed, variable: f" {two} "}) == as_two
    environ = {"EXPORTER_ENV_FILE": env_file(tmp_path, {**needed, variable: two})}
    assert load(environ) == as_two
    assert load({**environ, variable: one}) == as_one
    for empty in ("", " "):
        expected = settings() if variable == "PATRONI_EXPORTER_BIND" else as_two  # whose empty value is one
        assert load({**environ, variable: empty}) == expected


def test_all_variables_empty(tmp_path: Path) -> None:
    empty = {option.variable: "" for option in OPTIONS}
    files = {f"{option.variable}_FILE": "" for option in OPTIONS}
    assert load({**empty, **files}) == settings()
    assert load({"EXPORTER_ENV_FILE": env_file(tmp_path, empty)}) == settings()
    assert load({**empty, **files, **KEYS}) == settings(staytus())


def test_env_file_is_not_interpolated(tmp_path: Path) -> None:
    path = tmp_path / "some.env"
    path.write_text("STAYTUS_API_TOKEN='tok${HOME}x'\nSTAYTUS_API_SECRET=\"sec${HOME}\"\n")
    assert load({"EXPORTER_ENV_FILE": str(path)}) == settings(staytus(auth=tokens("tok${HOME}x", "sec${HOME}")))


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({"PATRONI_EXPORTER_DEBUG": "false"}, settings()),
        ({**KEYS, "DEBUG": "1"}, settings(staytus(), log_level="debug")),
        ({**KEYS, "EXPORTER_WORKERS": "2", "EXPORTER_THREADS": "3"}, settings(staytus(), workers=2, threads=3)),
        ({**KEYS, "PATRONI_EXPORTER_BIND": ""}, settings(staytus())),
        ({**KEYS, "PATRONI_EXPORTER_BIND": "::1"}, settings(patroni(), staytus(), host="::1")),
        ({**KEYS, "PATRONI_EXPORTER_URL": "http://h"}, settings(patroni(url="http://h"), staytus())),
        ({**KEYS, "PATRONI_EXPORTER_PORT": "1"}, settings(patroni(), staytus(), port=1)),
        ({**KEYS, "PATRONI_EXPORTER_TIMEOUT": "1", "EXPORTER_PORT": "2000"},
         settings(patroni(timeout=1.0), staytus(), port=2000)),
        ({**KEYS, "PATRONI_EXPORTER_PORT": "1", "EXPORTER_PORT": "2000"}, settings(patroni(), staytus(), port=1)),
    ],
)  # fmt: skip
def test_modules_that_are_on(environ: dict[str, str], expected: Settings) -> None:
    assert load(environ) == expected


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({"PATRONI_EXPORTER_PORT": "1", "PATRONI_EXPORTER_BIND": "::1", "PATRONI_EXPORTER_DEBUG": "true",
          "PATRONI_EXPORTER_ADDRESS_FAMILY": "ipv6"},
         with_file(MODULES, port=1, host="::1", log_level="debug", address_family="AF_INET6")),
        ({"EXPORTER_PORT": "2000"}, with_file(MODULES, port=2000)),
        ({"PATRONI_EXPORTER_URL": "http://h"}, with_file(MODULES, patroni(url="http://h"))),
        ({"PATRONI_EXPORTER_TIMEOUT": "1"}, with_file(MODULES, patroni(timeout=1.0))),
        (KEYS, with_file(MODULES, staytus())),
    ],
)  # fmt: skip
def test_modules_that_are_on_with_a_modules_file(environ: dict[str, str], expected: Settings) -> None:
    assert load({**environ, "EXPORTER_CONFIG_FILE": MODULES}) == expected


def test_error_in_the_modules_file(tmp_path: Path) -> None:
    assert load({}).load_file() is None
    file = tmp_path / "m.yml"
    file.write_text("modules:\n  db: {}\n")
    with pytest.raises(ConfigError) as raised:
        load({"EXPORTER_CONFIG_FILE": str(file)}).load_file()
    assert str(raised.value) == f"{file}:2: modules.db: collector is missing"
    with pytest.raises(ConfigError) as raised:
        load({"EXPORTER_CONFIG_FILE": str(tmp_path / "none.yml")}).load_file()
    assert str(raised.value) == f"{tmp_path}/none.yml: no such file or directory"


@pytest.mark.parametrize(
    ("base", "texts"),
    [
        ("http://h:8008", ("http://h:8008/patroni", "http://h:8008/patroni/", "http://h:8008", "http://h:8008/")),
        ("http://h/below", ("http://h/below/patroni", "http://h/below//patroni//", "http://h/below/")),
        ("http://h/patroni", ("http://h/patroni/patroni",)),
        ("http://h/my-patroni", ("http://h/my-patroni",)),
        ("http://[::1]:8008", ("http://[::1]:8008/patroni",)),
        # In a compose file it is the host.
        ("http://patroni", ("http://patroni", "http://patroni/", "http://patroni/patroni")),
    ],
)
def test_url_of_patroni(base: str, texts: tuple[str, ...]) -> None:
    for text in texts:
        assert load({"PATRONI_EXPORTER_URL": text}) == settings(patroni(url=base))


# The address to listen on


@pytest.mark.parametrize(
    ("host", "family", "address"),
    [
        ("", "AF_INET", "0.0.0.0:9547"),
        ("", "AF_INET6", "[::]:9547"),
        ("::", "AF_INET6", "[::]:9547"),
        ("::", "AF_INET", "[::]:9547"),
        ("::1", "AF_INET", "[::1]:9547"),
        ("::1", "AF_INET6", "[::1]:9547"),
        ("0.0.0.0", "AF_INET", "0.0.0.0:9547"),
        ("127.0.0.1", "AF_INET", "127.0.0.1:9547"),
        ("localhost", "AF_INET", "127.0.0.1:9547"),
    ],
)
def test_listen(host: str, family: str, address: str) -> None:
    assert settings(host=host, address_family=family).listen() == address


@pytest.mark.parametrize(
    ("host", "family", "wanted"),
    [
        ("127.0.0.1", "AF_INET6", "AF_INET6"),
        ("0.0.0.0", "AF_INET6", "AF_INET6"),
        ("127.0.0.1:80", "AF_INET", "AF_INET6"),
        ("a..b", "AF_INET", "AF_INET"),
        ("x" * 64, "AF_INET", "AF_INET"),
    ],
)
def test_listen_error(host: str, family: str, wanted: str) -> None:
    with pytest.raises(ConfigError) as caught:
        settings(host=host, address_family=family).listen()
    assert str(caught.value) == (
        f"PATRONI_EXPORTER_BIND={host!r}: expected an address or a host name with an address of the family {wanted} "
        "(PATRONI_EXPORTER_ADDRESS_FAMILY)"
    )
