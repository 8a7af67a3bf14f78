"""The lock before all doors: who is let in, what the others are told, and what it costs."""

import base64
import logging
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient
from werkzeug.middleware.dispatcher import DispatcherMiddleware
from werkzeug.test import Client
from werkzeug.wrappers import Response

from exporter import create_app
from exporter.config.errors import ConfigError
from exporter.config.settings import Settings
from exporter.web.auth import REMEMBERED, Logins, hash_of, locked
from exporter.web.middleware import HEADERS
from tests.locks import hashed, users, web_config

PATHS = (
    "/",
    "/metrics",
    "/metrics/",
    "/metrics/x",
    "/health",
    "/-/healthy",
    "/-/ready",
    "/nowhere",
    "//",
    "/-/healthy/",
)


def client(path: str, **environ: str) -> FlaskClient:
    """A client of the application with this web configuration file, before a Patroni that is not there."""
    given = {"PATRONI_EXPORTER_URL": "http://127.0.0.1:1", "EXPORTER_WEB_CONFIG_FILE": path, **environ}
    return create_app(Settings.load(given)).test_client()


def basic(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


def answer(response: Any) -> tuple[int, list[tuple[str, str]], bytes]:
    """Status, headers but those that the door gives every answer, and body."""
    headers = sorted(header for header in response.headers if header not in HEADERS.items())
    return response.status_code, headers, response.data


UNAUTHORIZED = (
    401,
    [
        ("Content-Length", "50"),
        ("Content-Type", "text/plain; charset=utf-8"),
        ("WWW-Authenticate", 'Basic realm="exporter", charset="UTF-8"'),
    ],
    b"Unauthorized: a user and a password are asked for\n",
)


# Who is let in --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", PATHS)
def test_every_path_asks_for_a_password(tmp_path: Path, path: str) -> None:
    locks = client(web_config(tmp_path, users(alice="s3cret")))
    open_doors = create_app(Settings.load({"PATRONI_EXPORTER_URL": "http://127.0.0.1:1"})).test_client()
    for method in ("GET", "POST", "DELETE", "OPTIONS"):
        assert answer(locks.open(path, method=method)) == UNAUTHORIZED
        let_in = locks.open(path, method=method, headers={"Authorization": basic("alice", "s3cret")})
        assert let_in.status_code == open_doors.open(path, method=method).status_code


@pytest.mark.parametrize(
    "authorization",
    [
        "",
        "Basic",
        "Basic ",
        "Basic !!!!",
        "Basic é",
        "Basic YWxpY2U=",  # alice, without a colon
        "Bearer " + basic("alice", "s3cret").split()[1],
        basic("alice", "S3cret"),
        basic("alice", ""),
        basic("alice", "s3cret "),
        basic("alice", "s3cret\0"),
        basic("Alice", "s3cret"),
        basic("nobody", "s3cret"),
        basic("", ""),
        basic("\udcff".encode("utf-8", "replace").decode(), "s3cret"),
        "Basic " + base64.b64encode(b"\xff\xfe:s3cret").decode(),
    ],
)
def test_whoever_is_not_let_in_is_told_the_same(tmp_path: Path, authorization: str) -> None:
    locks = client(web_config(tmp_path, users(alice="s3cret", bob="b")))
    assert answer(locks.get("/metrics", headers={"Authorization": authorization})) == UNAUTHORIZED


@pytest.mark.parametrize("scheme", ["Basic", "basic", "BASIC "])
@pytest.mark.parametrize("password", ["s3cret", "a:b", " ", "pässwörd", "x" * 72, "\0"])
@pytest.mark.parametrize("user", ["alice", "Zoë", "12", "a b"])
def test_login_of_a_user_is_let_in(tmp_path: Path, user: str, password: str, scheme: str) -> None:
    locks = client(web_config(tmp_path, f"basic_auth_users:\n  {user}: {hashed(password)}\n"))
    authorization = f"{scheme} {basic(user, password).split()[1]}"
    assert locks.get("/-/healthy", headers={"Authorization": authorization}).data == b"OK\n"


def test_of_a_long_password_72_bytes_count_as_everywhere_with_bcrypt(tmp_path: Path) -> None:
    locks = client(web_config(tmp_path, users(alice="x" * 72)))
    for password, status in (("x" * 73, 200), ("x" * 5000, 200), ("x" * 71, 401)):
        assert locks.get("/", headers={"Authorization": basic("alice", password)}).status_code == status


def test_head_has_no_body(tmp_path: Path) -> None:
    locks = client(web_config(tmp_path, users(alice="s3cret")))
    assert answer(locks.head("/metrics")) == (*UNAUTHORIZED[:2], b"")


def test_without_users_nobody_is_asked(tmp_path: Path) -> None:
    assert client(web_config(tmp_path, "")).get("/-/healthy").status_code == 200


def test_health_of_the_process_is_open_only_when_told_so(tmp_path: Path) -> None:
    locks = client(web_config(tmp_path, users(alice="s3cret")), EXPORTER_WEB_OPEN_HEALTH="true")
    statuses = {path: locks.get(path).status_code for path in PATHS}
    assert {path for path, status in statuses.items() if status != 401} == {"/-/healthy", "/-/ready"}


def test_below_a_path_the_same_holds(tmp_path: Path) -> None:
    path = web_config(tmp_path, users(alice="s3cret"))
    app = create_app(Settings.load({"EXPORTER_WEB_CONFIG_FILE": path, "EXPORTER_WEB_OPEN_HEALTH": "1"}))
    below = Client(DispatcherMiddleware(Response(status=404), {"/exporter": app}))
    assert answer(below.get("/exporter/metrics")) == UNAUTHORIZED
    assert below.get("/exporter/-/healthy").status_code == 200
    assert below.get("/exporter/", headers={"Authorization": basic("alice", "s3cret")}).status_code == 200


def test_changed_users_count_at_once(tmp_path: Path) -> None:
    locks = client(web_config(tmp_path, users(alice="old", bob="b")))

    def statuses() -> list[int]:
        logins = [("alice", "old"), ("alice", "new"), ("bob", "b"), ("carol", "c")]
        return [locks.get("/", headers={"Authorization": basic(*login)}).status_code for login in logins]

    assert statuses() == [200, 401, 200, 401]
    web_config(tmp_path, users(alice="new", carol="c"))
    assert statuses() == [401, 200, 401, 200]
    web_config(tmp_path, "basic_auth_users: [alice]\n")
    assert statuses() == [401, 200, 401, 200]
    web_config(tmp_path, "")  # as one that is just being written
    assert statuses() == [401, 200, 401, 200]


def test_users_that_come_into_the_file_lock_at_once(tmp_path: Path) -> None:
    locks = client(web_config(tmp_path, ""))
    assert locks.get("/").status_code == 200
    web_config(tmp_path, users(alice="s3cret"))
    assert answer(locks.get("/")) == UNAUTHORIZED


# Headers --------------------------------------------------------------------------------------------------------------


def test_headers_of_the_file_go_with_every_answer_and_win(tmp_path: Path) -> None:
    def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        start_response("200 OK", [("X-frame-options", "sameorigin"), ("X-Other", "1")])
        return [b""]

    text = "http_server_config: {headers: {X-Frame-Options: deny, X-Content-Type-Options: nosniff}}\n"
    path = web_config(tmp_path, text + users(alice="s3cret"))
    locks = Client(locked(app, path, open_health=False))
    ours = [("X-Frame-Options", "deny"), ("X-Content-Type-Options", "nosniff")]
    let_in = locks.get("/", headers={"Authorization": basic("alice", "s3cret")})
    assert list(let_in.headers) == [("X-Other", "1"), *ours]
    status, headers, body = UNAUTHORIZED
    refused = locks.get("/")
    assert (refused.status_code, sorted(refused.headers), refused.data) == (status, sorted([*headers, *ours]), body)


# What it costs --------------------------------------------------------------------------------------------------------


def test_unknown_user_is_compared_with_a_hash_of_the_cost_of_a_user() -> None:
    three = {"alice": hashed("a", 4), "bob": hashed("b", 5), "carol": hashed("c", 6).replace("$2b", "$2y")}
    assert [hash_of(name.encode(), three, b"k") for name in three] == [(h.encode(), True) for h in three.values()]

    unknown = [hash_of(f"nobody{n}".encode(), three, b"k") for n in range(100)]
    assert {known for _, known in unknown} == {False}
    assert {found[:7].decode() for found, _ in unknown} == {"$2b$04$", "$2b$05$", "$2y$06$"}
    assert {len(found) for found, _ in unknown} == {60}
    assert unknown == [hash_of(f"nobody{n}".encode(), three, b"k") for n in range(100)]
    assert unknown != [hash_of(f"nobody{n}".encode(), three, b"another key") for n in range(100)]


@pytest.mark.parametrize("login", [("alice", "wrong"), ("nobody", "s3cret")])
def test_good_login_is_remembered_and_waits_for_nobody_elses_hash(login: tuple[str, str]) -> None:
    logins, of_alice = Logins(), {"alice": hashed("s3cret", 13)}
    assert logins.good(basic("alice", "s3cret"), of_alice)
    begun = threading.Event()

    def bad() -> bool:
        begun.set()
        return logins.good(basic(*login), of_alice)

    with ThreadPoolExecutor(1) as other:
        refused = other.submit(bad)
        begun.wait(10)
        # What costs no hash is done a hundred times before one hash is.
        assert all(logins.good(basic("alice", "s3cret"), of_alice) for _ in range(100))
        assert not refused.done()
        assert refused.result(60) is False


def test_bad_login_is_not_remembered_and_no_password_is_kept_in_clear() -> None:
    logins, of_alice = Logins(), {"alice": hashed("s3cret")}
    for password in ("wrong", "s3cret", "wrong2", "s3cret"):
        logins.good(basic("alice", password), of_alice)
    assert len(logins.remembered) == 1
    kept = repr(vars(logins))
    assert [word for word in ("wrong", "s3cret", "alice", basic("alice", "s3cret")[6:]) if word in kept] == []


def test_only_the_last_logins_are_remembered() -> None:
    logins, of_alice = Logins(), {"alice": hashed("x" * 72)}
    for number in range(REMEMBERED + 50):
        assert logins.good(basic("alice", "x" * 72 + str(number)), of_alice)
    assert len(logins.remembered) == REMEMBERED
    last = dict(logins.remembered)
    assert logins.good(basic("alice", "x" * 72 + str(REMEMBERED + 49)), of_alice)
    assert logins.remembered == last


# The start ------------------------------------------------------------------------------------------------------------


def test_file_that_cannot_be_used_stops_the_application(tmp_path: Path) -> None:
    path = web_config(tmp_path, "tls_server_config: {cert: gone.crt, key_file: []}\n")
    with pytest.raises(ConfigError) as refused:
        client(path)
    assert str(refused.value) == f"{path}:1: tls_server_config.key_file: expected a text, found an empty list"


def test_server_that_does_not_serve_the_tls_of_the_file_says_so_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    locks = client(web_config(tmp_path, ""))
    locks.get("/-/healthy")
    web_config(tmp_path, "tls_server_config: {cert_file: server.crt, key_file: server.key}\n")
    locks.get("/-/healthy", base_url="https://localhost")
    assert caplog.records == []
    for _ in range(3):
        locks.get("/-/healthy")
    assert [(record.levelno, record.getMessage()) for record in caplog.records] == [
        (
            logging.WARNING,
            f"{tmp_path}/web.yml: tls_server_config is not served here; gunicorn does so, from its start on",
        )
    ]
