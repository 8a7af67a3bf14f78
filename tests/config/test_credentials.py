"""The keys to the services: secrets and headers, also out of files, user and password, client certificates."""

import os
import re
from pathlib import Path
from typing import Any

import certifi
import pytest

from exporter.config.errors import ConfigError
from exporter.config.settings import given_settings
from exporter.upstream.target import HeaderFile
from tests.certificates import Files, authority, encrypted_key, issue
from tests.config.test_options import BY_VARIABLE, LONG
from tests.config.test_settings import KEYS, env_file, load, patroni, settings, staytus

PREFIXES = pytest.mark.parametrize("prefix", ["PATRONI_EXPORTER", "STAYTUS"])
URLS = {"PATRONI_EXPORTER": "PATRONI_EXPORTER_URL", "STAYTUS": "STAYTUS_API_URL"}
LOGIN = ("Authorization", "Basic dXMzcjpwNHNz")  # of us3r, p4ss
TOKENS = (("X-Auth-Token", "t0ken"), ("X-Auth-Secret", "s3cret"))


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Files:
    folder = tmp_path_factory.mktemp("client")
    return issue(authority(folder / "ca.pem"), folder, "client")


def given(prefix: str, url: str = "https://h", **keys: object) -> dict[str, str]:
    """Variables that give the service of this prefix these keys, and all that it needs else."""
    tokens = KEYS if prefix == "STAYTUS" else {}
    return {**tokens, URLS[prefix]: url, **{f"{prefix}_{name}": str(value) for name, value in keys.items()}}


def target(prefix: str, headers: tuple[tuple[str, str], ...] = (), **changes: Any) -> object:
    """The settings with a target that differs so from the one that it is without keys."""
    if prefix == "STAYTUS":
        return settings(staytus(**{"url": "https://h", "headers": TOKENS + headers, **changes}))
    return settings(patroni(**{"url": "https://h", "headers": headers, **changes}))


def refusal(environ: dict[str, str]) -> str:
    """The line that these variables are refused with."""
    with pytest.raises(ConfigError) as caught:
        load(environ)
    return str(caught.value)


# Texts ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("variable", "text", "value"),
    [
        ("STAYTUS_CERT_FILE", certifi.where(), certifi.where()),
        *(("STAYTUS_SERVER_NAME", text, text) for text in ("h", "pg_1.Example.org", "10.0.0.1", "::1")),
        ("STAYTUS_USERNAME", "ü s", "ü s"),
        ("STAYTUS_PASSWORD", "p:ä ss", "p:ä ss"),
        ("PATRONI_EXPORTER_HEADERS", "X-A: b", (("X-A", "b"),)),
        ("PATRONI_EXPORTER_HEADERS", "\n X-A :b: c \r\n\nHost:h\n", (("X-A", "b: c"), ("Host", "h"))),
    ],
)
def test_text_is_read_as_its_value(variable: str, text: str, value: object) -> None:
    assert BY_VARIABLE[variable].read(text) == value


@PREFIXES
@pytest.mark.parametrize(
    ("name", "text"),
    [
        *(("CERT_FILE", text) for text in ["/no/cert", os.sep, __file__, LONG]),
        *(("KEY_FILE", text) for text in ["/no/key", os.sep, certifi.where(), LONG]),
        *(("SERVER_NAME", text) for text in ["https://h", "h:1", "h/", "a..b", ".", "ü", "[::1]", "x" * 254]),
        *(("USERNAME", text) for text in ["a:b", "a\nb"]),
        *(("PASSWORD", text) for text in ["", "a\nb", "a\0"]),
        *(("HEADERS", text) for text in ["", "\n", "h1dden", ": a", "X A: b", "X-A:", "X-A: ü", "X-A: \x01"]),
        *(("HEADERS", f"X-A: b\n{text}: 1") for text in ["x-a", "Content-Length", "connection", "TE", "Range"]),
    ],
)
def test_text_that_cannot_be_used_is_refused(prefix: str, name: str, text: str) -> None:
    with pytest.raises(ValueError, match=r"^$"):
        BY_VARIABLE[f"{prefix}_{name}"].read(text)


# Certificates ---------------------------------------------------------------------------------------------------------


@PREFIXES
def test_certificate_with_its_key_and_a_server_name_are_the_targets(prefix: str, client: Files, tmp_path: Path) -> None:
    both = tmp_path / "both.pem"
    both.write_bytes(client.key.read_bytes() + client.cert.read_bytes())
    cert, key = client.pair
    assert load(given(prefix, CERT_FILE=cert, KEY_FILE=key)) == target(prefix, cert_file=cert, key_file=key)
    assert load(given(prefix, CERT_FILE=both)) == target(prefix, cert_file=str(both))
    assert load(given(prefix, SERVER_NAME="pg.example")) == target(prefix, server_name="pg.example")
    file = env_file(tmp_path, given(prefix, CERT_FILE=both, SERVER_NAME="a"))
    expected = target(prefix, cert_file=str(both), server_name="b")
    assert load({"EXPORTER_ENV_FILE": file, f"{prefix}_SERVER_NAME": "b"}) == expected


@PREFIXES
def test_certificate_without_a_key_that_can_be_used_is_refused(prefix: str, client: Files, tmp_path: Path) -> None:
    cert, key = client.pair
    other = issue(authority(tmp_path / "ca.pem"), tmp_path, "other").key
    assert refusal(given(prefix, KEY_FILE=key)) == (
        f"{prefix}_CERT_FILE is missing: {prefix}_KEY_FILE is set, expected the certificate too"
    )
    assert refusal(given(prefix, CERT_FILE=cert)) == (
        f"{prefix}_CERT_FILE={cert!r}: expected its private key, without a passphrase, in the same file, or in "
        f"{prefix}_KEY_FILE"
    )
    old, new = (encrypted_key(tmp_path / str(old), old=old) for old in (True, False))
    for wrong in (other, old, new):
        assert refusal(given(prefix, CERT_FILE=cert, KEY_FILE=wrong)) == (
            f"{prefix}_CERT_FILE={cert!r}: expected its private key, without a passphrase, in "
            f"{prefix}_KEY_FILE={str(wrong)!r}"
        )


@PREFIXES
def test_what_only_tls_can_show_is_refused_beside_a_url_of_http(prefix: str, client: Files) -> None:
    cert, key = client.pair
    for first, keys in {
        "CERT_FILE": {"CERT_FILE": cert, "KEY_FILE": key},
        "KEY_FILE": {"KEY_FILE": key},
        "SERVER_NAME": {"SERVER_NAME": "pg.example"},
    }.items():
        line = f"{prefix}_{first}: expected a URL of https beside it, not http://h"
        assert refusal(given(prefix, "http://us3r:p4ss@h/", **keys)) == line


# User and headers -----------------------------------------------------------------------------------------------------


@PREFIXES
def test_user_with_password_and_headers_go_with_every_request(prefix: str) -> None:
    assert load(given(prefix, USERNAME="us3r", PASSWORD="p4ss")) == target(prefix, (LOGIN,))
    more = (("X-A", "b: c"), ("Host", "h"))
    assert load(given(prefix, HEADERS="X-A: b: c\nHost: h")) == target(prefix, more)
    assert load(given(prefix, "https://us3r:p4ss@h", HEADERS="X-A: b: c\nHost: h")) == target(prefix, (LOGIN, *more))
    assert load(given(prefix, HEADERS="authorization: Bearer t0k3n")) == target(
        prefix, (("authorization", "Bearer t0k3n"),)
    )


@PREFIXES
def test_key_that_is_given_twice_or_half_is_refused(prefix: str) -> None:
    user, password = f"{prefix}_USERNAME", f"{prefix}_PASSWORD"
    assert refusal(given(prefix, USERNAME="u")) == f"{password} is missing: {user} is set, expected both or none"
    assert refusal(given(prefix, PASSWORD="p")) == f"{user} is missing: {password} is set, expected both or none"
    assert refusal(given(prefix, "https://u@h", USERNAME="u", PASSWORD="p")) == (
        f"{user}: the URL has a user too, expected one of them"
    )
    twice = f"{prefix}_HEADERS: authorization comes of another setting too, expected one of them"
    header = "X-A: b\nauthorization: h1dden"
    assert refusal(given(prefix, USERNAME="u", PASSWORD="p", HEADERS=header)) == twice
    assert refusal(given(prefix, "https://u@h", HEADERS=header)) == twice


def test_headers_of_staytus_hold_no_token_of_its_own() -> None:
    assert refusal(given("STAYTUS", HEADERS="x-auth-secret: h1dden")) == (
        "STAYTUS_HEADERS: x-auth-secret comes of another setting too, expected one of them"
    )
    header = ("X-Auth-Token", "a")
    assert load(given("PATRONI_EXPORTER", HEADERS="X-Auth-Token: a")) == target("PATRONI_EXPORTER", (header,))


def test_userinfo_becomes_a_header_and_stands_nowhere_else() -> None:
    environ = {
        **KEYS,
        "PATRONI_EXPORTER_URL": "https://us3r:p4ss@[::1]:8008/patroni",
        "STAYTUS_API_URL": "https://us3r:p4ss@h/",
    }
    loaded = load(environ)
    assert loaded == settings(
        patroni(url="https://[::1]:8008", headers=(LOGIN,)), staytus(url="https://h", headers=(*TOKENS, LOGIN))
    )
    shown = repr(loaded) + repr(given_settings(environ))
    assert [word for word in ("us3r", "p4ss", "dXMzcjpwNHNz", "t0ken", "s3cret") if word in shown] == []


# Secrets in files -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["t0ken", "t0ken\n", "t0ken\r\n", " t0ken \n\n", "\ufefft0ken\n"])
def test_secret_is_read_from_its_file_without_the_end_of_its_line(text: str, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text(text, newline="")
    environ = {**KEYS, "STAYTUS_API_TOKEN": "", "STAYTUS_API_TOKEN_FILE": str(tmp_path / "secret")}
    file = HeaderFile(str(tmp_path / "secret"), "X-Auth-Token")
    assert load(environ) == settings(staytus(headers=TOKENS[1:], header_files=(file,)))
    assert file.headers() == TOKENS[:1]


def test_secrets_in_files_switch_staytus_on_and_win_over_the_env_file(tmp_path: Path) -> None:
    (tmp_path / "one").write_text("one\n")
    environ = {"STAYTUS_API_TOKEN_FILE": str(tmp_path / "one"), "STAYTUS_API_SECRET_FILE": str(tmp_path / "one")}
    files = tuple(HeaderFile(str(tmp_path / "one"), name) for name in ("X-Auth-Token", "X-Auth-Secret"))
    expected = settings(staytus(headers=(), header_files=files))
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
def test_file_without_a_secret_is_refused_and_its_content_not_told(
    variable: str, content: bytes | None, reason: str, tmp_path: Path
) -> None:
    path = tmp_path / "secret"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        load({**KEYS, variable: "", f"{variable}_FILE": str(path)})
    what = "token" if variable == "STAYTUS_API_TOKEN" else "secret"
    assert str(caught.value) == (
        f"{variable}_FILE={str(path)!r}: {reason}expected a file that holds the {what}, one line of ASCII"
    )


@PREFIXES
def test_password_and_headers_are_read_from_their_files_at_each_request(prefix: str, tmp_path: Path) -> None:
    (tmp_path / "password").write_text("p4ss\n")
    (tmp_path / "headers").write_text("X-A: b\n\n")
    environ = given(prefix, USERNAME="us3r", PASSWORD_FILE=tmp_path / "password", HEADERS_FILE=tmp_path / "headers")
    files = (HeaderFile(str(tmp_path / "password"), user="us3r"), HeaderFile(str(tmp_path / "headers")))
    loaded = load(environ)
    assert loaded == target(prefix, header_files=files)
    assert [file.headers() for file in loaded.modules[0].target.header_files] == [(LOGIN,), (("X-A", "b"),)]
    (tmp_path / "password").write_text("\ufeffö")
    (tmp_path / "headers").write_text("X-C: d\nX-E: f")
    assert [file.headers() for file in files] == [
        (("Authorization", "Basic dXMzcjrDtg=="),),
        (("X-C", "d"), ("X-E", "f")),
    ]
    shown = repr(loaded) + repr(given_settings(environ))
    assert [word for word in ("us3r", "p4ss", "dXMzcj", "X-A") if word in repr(loaded) + shown] == []


@pytest.mark.parametrize(
    ("name", "user", "content", "expected"),
    [
        ("X-Auth-Token", "", b"h1dden\nh1dden", "the value of X-Auth-Token, one line of ASCII"),
        ("X-Auth-Token", "", b"", "the value of X-Auth-Token, one line of ASCII"),
        ("X-Auth-Token", "", b"h1dden\xff", "the value of X-Auth-Token, one line of ASCII"),
        ("", "us3r", b"h1dden\nh1dden", "a password, one line"),
        ("", "us3r", b"", "a password, one line"),
        ("", "", b"h1dden", "lines of the form Name: value, each name once"),
        ("", "", b"A: h1dden\na: h1dden", "lines of the form Name: value, each name once"),
    ],
)
def test_file_without_its_header_tells_its_path_and_no_content(
    name: str, user: str, content: bytes, expected: str, tmp_path: Path
) -> None:
    path = tmp_path / "secret"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=f"^{re.escape(f'{path}: expected a file that holds {expected}')}$"):
        HeaderFile(str(path), name, user).headers()
