"""Credentials: tokens, user and password, headers, secrets in files, and client certificates."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from requests import Request

from exporter.config.environment import EnvFile
from exporter.config.errors import ConfigError
from exporter.config.settings import Settings, given_settings
from exporter.upstream.headers import Secret
from exporter.upstream.target import Header, HeaderLines, Login
from tests.certificates import Files, authority, encrypted_key, issue
from tests.config.test_settings import KEYS, Part, env_file, load, patroni, settings, staytus, tokens

PREFIXES = pytest.mark.parametrize("prefix", ["PATRONI_EXPORTER", "STAYTUS"])
URLS = {"PATRONI_EXPORTER": "PATRONI_EXPORTER_URL", "STAYTUS": "STAYTUS_API_URL"}
LOGIN = Login("us3r", Secret("p4ss"))


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Files:
    folder = tmp_path_factory.mktemp("client")
    return issue(authority(folder / "ca.pem"), folder, "client")


def given(prefix: str, url: str = "https://h", **credentials: object) -> dict[str, str]:
    """The variables with these credentials for the service of this prefix, and all others that it needs."""
    required = KEYS if prefix == "STAYTUS" else {}
    return {**required, URLS[prefix]: url, **{f"{prefix}_{name}": str(value) for name, value in credentials.items()}}


def with_options(prefix: str, *auth: Part, **options: Any) -> Settings:
    """The settings that a service with this URL, these credentials and these request options is in."""
    if prefix == "STAYTUS":
        return settings(staytus("https://h", (*tokens(), *auth), **options))
    return settings(patroni("https://h", auth, **options))


def sent(loaded: Settings) -> dict[str, str]:
    """The headers of a request to the only module, without those of every request."""
    request = loaded.modules[0].target.options.auth(Request("GET", "http://h").prepare())
    return dict(request.headers)


def error(environ: dict[str, str]) -> str:
    """The error for these variables."""
    with pytest.raises(ConfigError) as caught:
        load(environ)
    return str(caught.value)


# Certificates


@PREFIXES
def test_certificate_and_server_name(prefix: str, client: Files, tmp_path: Path) -> None:
    both = tmp_path / "both.pem"
    both.write_bytes(client.key.read_bytes() + client.cert.read_bytes())
    cert, key = client.pair
    assert load(given(prefix, CERT_FILE=cert, KEY_FILE=key)) == with_options(prefix, cert=(cert, key))
    assert load(given(prefix, CERT_FILE=both)) == with_options(prefix, cert=str(both))
    assert load(given(prefix, SERVER_NAME="pg.example")) == with_options(prefix, server_name="pg.example")
    file = env_file(tmp_path, given(prefix, CERT_FILE=both, SERVER_NAME="a"))
    expected = with_options(prefix, cert=str(both), server_name="b")
    assert load({"EXPORTER_ENV_FILE": file, f"{prefix}_SERVER_NAME": "b"}) == expected


@PREFIXES
def test_certificate_without_its_key(prefix: str, client: Files, tmp_path: Path) -> None:
    cert, key = client.pair
    other = issue(authority(tmp_path / "ca.pem"), tmp_path, "other").key
    assert error(given(prefix, KEY_FILE=key)) == (f"{prefix}_CERT_FILE is not set: {prefix}_KEY_FILE needs it")
    assert error(given(prefix, CERT_FILE=cert)) == (
        f"{prefix}_CERT_FILE={cert!r}: expected its private key, without a passphrase, in the same file or in "
        f"{prefix}_KEY_FILE"
    )
    old, new = (encrypted_key(tmp_path / str(old), old=old) for old in (True, False))
    for wrong in (other, old, new):
        assert error(given(prefix, CERT_FILE=cert, KEY_FILE=wrong)) == (
            f"{prefix}_CERT_FILE={cert!r}: expected its private key, without a passphrase, in "
            f"{prefix}_KEY_FILE={str(wrong)!r}"
        )


@PREFIXES
def test_tls_options_need_an_https_url(prefix: str, client: Files) -> None:
    cert, key = client.pair
    for first, keys in {
        "CERT_FILE": {"CERT_FILE": cert, "KEY_FILE": key},
        "KEY_FILE": {"KEY_FILE": key},
        "SERVER_NAME": {"SERVER_NAME": "pg.example"},
    }.items():
        line = f"{prefix}_{first}: expected an https URL in {URLS[prefix]}, not http://h"
        assert error(given(prefix, "http://us3r:p4ss@h/", **keys)) == line


# User and headers


@PREFIXES
def test_login_and_headers(prefix: str) -> None:
    more = (Header("X-A", Secret("b: c")), Header("Host", Secret("h")))
    assert load(given(prefix, USERNAME="us3r", PASSWORD="p4ss")) == with_options(prefix, LOGIN)
    assert load(given(prefix, HEADERS="X-A: b: c\nHost: h")) == with_options(prefix, *more)
    loaded = load(given(prefix, "https://us3r:p4ss@h", HEADERS="X-A: b: c\nHost: h"))
    assert loaded == with_options(prefix, LOGIN, *more)
    assert sent(loaded).items() >= {"Authorization": "Basic dXMzcjpwNHNz", "X-A": "b: c", "Host": "h"}.items()
    assert sent(load(given(prefix, USERNAME="usér", PASSWORD="p")))["Authorization"] == "Basic dXPDqXI6cA=="
    bearer = Header("authorization", Secret("Bearer t0k3n"))
    assert load(given(prefix, HEADERS="authorization: Bearer t0k3n")) == with_options(prefix, bearer)


@PREFIXES
def test_incomplete_or_duplicate_credentials(prefix: str) -> None:
    user, password = f"{prefix}_USERNAME", f"{prefix}_PASSWORD"
    assert error(given(prefix, USERNAME="u")) == f"{password} is not set: {user} needs it"
    assert error(given(prefix, PASSWORD="p")) == f"{user} is not set: {password} needs it"
    assert error(given(prefix, "https://u@h", USERNAME="u", PASSWORD="p")) == (
        f"{user}: {URLS[prefix]} has a user too, expected one of them"
    )
    twice = f"{prefix}_HEADERS: another setting sets authorization too, expected one of them"
    header = "X-A: b\nauthorization: h1dden"
    assert error(given(prefix, USERNAME="u", PASSWORD="p", HEADERS=header)) == twice
    assert error(given(prefix, "https://u@h", HEADERS=header)) == twice


def test_headers_of_staytus_have_no_token(tmp_path: Path) -> None:
    line = "STAYTUS_HEADERS: another setting sets x-auth-secret too, expected one of them"
    (tmp_path / "headers").write_text("x-auth-secret: h1dden")
    assert error(given("STAYTUS", HEADERS="x-auth-secret: h1dden")) == line
    assert error(given("STAYTUS", HEADERS_FILE=tmp_path / "headers")) == line
    header = Header("X-Auth-Token", Secret("a"))
    assert load(given("PATRONI_EXPORTER", HEADERS="X-Auth-Token: a")) == with_options("PATRONI_EXPORTER", header)


def test_no_secret_is_shown() -> None:
    environ = {
        **KEYS,
        "PATRONI_EXPORTER_URL": "https://us3r:p4ss@[::1]:8008/patroni",
        "STAYTUS_API_URL": "https://us3r:p4ss@h/",
    }
    loaded = load(environ)
    assert loaded == settings(patroni("https://[::1]:8008", (LOGIN,)), staytus("https://h", (*tokens(), LOGIN)))
    shown = repr(loaded) + repr(given_settings(environ, EnvFile.load(environ)))
    assert [word for word in ("us3r", "p4ss", "dXMzcjpwNHNz", "t0ken", "s3cret") if word in shown] == []


# Secrets in files


@pytest.mark.parametrize("text", ["t0ken", "t0ken\n", "t0ken\r\n", " t0ken \n\n", "\ufefft0ken\n"])
def test_secret_in_a_file(text: str, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text(text, newline="")
    loaded = load({**KEYS, "STAYTUS_API_TOKEN": "", "STAYTUS_API_TOKEN_FILE": str(tmp_path / "secret")})
    token = Header("X-Auth-Token", Secret(file=str(tmp_path / "secret")))
    assert loaded == settings(staytus(auth=(token, tokens()[1])))
    assert sent(loaded) == {"X-Auth-Token": "t0ken", "X-Auth-Secret": "s3cret"}


def test_secrets_in_files_switch_staytus_on_and_take_precedence_over_the_env_file(tmp_path: Path) -> None:
    (tmp_path / "one").write_text("one\n")
    environ = {"STAYTUS_API_TOKEN_FILE": str(tmp_path / "one"), "STAYTUS_API_SECRET_FILE": str(tmp_path / "one")}
    secret = Secret(file=str(tmp_path / "one"))
    expected = settings(staytus(auth=(Header("X-Auth-Token", secret), Header("X-Auth-Secret", secret))))
    assert load(environ) == expected
    assert load({**environ, "EXPORTER_ENV_FILE": env_file(tmp_path, KEYS)}) == expected
    assert load({"EXPORTER_ENV_FILE": env_file(tmp_path, environ)}) == expected
    assert load({**KEYS, "EXPORTER_ENV_FILE": env_file(tmp_path, environ)}) == settings(staytus())


@pytest.mark.parametrize("variable", list(KEYS))
@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, "No such file or directory; "),
        (b"", ""),
        (b"\n", ""),
        (b"h1dden\nh1dden\n", ""),
        (b"h1dden\xff\n", ""),
        ("h1dden\u00fc\n".encode(), ""),
    ],
)
def test_file_without_a_secret(variable: str, content: bytes | None, reason: str, tmp_path: Path) -> None:
    path = tmp_path / "secret"
    if content is not None:
        path.write_bytes(content)
    line = f"{variable}_FILE={str(path)!r}: {reason}expected a file that holds one line of ASCII"
    assert error({**KEYS, variable: "", f"{variable}_FILE": str(path)}) == line


@PREFIXES
def test_files_are_read_for_each_request(prefix: str, tmp_path: Path) -> None:
    (tmp_path / "password").write_text("p4ss\n")
    (tmp_path / "headers").write_text("X-Key: b\n\n")
    environ = given(prefix, USERNAME="us3r", PASSWORD_FILE=tmp_path / "password", HEADERS_FILE=tmp_path / "headers")
    login = Login("us3r", Secret(file=str(tmp_path / "password")))
    loaded = load(environ)
    assert loaded == with_options(prefix, login, HeaderLines(Secret(file=str(tmp_path / "headers"))))
    assert sent(loaded).items() >= {"Authorization": "Basic dXMzcjpwNHNz", "X-Key": "b"}.items()
    (tmp_path / "password").write_text("\ufeffö")
    (tmp_path / "headers").write_text("X-C: d\nX-E: f")
    headers = sent(loaded)
    assert headers.items() >= {"Authorization": "Basic dXMzcjrDtg==", "X-C": "d", "X-E": "f"}.items()
    assert "X-Key" not in headers
    shown = repr(loaded) + repr(given_settings(environ, EnvFile.load(environ)))
    assert [word for word in ("us3r", "p4ss", "dXMzcj", "X-Key") if word in shown] == []


SECRET_LINE = "the value of X-Auth-Token, one line of ASCII"
HEADER_LINES = "lines of the form Name: value, each name once"


@pytest.mark.parametrize(
    ("credential", "content", "expected"),
    [
        (lambda secret: Header("X-Auth-Token", secret), b"h1dden\nh1dden", SECRET_LINE),
        (lambda secret: Header("X-Auth-Token", secret), b"", SECRET_LINE),
        (lambda secret: Header("X-Auth-Token", secret), b"h1dden\xff", SECRET_LINE),
        (lambda secret: Login("us3r", secret), b"h1dden\nh1dden", "a password, one line"),
        (lambda secret: Login("us3r", secret), b"", "a password, one line"),
        (HeaderLines, b"h1dden", HEADER_LINES),
        (HeaderLines, b"A: h1dden\na: h1dden", HEADER_LINES),
    ],
)
def test_file_that_is_not_valid_at_a_request(
    credential: Callable[[Secret], Part], content: bytes, expected: str, tmp_path: Path
) -> None:
    path = tmp_path / "secret"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=f"^{re.escape(f'{path}: expected a file that holds {expected}')}$"):
        credential(Secret(file=str(path)))(Request("GET", "http://h").prepare())
