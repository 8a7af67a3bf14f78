"""The key `discovery` of a module: every key, its default, and the one line of each error."""

from pathlib import Path

import certifi
import pytest

from exporter.config.discovery import Discovery, Etcd
from exporter.config.errors import ConfigError
from exporter.config.modules import read_modules
from exporter.config.modules_file import ModulesFile
from exporter.upstream.headers import Secret
from exporter.upstream.target import RequestOptions
from tests.conftest import logged

MODULE = 'modules:\n  db:\n    collector: patroni\n    targets: ["*.example.org", "db1:8008"]\n'


def read(text: str, file: str = "m.yml") -> Discovery | None:
    return read_modules(f"{MODULE}    discovery: {text}\n", file)["db"].discovery


def test_defaults() -> None:
    assert read_modules(MODULE, "m.yml")["db"].discovery is None
    assert read("{seeds: [db1, db1]}") == Discovery(seeds=("db1",))
    etcd = Etcd(("https://etcd1:2379", "http://[::1]/x"), "/service/", RequestOptions(5.0))
    assert read("{etcd: {endpoints: [https://etcd1:2379/, 'http://[::1]/x', https://etcd1:2379]}}") == Discovery(
        etcd=etcd, keep_missing=3600.0
    )


def test_all_keys_of_seeds() -> None:
    seeds = ("db1", "https://a.example.org", "dns+b:8008", "dns+[::1]", "dnssrv+_patroni._tcp.c.")
    assert read(f"{{seeds: {list(seeds)}, keep_missing: 7}}") == Discovery(seeds, keep_missing=7.0)


def test_all_keys_of_etcd(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text(Path(certifi.where()).read_text())
    (tmp_path / "password").write_text("s3cret\n")
    text = (
        "{etcd: {endpoints: [https://etcd1:2379], prefix: /, timeout: 500ms, username: 'a:b', password_file: password,"
        " tls_config: {ca_file: ca.pem, server_name: etcd}}}"
    )
    options = RequestOptions(0.5, verify=f"{tmp_path}/ca.pem", server_name="etcd")
    password = Secret(file=f"{tmp_path}/password")
    assert read(text, f"{tmp_path}/m.yml") == Discovery(
        etcd=Etcd(("https://etcd1:2379",), "/", options, "a:b", password)
    )


def test_certificate_that_is_not_verified(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("WARNING")
    etcd = "{endpoints: [https://etcd1], tls_config: {insecure_skip_verify: true}}"
    (tmp_path / "m.yml").write_text(f"{MODULE}    discovery: {{etcd: {etcd}}}\n")
    ModulesFile.load(str(tmp_path / "m.yml")).log_state()
    assert logged(caplog) == [{"msg": "the TLS certificate of etcd is not verified", "module": "db"}]


SEED = (
    "expected HOST, HOST:PORT or a URL such as http://db1:8008, dns+NAME:PORT for the addresses of a name, or "
    "dnssrv+NAME for SRV records, without user"
)
ENDPOINT = "expected a URL such as https://etcd1:2379, without user, which is the key username"
PREFIX = "expected a prefix such as /service/, with a slash at its beginning and its end"
SECONDS = "expected a duration such as 5s, 500ms or 1m30s, from"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ": expected a mapping, found nothing"),
        ("{}", ": expected either seeds or etcd"),
        ("{keep_missing: 1h}", ": expected either seeds or etcd"),
        ("{seeds: [db1], etcd: {endpoints: [http://e]}}", ": expected either seeds or etcd"),
        ("{consul: {}}", ".consul: unknown key; expected seeds, etcd, keep_missing"),
        ("{seeds: db1}", ".seeds: expected a list, found a text"),
        ("{seeds: []}", ".seeds: expected a list, found an empty list"),
        ("{seeds: [1]}", f".seeds[0]: {SEED}, found a number; a text needs quotes here"),
        ("{seeds: [db1, a b]}", f".seeds[1]: 'a b': {SEED}"),
        ("{seeds: ['http://u:hush@db1']}", f".seeds[0]: {SEED}"),
        ("{seeds: ['dns+u:hush@db1']}", f".seeds[0]: {SEED}"),
        ("{seeds: ['dns+']}", f".seeds[0]: 'dns+': {SEED}"),
        ("{seeds: ['dns+http://db1']}", f".seeds[0]: 'dns+http://db1': {SEED}"),
        ("{seeds: ['dns+db1:0']}", f".seeds[0]: 'dns+db1:0': {SEED}"),
        ("{seeds: ['dns+0x7f.1']}", f".seeds[0]: 'dns+0x7f.1': {SEED}"),
        ("{seeds: ['dnssrv+db:8008']}", f".seeds[0]: 'dnssrv+db:8008': {SEED}"),
        ("{seeds: [db2]}", ": target db2:8008 is not among the targets of this module"),
        ("{seeds: [db1:8009]}", ": target db1:8009 is not among the targets of this module"),
        ("{seeds: ['http://db1:8008/x']}", ": the targets of this module must have no path (allow_paths)"),
        ("{seeds: [db1], keep_missing: 8d}", f".keep_missing: '8d': {SECONDS} 0 s to 168h"),
        ("{etcd: {prefix: /}}", ".etcd: endpoints is missing"),
        ("{etcd: {user: u}}", ".etcd.user: unknown key; expected endpoints, prefix, timeout, username, password, "
         "password_file, tls_config"),
        ("{etcd: {endpoints: []}}", ".etcd.endpoints: expected a list, found an empty list"),
        ("{etcd: {endpoints: [etcd1:2379]}}", f".etcd.endpoints[0]: 'etcd1:2379': {ENDPOINT}"),
        ("{etcd: {endpoints: ['https://u:hush@etcd1']}}", f".etcd.endpoints[0]: {ENDPOINT}"),
        ("{etcd: {endpoints: [http://e], prefix: service/}}", f".etcd.prefix: 'service/': {PREFIX}"),
        ("{etcd: {endpoints: [http://e], prefix: /service}}", f".etcd.prefix: '/service': {PREFIX}"),
        ("{etcd: {endpoints: [http://e], prefix: //}}", f".etcd.prefix: '//': {PREFIX}"),
        ("{etcd: {endpoints: [http://e], timeout: 0}}", f".etcd.timeout: '0': {SECONDS} 0.01 s to 1h"),
        ("{etcd: {endpoints: [http://e], username: u}}", ".etcd: expected either password or password_file"),
        ("{etcd: {endpoints: [http://e], password: p}}", ".etcd: username is missing: the password needs it"),
        ("{etcd: {endpoints: [http://e], password_file: p}}", ".etcd: username is missing: the password needs it"),
        ("{etcd: {endpoints: [http://e], username: '', password: p}}",
         ".etcd.username: '': expected a name, one line"),
        ('{etcd: {endpoints: [http://e], username: u, password: "hush\\nhush"}}',
         ".etcd.password: expected a password, one line"),
        ("{etcd: {endpoints: [http://e], tls_config: {ca_file: none}}}",
         ".etcd.tls_config.ca_file: 'none': expected the path of a CA bundle that can be read"),
    ],
)  # fmt: skip
def test_error_names_file_line_and_key(text: str, expected: str) -> None:
    with pytest.raises(ConfigError) as raised:
        read(text)
    assert str(raised.value) == f"m.yml:5: modules.db.discovery{expected}"


def test_staytus() -> None:
    text = MODULE.replace("patroni", "staytus") + "    token: x\n    secret: x\n    discovery: {seeds: [db1]}\n"
    with pytest.raises(ConfigError, match=r"^m.yml:7: modules.db.discovery: unknown key; expected collector, "):
        read_modules(text, "m.yml")
