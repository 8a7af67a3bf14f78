"""Settings: where a value comes from, which modules it switches on, where to listen, and what is refused how."""

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
from exporter.upstream.target import Module, Target

PATRONI_COLLECT = ("node", "cluster", "history", "config", "failsafe")
STAYTUS_COLLECT = ("services", "issues")
KEYS = {"STAYTUS_API_TOKEN": "t0ken", "STAYTUS_API_SECRET": "s3cret"}


def patroni(**changes: Any) -> Module:
    """Patroni's module as it is by default, with these changes to its target."""
    return Module("patroni", "patroni", replace(Target("http://localhost:8008", 5.0, True), **changes), PATRONI_COLLECT)


def staytus(token: str = "t0ken", secret: str = "s3cret", **changes: Any) -> Module:
    """The module of Staytus as it is with KEYS, with these changes to its target."""
    headers = (("X-Auth-Token", token), ("X-Auth-Secret", secret))
    target = Target("http://localhost:8787", 5.0, True, interval=2.0, headers=headers)
    return Module("staytus", "staytus", replace(target, **changes), STAYTUS_COLLECT)


def settings(*modules: Module, **changes: Any) -> Settings:
    """What is set by default, with these modules (else Patroni alone) and these changes."""
    port = 9877 if modules and modules[0].service == "staytus" else 9547
    default = Settings("", port, "AF_INET", "info", "logfmt", 1, 256, 200, modules or (patroni(),))
    return replace(default, **changes)


def load(environ: Mapping[str, str]) -> Settings:
    """The settings of this environment, with no `.env` unless it names one."""
    return Settings.load({"EXPORTER_ENV_FILE": os.devnull, **environ})


def env_file(folder: Path, values: Mapping[str, str]) -> str:
    """Writes a `.env` file and returns its name."""
    path = folder / "some.env"
    path.write_text("".join(f'{name}="{value}"\n' for name, value in values.items()))
    return str(path)


def beside_file(path: str, *modules: Module, **changes: Any) -> Settings:
    """What is set with this modules file, beside which no module is on by itself."""
    return replace(settings(*modules, **changes), modules=modules, config_file=path)


CA = certifi.where()
ROOT = Path(__file__).parents[2]
MODULES, MORE_MODULES = str(ROOT / "deploy" / "modules.yml"), str(ROOT / "tests" / "modules.yml")

#: The options that are tried in test_keys.py.
KEY_OPTIONS = [
    f"{prefix}_{name}"
    for prefix in ("PATRONI_EXPORTER", "STAYTUS")
    for name in ("CERT_FILE", "KEY_FILE", "SERVER_NAME", "USERNAME", "PASSWORD", "HEADERS")
]

#: Each variable with two values and the settings that they give; Staytus' are given beside KEYS.
ROWS = [
    ("PATRONI_EXPORTER_PORT", "1", settings(port=1), "65535", settings(port=65535)),
    ("PATRONI_EXPORTER_BIND", "[::1]", settings(host="::1"), "pg-1", settings(host="pg-1")),
    (
        "PATRONI_EXPORTER_URL",
        "http://a",
        settings(patroni(url="http://a")),
        "http://b",
        settings(patroni(url="http://b")),
    ),
    ("PATRONI_EXPORTER_DEBUG", "true", settings(log_level="debug"), "false", settings()),
    ("PATRONI_EXPORTER_TIMEOUT", "1", settings(patroni(timeout=1.0)), "2.5", settings(patroni(timeout=2.5))),
    ("PATRONI_EXPORTER_ADDRESS_FAMILY", "ipv6", settings(address_family="AF_INET6"), "ipv4", settings()),
    ("PATRONI_EXPORTER_REQUEST_VERIFY", "false", settings(patroni(verify=False)), CA, settings(patroni(verify=CA))),
    (
        "PATRONI_EXPORTER_COLLECT",
        "cluster, history",
        settings(replace(patroni(), collect=("cluster", "history"))),
        "node",
        settings(replace(patroni(), collect=("node",))),
    ),
    (
        "STAYTUS_API_URL",
        "https://a/s/",
        settings(staytus(url="https://a/s")),
        "http://b",
        settings(staytus(url="http://b")),
    ),
    ("STAYTUS_API_TOKEN", "one", settings(staytus("one")), "two", settings(staytus("two"))),
    ("STAYTUS_API_SECRET", "one", settings(staytus(secret="one")), "two", settings(staytus(secret="two"))),
    ("POLLING_INTERVAL_SECONDS", "60", settings(staytus(interval=60.0)), "1", settings(staytus(interval=1.0))),
    ("STAYTUS_TIMEOUT", "1", settings(staytus(timeout=1.0)), "2.5", settings(staytus(timeout=2.5))),
    ("STAYTUS_REQUEST_VERIFY", "false", settings(staytus(verify=False)), "true", settings(staytus())),
    (
        "STAYTUS_COLLECT",
        "issues",
        settings(replace(staytus(), collect=("issues",))),
        "services,issues",
        settings(staytus()),
    ),
    ("EXPORTER_PORT", "1025", settings(staytus(), port=1025), "65535", settings(staytus(), port=65535)),
    ("DEBUG", "yes", settings(log_level="debug"), "False", settings()),
    ("EXPORTER_LOG_LEVEL", "warn", settings(log_level="warning"), "error", settings(log_level="error")),
    ("EXPORTER_LOG_FORMAT", "json", settings(log_format="json"), "logfmt", settings()),
    ("EXPORTER_WEB_CONFIG_FILE", "web.yml", settings(web_config_file="web.yml"), "/w", settings(web_config_file="/w")),
    ("EXPORTER_WEB_OPEN_HEALTH", "true", settings(open_health=True), "no", settings()),
    ("EXPORTER_WORKERS", "2", settings(workers=2), "64", settings(workers=64)),
    ("EXPORTER_THREADS", "1", settings(threads=1), "1024", settings(threads=1024)),
    ("EXPORTER_PROBES", "1", settings(probes=1), "1024", settings(probes=1024)),
    ("EXPORTER_CONFIG_FILE", MODULES, beside_file(MODULES), MORE_MODULES, beside_file(MORE_MODULES)),
    ("EXPORTER_WEB_ENABLE_LIFECYCLE", "true", settings(lifecycle=True), "false", settings()),
]
EACH = pytest.mark.parametrize(("variable", "one", "as_one", "two", "as_two"), ROWS, ids=[row[0] for row in ROWS])


def beside(variable: str) -> dict[str, str]:
    """What has to be given beside this variable."""
    return KEYS if any(o.variable == variable and o.service == "staytus" for o in OPTIONS) else {}


def test_every_option_is_tried() -> None:
    here = [option.variable for option in OPTIONS if option.variable not in KEY_OPTIONS]
    assert [row[0] for row in ROWS] == here


def test_nothing_set_is_patroni_at_its_default_url() -> None:
    assert load({}) == Settings(
        host="",
        port=9547,
        address_family="AF_INET",
        log_level="info",
        log_format="logfmt",
        workers=1,
        threads=256,
        probes=200,
        modules=(Module("patroni", "patroni", Target("http://localhost:8008", 5.0, True, 0.0, ()), PATRONI_COLLECT),),
    )


def test_keys_alone_are_staytus_at_its_default_url() -> None:
    headers = (("X-Auth-Token", "t0ken"), ("X-Auth-Secret", "s3cret"))
    assert load(KEYS) == Settings(
        host="",
        port=9877,
        address_family="AF_INET",
        log_level="info",
        log_format="logfmt",
        workers=1,
        threads=256,
        probes=200,
        modules=(
            Module("staytus", "staytus", Target("http://localhost:8787", 5.0, True, 2.0, headers), STAYTUS_COLLECT),
        ),
    )


@EACH
def test_environment_sets(variable: str, one: str, as_one: Settings, two: str, as_two: Settings) -> None:
    assert load({**beside(variable), variable: one}) == as_one
    assert load({**beside(variable), variable: f" {two} "}) == as_two


@EACH
def test_env_file_sets_and_environment_wins_over_it(
    variable: str, one: str, as_one: Settings, two: str, as_two: Settings, tmp_path: Path
) -> None:
    environ = {"EXPORTER_ENV_FILE": env_file(tmp_path, {**beside(variable), variable: two})}
    assert load(environ) == as_two
    assert load({**environ, variable: one}) == as_one


@EACH
def test_empty_variable_as_docker_compose_gives_it_is_not_given(
    variable: str, one: str, as_one: Settings, two: str, as_two: Settings, tmp_path: Path
) -> None:
    if variable != "PATRONI_EXPORTER_BIND":
        file = env_file(tmp_path, {**beside(variable), variable: two})
        assert load({"EXPORTER_ENV_FILE": file, variable: ""}) == as_two
        assert load({"EXPORTER_ENV_FILE": file, variable: " "}) == as_two


def test_all_variables_empty_are_the_default(tmp_path: Path) -> None:
    empty = {option.variable: "" for option in OPTIONS}
    files = {f"{option.variable}_FILE": "" for option in OPTIONS}
    assert load({**empty, **files}) == settings()
    assert load({"EXPORTER_ENV_FILE": env_file(tmp_path, empty)}) == settings()
    assert load({**empty, **files, **KEYS}) == settings(staytus())


def test_empty_bind_is_a_value_and_wins(tmp_path: Path) -> None:
    file = env_file(tmp_path, {"PATRONI_EXPORTER_BIND": "127.0.0.1"})
    assert load({"EXPORTER_ENV_FILE": file, "PATRONI_EXPORTER_BIND": ""}) == settings()


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
def test_module_is_on_when_any_of_its_settings_is_given(environ: dict[str, str], expected: Settings) -> None:
    assert load(environ) == expected


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({"PATRONI_EXPORTER_PORT": "1", "PATRONI_EXPORTER_BIND": "::1", "PATRONI_EXPORTER_DEBUG": "true",
          "PATRONI_EXPORTER_ADDRESS_FAMILY": "ipv6"},
         beside_file(MODULES, port=1, host="::1", log_level="debug", address_family="AF_INET6")),
        ({"EXPORTER_PORT": "2000"}, beside_file(MODULES, port=2000)),
        ({"PATRONI_EXPORTER_URL": "http://h"}, beside_file(MODULES, patroni(url="http://h"))),
        ({"PATRONI_EXPORTER_TIMEOUT": "1"}, beside_file(MODULES, patroni(timeout=1.0))),
        (KEYS, beside_file(MODULES, staytus())),
    ],
)  # fmt: skip
def test_beside_a_modules_file_a_module_is_on_only_when_told_how_it_is_asked(
    environ: dict[str, str], expected: Settings
) -> None:
    assert load({**environ, "EXPORTER_CONFIG_FILE": MODULES}) == expected


def test_modules_file_that_cannot_be_used_is_told_with_its_line_when_it_is_loaded(tmp_path: Path) -> None:
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
    ("text", "base"),
    [
        ("http://h:8008/patroni", "http://h:8008"),
        ("http://h:8008/patroni/", "http://h:8008"),
        ("http://h:8008", "http://h:8008"),
        ("http://h:8008/", "http://h:8008"),
        ("http://h/below/patroni", "http://h/below"),
        ("http://h/below//patroni//", "http://h/below"),
        ("http://h/below/", "http://h/below"),
        ("http://h/patroni/patroni", "http://h/patroni"),
        ("http://h/my-patroni", "http://h/my-patroni"),
        ("http://[::1]:8008/patroni", "http://[::1]:8008"),
        # The host of a compose file, at the port of HTTP.
        ("http://patroni", "http://patroni"),
        ("https://patroni/", "https://patroni"),
        ("http://patroni/patroni", "http://patroni"),
    ],
)
def test_url_of_patroni_is_taken_with_and_without_its_last_part(text: str, base: str) -> None:
    assert load({"PATRONI_EXPORTER_URL": text}) == settings(patroni(url=base))


# Where to listen ------------------------------------------------------------------------------------------------------


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
def test_address_to_listen_on_follows_host_and_family(host: str, family: str, address: str) -> None:
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
def test_host_without_an_address_of_the_family_is_refused(host: str, family: str, wanted: str) -> None:
    with pytest.raises(ConfigError) as caught:
        settings(host=host, address_family=family).listen()
    assert str(caught.value) == (
        f"PATRONI_EXPORTER_BIND={host!r}: expected an address or a host name with an address of the family {wanted} "
        "(PATRONI_EXPORTER_ADDRESS_FAMILY)"
    )
