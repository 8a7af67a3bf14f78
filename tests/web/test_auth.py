"""Basic authentication: which logins are accepted, what a refused client gets, and what the hashes cost."""

import base64
import http.client
import logging
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from itertools import count
from pathlib import Path
from threading import Event
from typing import Any

import pytest
from flask.testing import FlaskClient
from werkzeug.exceptions import TooManyRequests
from werkzeug.middleware.dispatcher import DispatcherMiddleware
from werkzeug.test import Client
from werkzeug.wrappers import Response

from exporter.config.errors import ConfigError
from exporter.web.auth import REMEMBERED, PasswordCache, hash_of
from exporter.web.middleware import HEADERS, middleware
from tests.counted import counts
from tests.limits.scrapes import application
from tests.live.processes import Served, running_exporter
from tests.web_config import basic, hashed, users, web_config

PATHS = ("/", "/metrics", "/metrics/", "/metrics/x", "/health", "/-/healthy", "/-/ready", "/x", "//", "/-/healthy/")


def client(path: str = "", **environ: str) -> FlaskClient:
    """A client of the application with this web configuration file; its Patroni is not reachable."""
    return application("http://127.0.0.1:1", EXPORTER_WEB_CONFIG_FILE=path, **environ).test_client()


def answer(response: Any) -> tuple[int, list[tuple[str, str]], bytes]:
    """Status, headers without those of every response, and body."""
    headers = sorted(header for header in response.headers if header not in HEADERS.items())
    return response.status_code, headers, response.data


UNAUTHORIZED = (
    401,
    [
        ("Content-Length", "54"),
        ("Content-Type", "text/plain; charset=utf-8"),
        ("WWW-Authenticate", 'Basic realm="exporter", charset="UTF-8"'),
    ],
    b"Unauthorized: a user name and a password are required\n",
)


# Logins


@pytest.mark.parametrize("path", PATHS)
def test_every_path_needs_a_login(tmp_path: Path, path: str) -> None:
    protected, public = client(web_config(tmp_path, users(alice="s3cret"))), client()
    for method in ("GET", "POST", "DELETE", "OPTIONS"):
        assert answer(protected.open(path, method=method)) == UNAUTHORIZED
        response = protected.open(path, method=method, headers={"Authorization": basic("alice", "s3cret")})
        assert response.status_code == public.open(path, method=method).status_code


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
        basic("carol", "s3cret"),
        basic("", ""),
        basic("\udcff".encode("utf-8", "replace").decode(), "s3cret"),
        "Basic " + base64.b64encode(b"\xff\xfe:s3cret").decode(),
    ],
)
def test_wrong_login(tmp_path: Path, authorization: str) -> None:
    """All get the same response, also the second time."""
    protected = client(web_config(tmp_path, users(alice="s3cret", bob="b")))
    for _ in range(2):
        assert answer(protected.get("/metrics", headers={"Authorization": authorization})) == UNAUTHORIZED


@pytest.mark.parametrize("scheme", ["Basic", "basic", "BASIC "])
@pytest.mark.parametrize("password", ["s3cret", "a:b", " ", "pässwörd", "x" * 72, "\0"])
@pytest.mark.parametrize("user", ["alice", "Zoë", "12", "a b"])
def test_good_login(tmp_path: Path, user: str, password: str, scheme: str) -> None:
    protected = client(web_config(tmp_path, f"basic_auth_users:\n  {user}: {hashed(password)}\n"))
    authorization = f"{scheme} {basic(user, password).split()[1]}"
    assert protected.get("/-/healthy", headers={"Authorization": authorization}).data == b"OK\n"


def test_long_password(tmp_path: Path) -> None:
    """As everywhere with bcrypt, the first 72 bytes count."""
    protected = client(web_config(tmp_path, users(alice="x" * 72)))
    for password, status in (("x" * 73, 200), ("x" * 5000, 200), ("x" * 71, 401)):
        assert protected.get("/", headers={"Authorization": basic("alice", password)}).status_code == status


def test_open_health(tmp_path: Path) -> None:
    protected = client(web_config(tmp_path, users(alice="s3cret")), EXPORTER_WEB_OPEN_HEALTH="true")
    statuses = {path: protected.get(path).status_code for path in PATHS}
    assert {path for path, status in statuses.items() if status != 401} == {"/-/healthy", "/-/ready"}


def test_below_a_path(tmp_path: Path) -> None:
    path = web_config(tmp_path, users(alice="s3cret"))
    app = application(EXPORTER_WEB_CONFIG_FILE=path, EXPORTER_WEB_OPEN_HEALTH="1")
    below = Client(DispatcherMiddleware(Response(status=404), {"/exporter": app}))
    assert answer(below.get("/exporter/metrics")) == UNAUTHORIZED
    assert below.get("/exporter/-/healthy").status_code == 200
    assert below.get("/exporter/", headers={"Authorization": basic("alice", "s3cret")}).status_code == 200


def test_changed_users(tmp_path: Path) -> None:
    protected = client(web_config(tmp_path, users(alice="old", bob="b")))

    def statuses() -> list[int]:
        logins = [("alice", "old"), ("alice", "new"), ("bob", "b"), ("carol", "c")]
        return [protected.get("/", headers={"Authorization": basic(*login)}).status_code for login in logins]

    assert statuses() == [200, 401, 200, 401]
    web_config(tmp_path, users(alice="new", carol="c"))
    assert statuses() == [401, 200, 401, 200]
    web_config(tmp_path, "basic_auth_users: [alice]\n")
    assert statuses() == [401, 200, 401, 200]
    web_config(tmp_path, "")  # a file that is being written
    assert statuses() == [401, 200, 401, 200]


def test_no_users_then_users(tmp_path: Path) -> None:
    protected = client(web_config(tmp_path, ""))
    assert protected.get("/").status_code == 200
    web_config(tmp_path, users(alice="s3cret"))
    assert answer(protected.get("/")) == UNAUTHORIZED
    assert answer(protected.head("/")) == (*UNAUTHORIZED[:2], b"")


# Headers


def test_headers_replace_others() -> None:
    theirs = Response(headers=[("X-frame-options", "sameorigin"), ("X-Other", "1")])
    ours = (("X-Frame-Options", "deny"), ("X-Content-Type-Options", "none"))
    headers = Client(middleware(theirs, lambda: ours)).get("/").headers
    assert headers.getlist("X-Other") == ["1"]
    assert [(name, headers.getlist(name)) for name, _ in ours] == [(name, [value]) for name, value in ours]
    error = Client(middleware(lambda *_: 1 / 0, lambda: ours)).get("/")  # type: ignore
    assert (error.status_code, error.headers["X-Frame-Options"]) == (500, "deny")


def test_headers_of_every_response(tmp_path: Path) -> None:
    text = "http_server_config: {headers: {X-Frame-Options: deny, Content-Security-Policy: ''}}\n"
    protected = client(web_config(tmp_path, text + users(alice="s3cret")))
    good = {"Authorization": basic("alice", "s3cret")}
    responses = [protected.get("/"), protected.get("/", headers=good), protected.get("/x", headers=good)]
    responses.append(protected.get("/metrics?%", headers=good))
    found = [(response.status_code, response.headers.getlist("X-Frame-Options")) for response in responses]
    assert found == [(401, ["deny"]), (200, ["deny"]), (404, ["deny"]), (400, ["deny"])]


# Hashes


def test_unknown_user_costs_as_much_as_a_user() -> None:
    known = {"alice": hashed("a", 4), "bob": hashed("b", 6), "carol": hashed("c", 5).replace("$2b", "$2y")}
    assert [hash_of(name.encode(), known) for name in known] == [(h.encode(), True) for h in known.values()]
    assert {hash_of(b"user%d" % n, known) for n in range(100)} == {(b"$2b$06$" + b"." * 53, False)}


@pytest.fixture
def cache() -> PasswordCache:
    return PasswordCache()


ALICE = {"alice": "$2b$12$dkWLFltI.B/Um3mdPDyCkODtqvFupbsUdmbw080T76wFVgxFthZ.e"}  # s3cret; 0.3 s a hash


def at_once(cache: PasswordCache, logins: Iterable[tuple[str, str, str]]) -> Counter[object]:
    """The results of these logins (user, password, client address) at the same time."""

    def verify(login: tuple[str, str, str]) -> object:
        try:
            return cache.verify(basic(*login[:2]), ALICE, login[2])
        except TooManyRequests as error:
            return error.code, error.retry_after

    logins = list(logins)
    with ThreadPoolExecutor(len(logins)) as pool:
        return Counter(pool.map(verify, logins))


def test_many_wrong_logins(cache: PasswordCache) -> None:
    of_one_client = [("alice", f"wrong{n}", "10.0.0.1") for n in range(16)]
    assert at_once(cache, of_one_client) == {False: 2, (429, 1): 14}
    of_many_clients = [(f"user{n}", "wrong", f"10.0.0.{n}") for n in range(16)]
    assert at_once(cache, of_many_clients) == {False: 4, (429, 1): 12}
    assert counts(cache.counter) == {"missing": 0, "wrong": 6, "busy": 26}


@pytest.mark.parametrize(("password", "result"), [("s3cret", True), ("wrong", False)])
def test_same_login_at_once_is_one_hash(cache: PasswordCache, password: str, result: bool) -> None:
    """As after a start, when Prometheus sends many probes with the same password."""
    start = time.process_time()
    assert at_once(cache, [("alice", password, "10.0.0.1")] * 32) == {result: 32}
    first = time.process_time() - start
    assert at_once(cache, [("alice", password, "10.0.0.1")] * 32) == {result: 32}
    assert time.process_time() - start - first < first / 4
    start = time.process_time()
    cache.verify(basic("alice", "another"), ALICE, "10.0.0.1")
    assert first < 2 * (time.process_time() - start)


@pytest.mark.parametrize(("threads", "waiting"), [(8, 4), (3, 1)])
def test_half_of_the_threads_wait(threads: int, waiting: int) -> None:
    cache = PasswordCache(threads)
    assert at_once(cache, [("alice", "s3cret", "10.0.0.1")] * 16) == {True: waiting, (429, 1): 16 - waiting}
    assert at_once(cache, [("alice", "s3cret", "10.0.0.1")] * 16) == {True: 16}


def test_no_password_is_kept(cache: PasswordCache) -> None:
    known = {"alice": hashed("s3cret")}
    for password in ("guess", "s3cret", "guess2", "s3cret"):
        cache.verify(basic("alice", password), known, "")
    kept = repr(vars(cache))
    assert [word for word in ("guess", "s3cret", "alice", basic("alice", "s3cret")[6:]) if word in kept] == []
    another = PasswordCache()
    assert another.verify(basic("alice", "s3cret"), known, "")
    assert cache._remembered[True].keys().isdisjoint(another._remembered[True])


def test_last_logins_are_remembered(cache: PasswordCache) -> None:
    """Wrong logins do not take the place of good ones."""
    known = {"alice": hashed("x" * 72)}
    for number in range(REMEMBERED + 50):
        assert cache.verify(basic("alice", "x" * 72 + str(number)), known, "")
    good = list(cache._remembered[True])
    for number in range(REMEMBERED + 50):
        assert not cache.verify(basic("alice", str(number)), known, "")
    assert (list(cache._remembered[True]), len(good), len(cache._remembered[False])) == (good, REMEMBERED, REMEMBERED)


def test_refused_logins_are_counted(cache: PasswordCache) -> None:
    for authorization in ("", "Basic x", "Bearer x", basic("alice", "1"), basic("alice", "1"), basic("bob", "1")):
        assert not cache.verify(authorization, {"alice": hashed("s3cret")}, "")
    assert counts(cache.counter) == {"missing": 3, "wrong": 3, "busy": 0}


# A server


@pytest.fixture
def exporter(tmp_path: Path) -> Iterator[Served]:
    """An exporter with the users alice and bob; each hash takes about 0.1 s."""
    path = web_config(tmp_path, f"basic_auth_users: {{alice: {hashed('s3cret', 10)}, bob: {hashed('b', 10)}}}\n")
    arguments = ("--patroni-url", "http://127.0.0.1:1", "--web.config.file", path)
    with running_exporter(tmp_path, *arguments) as served:
        yield served


def get(exporter: Served, user: str, password: str, address: str = "127.0.0.1") -> tuple[int, str | None]:
    """Status and Retry-After of a response."""
    connection = http.client.HTTPConnection("127.0.0.1", exporter.port, timeout=60, source_address=(address, 0))
    with closing(connection):
        connection.request("GET", "/-/healthy", headers={"Authorization": basic(user, password)})
        response = connection.getresponse()
        response.read()
        return response.status, response.headers["Retry-After"]


@contextmanager
def attack(exporter: Served) -> Iterator[Counter[tuple[int, str | None]]]:
    """64 clients at one address that try passwords, each some 5 times a second. Yields their responses."""
    responses: Counter[tuple[int, str | None]] = Counter()
    passwords, end = count(), Event()

    def try_passwords(_: int) -> None:
        while not end.is_set():
            responses[get(exporter, "alice", str(next(passwords)))] += 1
            end.wait(0.2)

    with ThreadPoolExecutor(64) as pool:
        ended = pool.map(try_passwords, range(64))
        try:
            while not responses:
                time.sleep(0.01)
            yield responses
        finally:
            end.set()
        list(ended)


def test_other_logins_during_an_attack(exporter: Served) -> None:
    """A remembered one does not wait, and a new one of another client is verified."""
    assert get(exporter, "alice", "s3cret") == (200, None)
    with attack(exporter) as responses:
        assert [get(exporter, "alice", "s3cret") for _ in range(50)] == [(200, None)] * 50
        assert get(exporter, "bob", "b", "127.0.0.2") == (200, None)
    assert set(responses) == {(401, None), (429, "1")}


# The start


def test_invalid_file(tmp_path: Path) -> None:
    path = web_config(tmp_path, "tls_server_config: {cert: gone.crt, key_file: []}\n")
    with pytest.raises(ConfigError) as refused:
        client(path)
    assert str(refused.value).startswith(f"{path}:1: tls_server_config.key_file: expected ")


def test_tls_is_not_served(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A server that does not serve the TLS of the file logs it once."""
    caplog.set_level(logging.WARNING)
    protected = client(web_config(tmp_path, ""))
    protected.get("/-/healthy")
    path = web_config(tmp_path, "tls_server_config: {cert_file: server.crt, key_file: server.key}\n")
    protected.get("/-/healthy", base_url="https://localhost")
    assert caplog.records == []
    for _ in range(3):
        protected.get("/-/healthy")
    reason = "only gunicorn serves tls_server_config, and only if it was set at the start"
    assert [(record.levelno, record.getMessage()) for record in caplog.records] == [
        (logging.WARNING, f'TLS not served file={path} reason="{reason}"')
    ]
