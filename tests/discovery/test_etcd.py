"""The clusters in a real etcd, and what other servers than an etcd respond."""

import contextlib
import http.client
import json
import re
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from demo.node import HOST
from exporter.config.discovery import Etcd
from exporter.discovery import etcd as module
from exporter.discovery.etcd import EtcdError, clusters
from exporter.upstream.headers import Secret
from exporter.upstream.target import RequestOptions
from tests.certificates import HERE, authority, issue
from tests.conftest import logged
from tests.limits.documents import JSON, written
from tests.limits.servers import Behaviour, Odd, silent, whole
from tests.live import etcd as live
from tests.live.etcd import encode
from tests.live.installed import needs
from tests.live.processes import free_port

etcd_server = needs("etcd")

HEADER = {"header": {"revision": "7"}}
MEMBER = b'{"api_url": "http://db1:8008/patroni", "state": "running"}'
ROW = {"key": encode(b"/service/a/members/n1"), "value": encode(MEMBER)}


@pytest.fixture(autouse=True)
def forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ports are used again, so that an etcd of another test can have the same endpoints."""
    monkeypatch.setattr(module, "_clients", {})


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[live.Etcd]:
    with live.etcd(tmp_path_factory.mktemp("etcd")) as running:
        yield running


def at(*endpoints: str, prefix: str = "/service/", timeout: float = 5.0, **options: Any) -> Etcd:
    return Etcd(endpoints, prefix, RequestOptions(timeout, **options))


def named(etcd: Etcd, seconds: float = 5.0) -> dict[str, list[str]]:
    """The names of the members by scope, the leader's first."""
    return {
        cluster.scope: [member.name for member in sorted(cluster.members, key=lambda member: member.role != "leader")]
        for cluster in clusters(etcd, seconds)
    }


def error(etcd: Etcd, seconds: float = 5.0) -> str:
    with pytest.raises(EtcdError) as raised:
        clusters(etcd, seconds)
    return str(raised.value)


def fleet(prefix: str, count: int) -> dict[str, bytes]:
    """The keys of clusters with two members, of which the second is the leader."""
    return {
        f"{prefix}c{number:04}/{key}": value
        for number in range(count)
        for key, value in (("leader", b"n2"), ("members/n1", MEMBER), ("members/n2", MEMBER), ("history", b"[]"))
    }


# Real servers


@etcd_server
def test_pages(server: live.Etcd, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PAGE", 7)
    server.put(fleet("/pages/", 50) | {"/page": b"", "/pages0": b"", "/pagf/x/members/n": MEMBER})
    assert named(at(server.url, prefix="/pages/")) == {f"c{number:04}": ["n2", "n1"] for number in range(50)}
    assert named(at(server.url, prefix="/page/")) == {}


@etcd_server
def test_pages_have_one_revision(server: live.Etcd, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PAGE", 3)
    server.put(fleet("/moving/", 2))

    def change(_path: str, body: bytes) -> None:
        if json.loads(body)["revision"] != "0":
            server.put({"/moving/c0001/members/n3": MEMBER})

    with Odd(relaying(server, change)) as relay:
        assert named(at(relay.url, prefix="/moving/"))["c0001"] == ["n2", "n1"]
        assert named(at(relay.url, prefix="/moving/"))["c0001"] == ["n2", "n1", "n3"]


@etcd_server
def test_compaction_while_it_is_read(server: live.Etcd, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PAGE", 3)
    server.put(fleet("/compacted/", 2))

    def change(_path: str, body: bytes) -> None:
        if json.loads(body)["revision"] != "0":
            server.put({"/compacted/c0001/members/n3": MEMBER})
            revision = server.call("/kv/range", {"key": encode(b"x")})["header"]["revision"]
            server.call("/kv/compaction", {"revision": revision})

    with Odd(relaying(server, change)) as relay:
        assert named(at(relay.url, prefix="/compacted/"))["c0001"] == ["n2", "n1", "n3"]


TOO_LARGE = {"code": 8, "message": "grpc: received message larger than max (5000000 vs. 4194304)"}


@etcd_server
@pytest.mark.parametrize(
    "response", [b"HTTP/1.1 200 OK\r\nContent-Length: 17000000\r\n\r\n", whole(json.dumps(TOO_LARGE).encode(), "429 x")]
)
def test_large_values(server: live.Etcd, response: bytes) -> None:
    """A response is too large for us, or for the gateway, until the page has 15 keys."""
    server.put(fleet("/large/", 5))
    limits = []

    def check(_path: str, body: bytes) -> bytes | None:
        limits.append(json.loads(body)["limit"])
        return response if limits[-1] > 15 else None

    with Odd(relaying(server, check)) as relay:
        assert len(named(at(relay.url, prefix="/large/"))) == 5
    assert limits == [1000, 125, 15, 15]


@etcd_server
@pytest.mark.parametrize("gateway", ["/v3beta", "/v3"])
def test_gateway_of_etcd_3_3(server: live.Etcd, gateway: str) -> None:
    """This etcd 3.4 has both paths; the relay has one of them."""
    server.put({"/beta/a/members/n1": MEMBER})
    paths = []

    def check(path: str, _body: bytes) -> bytes | None:
        paths.append(path)
        return None if path.startswith(f"{gateway}/") else whole(b"404 page not found\n", "404 Not Found")

    with Odd(relaying(server, check)) as relay:
        for _ in range(2):
            assert named(at(relay.url, prefix="/beta/")) == {"a": ["n1"]}
    path = f"{gateway}/kv/range"
    assert paths == [path, path] if gateway == "/v3" else ["/v3/kv/range", path, path]


@etcd_server
def test_endpoints(server: live.Etcd) -> None:
    """The first one is dead, and the second one does not respond; the next read begins with the third one."""
    server.put({"/one/a/members/n1": MEMBER})
    with Odd(silent) as hanging, free_port() as port:
        etcd = at(f"http://127.0.0.1:{port}", hanging.url, server.url, prefix="/one/", timeout=0.3)
        assert named(etcd) == {"a": ["n1"]}
        start = time.monotonic()
        assert named(etcd) == {"a": ["n1"]}
        assert (hanging.connections, time.monotonic() - start < 0.3) == (1, True)


@etcd_server
def test_members_that_are_not_valid(server: live.Etcd, caplog: pytest.LogCaptureFixture) -> None:
    server.put({"/bad/a/members/n1": b"", "/bad/a/members/n2": b"[]", "/bad/a/members/n3": MEMBER})
    assert named(at(server.url, prefix="/bad/")) == {"a": ["n3"]}
    reason = "/bad/a/members/n1: expected a JSON object"
    assert logged(caplog) == [
        {"msg": "members in etcd skipped", "prefix": "/bad/", "members": 2, "reason": reason},
    ]


@etcd_server
def test_tls_user_and_password(tmp_path: Path) -> None:
    ca = authority(tmp_path / "ca.pem")
    secret = tmp_path / "password"
    secret.write_text("first")
    with live.etcd(tmp_path, issue(ca, tmp_path, "etcd", *HERE)) as server:
        server.put({"/service/a/members/n1": MEMBER, "/other/b/members/n1": MEMBER})

        def user(name: str, password: Secret, prefix: str = "/service/") -> Etcd:
            options = RequestOptions(5.0, verify=str(tmp_path / "ca.pem"))
            return Etcd((server.url,), prefix, options, name, password)

        exporter = user("exporter", Secret(file=str(secret)))
        server.call("/auth/user/add", {"name": "exporter", "password": "first"})
        assert named(exporter) == {"a": ["n1"]}, "authentication is not enabled"
        enable_authentication(server)
        assert named(exporter) == {"a": ["n1"]}, "it has no token"
        assert named(exporter) == {"a": ["n1"]}, "it has one"
        root = server.call("/auth/authenticate", {"name": "root", "password": "r00t"})["token"]
        server.call("/auth/user/changepw", {"name": "exporter", "password": "second"}, root)
        failed = "authentication failed, invalid user ID or password"
        assert error(exporter) == f"{server.url}: HTTP 400: etcdserver: {failed}"
        secret.write_text("second")
        assert named(exporter) == {"a": ["n1"]}, "the password is that of the changed file"
        server.stop()
        server.start()
        assert named(exporter) == {"a": ["n1"]}, "the token of before the restart is not valid"
        secret.unlink()
        assert named(exporter) == {"a": ["n1"]}, "the file is only read for a token"
        errors = {
            error(user("exporter", Secret("second"), "/other/")): "HTTP 403: etcdserver: permission denied",
            error(user("exporter", Secret("wr0ng"))): f"HTTP 400: etcdserver: {failed}",
            error(user("exporter", Secret(file=f"{secret}2"))): f"{secret}2: no such file or directory",
            error(at(server.url, verify=str(tmp_path / "ca.pem"))): "HTTP 400: etcdserver: user name is empty",
            error(at(server.url)): "TLS: the server's certificate is signed by an authority that is not trusted",
        }
        assert errors == {f"{server.url}: {reason}": reason for reason in errors.values()}


def enable_authentication(server: live.Etcd) -> None:
    """Enables it for the user `exporter`, which may read /service/."""
    server.call("/auth/user/add", {"name": "root", "password": "r00t"})
    server.call("/auth/role/add", {"name": "root"})
    server.call("/auth/user/grant", {"user": "root", "role": "root"})
    server.call("/auth/role/add", {"name": "reader"})
    permission = {"permType": "READ", "key": encode(b"/service/"), "range_end": encode(b"/service0")}
    server.call("/auth/role/grant", {"name": "reader", "perm": permission})
    server.call("/auth/user/grant", {"user": "exporter", "role": "reader"})
    server.call("/auth/enable", {})


# Other servers


def relaying(server: live.Etcd, before: Callable[[str, bytes], bytes | None]) -> Behaviour:
    """Sends each request on and its response back, unless a call with its path and body returns another response."""

    def behave(connection: socket.socket) -> None:
        path, body = read_post(connection)
        response = before(path, body)
        if response is None:
            with contextlib.closing(http.client.HTTPConnection(HOST, server.port)) as upstream:
                upstream.request("POST", path, body)
                found = upstream.getresponse()
                response = whole(found.read(), f"{found.status} {found.reason}")
        connection.sendall(response)

    return behave


def read_post(connection: socket.socket) -> tuple[str, bytes]:
    """The path and the body of a request; raises OSError when the client closes the connection."""
    with connection.makefile("rb") as file:
        words = file.readline().split()
        if not words:
            raise ConnectionResetError
        return words[1].decode(), file.read(int(http.client.parse_headers(file)["Content-Length"]))


def says(body: object, status: str = "200 OK") -> Behaviour:
    """Sends this body, or this value as JSON."""

    def behave(connection: socket.socket) -> None:
        read_post(connection)
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        connection.sendall(whole(content, status))

    return behave


@pytest.mark.parametrize(
    ("behave", "reason"),
    [
        (says(b"<html>", "200 OK"), "HTTP 200: expected valid JSON, found 6 bytes"),
        (says([]), "the document: expected an object, found an array"),
        (says({"more": True, "kvs": [ROW]}), "revision: expected a string, found nothing"),
        (says({**HEADER, "more": True}), "kvs: expected keys, since there are more"),
        (says({**HEADER, "kvs": {}}), "kvs: expected an array, found an object"),
        (says({**HEADER, "kvs": [{**ROW, "key": "?"}]}), "key: expected base64"),
        (says({**HEADER, "kvs": [{**ROW, "value": "ü"}]}), "value: expected base64"),
        (says({**HEADER, "kvs": [{**ROW, "value": "YQ"}]}), "value: expected base64"),
        (says(b"not found", "404 Not Found"), "HTTP 404: expected 200"),
        (says({"error": "mvcc:\n\u202ebad", "code": 99}, "502 Bad"), "HTTP 502: mvcc:\\n\\u202ebad"),
        (says({"code": "x"}, "500 Bad"), "HTTP 500: expected 200"),
        (says(b'{"kvs": ["' + b"x" * 20_000_000), "the response is larger than 16 MiB"),
    ],
)  # fmt: skip
def test_other_servers(behave: Behaviour, reason: str) -> None:
    with Odd(behave) as server:
        assert error(at(server.url)) == f"{server.url}: {reason}"


def test_silent_server() -> None:
    with Odd(silent) as server:
        assert error(at(server.url), 0.5) == f"{server.url}: no whole response within 0.5 s"


def test_all_endpoints_fail() -> None:
    with free_port() as port, Odd(says({}, "500 Bad")) as broken:
        dead = f"http://127.0.0.1:{port}"
        assert error(at(dead, broken.url)) == (
            f"{dead}: no connection: connection refused; {broken.url}: HTTP 500: expected 200"
        )


@pytest.mark.parametrize(
    ("token", "reason"),
    [("x\ny", "token: expected one line of ASCII"), (None, "token: expected a string, found nothing")],
)
def test_token_that_is_not_valid(token: str | None, reason: str) -> None:
    with Odd(says({"token": token})) as server:
        etcd = Etcd((server.url,), "/service/", RequestOptions(5.0), "u", Secret("p4ssword"))
        assert error(etcd) == f"{server.url}: {reason}"


def test_secrets_in_an_error() -> None:
    with Odd(says({"message": "invalid: p4ssword p4ssword"}, "400 Bad")) as server:
        etcd = Etcd((server.url,), "/service/", RequestOptions(5.0), "u", Secret("p4ssword"))
        assert error(etcd) == f"{server.url}: HTTP 400: invalid: *** ***"


def test_time_is_up() -> None:
    with Odd(says(HEADER)) as server:
        assert error(at(server.url), 0) == f"{server.url}: the time is up"
    assert server.connections == 0


def test_endless_pages() -> None:
    """The deadline ends a read of a server that repeats a page."""
    with Odd(says({**HEADER, "more": True, "kvs": [ROW]})) as server:
        start = time.monotonic()
        reason = error(at(server.url), 0.3)
        assert time.monotonic() - start < 2
        assert re.fullmatch(r"http://[\d.:]+: (the time is up|no (connection|whole response) within [\d.]+ s)", reason)


def test_any_response() -> None:
    row = st.dictionaries(st.sampled_from(("key", "value")), JSON)
    page = st.builds(lambda changed: {**HEADER, "kvs": [{**ROW, **changed}]}, row)
    with Odd(says({})) as server:

        @settings(deadline=None, max_examples=50)
        @given(st.one_of(JSON, page))
        def check(document: object) -> None:
            server.behave = says(written(document))
            with contextlib.suppress(EtcdError):
                clusters(at(server.url), 5)

        check()
