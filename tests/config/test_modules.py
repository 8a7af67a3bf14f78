"""The modules of the modules file: every key, its default, and the one line of each error."""

from ipaddress import ip_address
from pathlib import Path

import certifi
import pytest
import yaml
from requests import Request

from exporter.config.allow_list import NotAllowed
from exporter.config.errors import ConfigError
from exporter.config.modules import ProbeModule, read_modules
from exporter.upstream.headers import Secret
from exporter.upstream.target import Credentials, Header, Login, Module, RequestOptions, Target
from tests.limits.servers import CERTIFICATE

PATRONI = "modules:\n  db:\n    collector: patroni\n    targets: [db1]\n"
STAYTUS = "modules:\n  status:\n    collector: staytus\n    token: t0ken\n    secret: s3cret\n    targets: [status]\n"


def read(text: str, name: str = "db") -> ProbeModule:
    return read_modules(text, "m.yml")[name]


def error(text: str) -> str:
    """The error of this file."""
    with pytest.raises(ConfigError) as raised:
        read_modules(text, "m.yml")
    return str(raised.value)


def test_defaults() -> None:
    db = read(PATRONI).at("db1")
    collect = ("node", "cluster", "history", "config", "failsafe")
    assert db == Module("db", "patroni", Target("http://db1:8008", RequestOptions(5.0)), collect)
    status = read(STAYTUS, "status").at("status")
    auth = Credentials((Header("X-Auth-Token", Secret("t0ken")), Header("X-Auth-Secret", Secret("s3cret"))))
    target = Target("http://status", RequestOptions(5.0, interval=2.0, auth=auth))
    assert status == Module("status", "staytus", target, ("services", "issues"))


def test_all_keys() -> None:
    file = Path(__file__).parents[1] / "modules.yml"
    modules = read_modules(file.read_text(), str(file))
    assert list(modules) == ["db.prod", "status"]
    db = modules["db.prod"]
    assert (db.name, db.service, db.collect, db.scheme) == ("db.prod", "patroni", ("cluster", "node"), "https")
    assert db.options == RequestOptions(
        timeout=60.5,
        verify=False,
        interval=2.5,
        auth=Credentials(
            (
                Login("monitor", Secret("123456")),
                Header("X-Team", Secret("dba, ops"), secret=False),
                Header("X-Key", Secret("hush-hush")),
            )
        ),
        server_name="patroni.example.org",
    )
    assert modules["status"].options.auth.parts == (
        Header("X-Auth-Token", Secret("t0ken")),
        Header("X-Auth-Secret", Secret("s3cret")),
        Header("Authorization", Secret("b3arer"), prefix="Bearer "),
    )


def test_targets_of_a_module_share_its_request_options() -> None:
    module = read(PATRONI.replace("db1", '"*"'))
    assert module.at("db1").target.options is module.at("https://db2").target.options


def test_list_decides_about_the_addresses_of_names() -> None:
    allows = read(PATRONI.replace("db1", "10.0.0.0/8")).options.allows
    assert allows is not None
    assert [allows("db1", 8008, ip_address(text)) for text in ("10.0.0.1", "11.0.0.1")] == [True, False]


def test_secrets_in_files(tmp_path: Path) -> None:
    for name in ("token", "secret", "password", "key"):
        (tmp_path / name).write_text(f"old-{name}\n")
    text = (
        "modules:\n  s:\n    collector: staytus\n    targets: [status]\n"
        "    token_file: token\n    secret_file: secret\n"
        "    basic_auth: {username: u, password_file: password}\n"
        f"    http_headers: {{X-Key: {{files: [{tmp_path}/key]}}}}\n"
    )
    auth = read_modules(text, str(tmp_path / "m.yml"))["s"].options.auth
    (tmp_path / "key").write_text("new-key")
    assert auth.parts == (
        Header("X-Auth-Token", Secret(file=f"{tmp_path}/token")),
        Header("X-Auth-Secret", Secret(file=f"{tmp_path}/secret")),
        Login("u", Secret(file=f"{tmp_path}/password")),
        Header("X-Key", Secret(file=f"{tmp_path}/key")),
    )
    assert dict(auth(Request("GET", "http://h").prepare()).headers) == {
        "X-Auth-Token": "old-token",
        "X-Auth-Secret": "old-secret",
        "Authorization": "Basic dTpvbGQtcGFzc3dvcmQ=",
        "X-Key": "new-key",
    }


def test_tls_files(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text(Path(certifi.where()).read_text())
    (tmp_path / "own.pem").write_text(Path(CERTIFICATE).read_text())
    (tmp_path / "alone.pem").write_text("".join(Path(CERTIFICATE).read_text().partition("-----BEGIN CERT")[1:]))
    tls = "    tls_config: {ca_file: ca.pem, cert_file: own.pem, key_file: own.pem}\n"
    options = read_modules(PATRONI + tls, str(tmp_path / "m.yml"))["db"].options
    assert (options.verify, options.cert) == (f"{tmp_path}/ca.pem", (f"{tmp_path}/own.pem", f"{tmp_path}/own.pem"))
    with pytest.raises(ConfigError) as raised:
        read_modules(f"{PATRONI}    tls_config: {{cert_file: alone.pem}}\n", str(tmp_path / "m.yml"))
    assert str(raised.value) == (
        f"{tmp_path}/m.yml:5: modules.db.tls_config: expected the private key of the certificate, without a "
        "passphrase, in key_file or cert_file"
    )


def test_https_only() -> None:
    module = read(PATRONI + "    scheme: https\n")
    assert module.at("db1").target.url == "https://db1:8008"
    with pytest.raises(NotAllowed, match=r"^the targets of this module must use https$"):
        module.at("http://db1:8008")


@pytest.mark.parametrize("target", ["http://db1:8008/x", "http://db1:8008/cluster/1", "http://db1:8008/x/patroni"])
def test_paths_of_targets(target: str) -> None:
    assert read(PATRONI).at("https://db1:8008/patroni").target.url == "https://db1:8008"
    with pytest.raises(NotAllowed, match=r"^the targets of this module must have no path \(allow_paths\)$"):
        read(PATRONI).at(target)
    allowing = read(PATRONI + "    allow_paths: true\n")
    assert allowing.at(target).target.url == target.removesuffix("/patroni")


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("5s", 5.0), ("500ms", 0.5), ("1m30s", 90.0), ("1h", 3600.0), ("7", 7.0), ("2.5", 2.5), ("'7'", 7)],
)
def test_durations(text: str, seconds: float) -> None:
    assert read(PATRONI + f"    timeout: {text}\n").options.timeout == seconds


SECONDS = "expected a duration such as 5s, 500ms or 1m30s, from 0.01 s to 1h"
KEYS = (
    "collector, collect, timeout, interval, scheme, allow_paths, compat_metrics, tls_config, basic_auth, "
    "authorization, http_headers, targets, discovery"
)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("timeout: ten", f"timeout: 'ten': {SECONDS}"),
        ("timeout: 0", f"timeout: '0': {SECONDS}"),
        ("timeout: 61m", f"timeout: '61m': {SECONDS}"),
        ("timeout: 5 s", f"timeout: '5 s': {SECONDS}"),
        ("timeout: true", f"timeout: {SECONDS}, found true or false; a text needs quotes here"),
        ("timeout:", f"timeout: {SECONDS}, found nothing"),
        ("timeout: [5s]", f"timeout: {SECONDS}, found a list"),
        ("tiemout: 5s", f"tiemout: unknown key; expected {KEYS}"),
        ("token: x", f"token: unknown key; expected {KEYS}"),
        ("collector: patroni", "collector: duplicate key, also in line 3"),
        ("collect: node", "collect: expected a list, found a text"),
        ("collect: []", "collect: expected a list, found an empty list"),
        ("collect: [nodes]", "collect[0]: 'nodes': expected one of node, cluster, history, config, failsafe"),
        ("scheme: ftp", "scheme: 'ftp': expected one of http, https"),
        ("tls_config: {insecure_skip_verify: maybe}",
         "tls_config.insecure_skip_verify: expected true or false, found a text"),
        ("tls_config: {ca_file: none.pem}",
         "tls_config.ca_file: 'none.pem': expected the path of a CA bundle that can be read"),
        ("tls_config: {ca_file: 'true'}",
         "tls_config.ca_file: 'true': expected the path of a CA bundle that can be read"),
        ("tls_config: {key_file: x}", "tls_config: cert_file is missing: key_file needs it"),
        ("tls_config: {server_name: a b}", "tls_config.server_name: 'a b': expected a host name"),
        ("basic_auth: u", "basic_auth: expected a mapping, found a text"),
        ("basic_auth: {username: u}", "basic_auth: expected either password or password_file"),
        ("basic_auth: {username: u, password: p, password_file: f}",
         "basic_auth: expected either password or password_file"),
        ("basic_auth: {username: '', password: p}", "basic_auth.username: '': expected a name without a colon"),
        ("basic_auth: {password: p}", "basic_auth: username is missing"),
        ("basic_auth: {username: u, password: 1234}",
         "basic_auth.password: expected a password, one line, found a number; a text needs quotes here"),
        ('basic_auth: {username: u, password: "hush\\nhush"}', "basic_auth.password: expected a password, one line"),
        ("basic_auth: {username: u, password_file: none}",
         "basic_auth.password_file: 'none': expected the path of a file that holds a password, one line"),
        ("http_headers: {Content-Length: {values: ['1']}}",
         "http_headers.Content-Length: expected the name of a header that the HTTP client does not set itself"),
        ("http_headers: {X-A: {values: [ü]}}", "http_headers.X-A.values[0]: '\\xfc': expected one line of ASCII"),
        ("http_headers: {X-A: {secrets: [ü]}}", "http_headers.X-A.secrets[0]: expected one line of ASCII"),
        ("http_headers: {'a b': {values: ['1']}}",
         "http_headers.a b: expected the name of a header that the HTTP client does not set itself"),
        ("http_headers: {X-A: {values: [a]}, x-a: {values: [b]}}",
         "http_headers.x-a: another key sets this header too; expected one of them"),
        ("http_headers: {X-A: {}}", "http_headers.X-A: expected values and secrets, or one file"),
    ],
)  # fmt: skip
def test_error_names_file_line_and_key(line: str, expected: str) -> None:
    assert error(f"{PATRONI}    {line}\n") == f"m.yml:5: modules.db.{expected}"


ENTRY = (
    "expected a host name in which * matches any characters but a dot, an address or a network such as 10.0.0.0/8, "
    "IPv6 in brackets, each optionally with :PORT or :PORT-PORT"
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "m.yml:1: expected a mapping, found nothing"),
        ("{}", "m.yml:1: modules is missing"),
        ("modules:", "m.yml:1: modules: expected a mapping, found nothing"),
        ("module: {}", "m.yml:1: module: unknown key; expected modules"),
        ("modules: {a b: {}}", "m.yml:1: modules.a b: expected a name of letters, digits, . _ and -"),
        ("modules: {[a]: {}}", "m.yml:1: modules: expected a text as the key"),
        (PATRONI.replace("[db1]", "[*db]"),
         "m.yml:4: not YAML: found undefined alias; a text that begins with * or [ needs quotes"),
        (PATRONI.replace("collector: patroni\n    ", ""), "m.yml:3: modules.db: collector is missing"),
        (PATRONI.replace("patroni", "mysql"),
         "m.yml:3: modules.db.collector: 'mysql': expected one of patroni, staytus"),
        (PATRONI.replace("    targets: [db1]\n", ""), "m.yml:3: modules.db: targets is missing"),
        (PATRONI.replace("db1", "db1, 10.0.0.1/8"), f"m.yml:4: modules.db.targets[1]: '10.0.0.1/8': {ENTRY}"),
        (PATRONI.replace("db1", "[::1]"),
         "m.yml:4: not YAML: did not find expected node content; a text that begins with * or [ needs quotes"),
        (PATRONI.replace("[db1]", "[[db1]]"), f"m.yml:4: modules.db.targets[0]: {ENTRY}, found a list"),
        (PATRONI + "  db: {}\n", "m.yml:5: modules.db: duplicate key, also in line 3"),
        (STAYTUS.replace("    token: t0ken\n", ""), "m.yml:3: modules.status: expected either token or token_file"),
        (STAYTUS.replace("s3cret", '"s3\\ncret"'), "m.yml:5: modules.status.secret: expected one line of ASCII"),
        (STAYTUS + "    basic_auth: {username: u, password: p}\n    authorization: {credentials: c}\n",
         "m.yml:3: modules.status: basic_auth and authorization are both set: expected one of them"),
    ],
)  # fmt: skip
def test_error_in_the_file(text: str, expected: str) -> None:
    assert error(text) == expected


def test_unknown_alias_without_libyaml_is_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(yaml, "CSafeLoader")
    text = STAYTUS.replace("s3cret", "*s3cret")
    assert error(text) == "m.yml:5: not YAML: found undefined alias; a text that begins with * or [ needs quotes"


def test_alias_bomb() -> None:
    lines = ["a: &a [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"{b}: &{b} [{','.join([f'*{a}'] * 10)}]" for a, b in zip("abcdefgh", "bcdefghi", strict=True)]
    assert error("\n".join(lines)) == "m.yml:1: a: unknown key; expected modules"


@pytest.mark.parametrize("libyaml", [True, False])
def test_deep_nesting(libyaml: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """libyaml would overflow the stack and end the process."""
    if not libyaml:
        monkeypatch.delattr(yaml, "CSafeLoader")
    assert error("modules:\n  db: " + "[" * 40000) == "m.yml:2: more than 50 levels of nesting"
    assert error("modules:\n  db: " + "{a: " * 40000) == "m.yml:2: more than 50 levels of nesting"
    deep = "".join(f"{' ' * level}a:\n" for level in range(60))
    assert error(deep) == "m.yml:51: more than 50 levels of nesting"
