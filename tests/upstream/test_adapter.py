"""The transport adapter as users of requests know one: `session.get(url)` with good and bad servers."""

import gzip
import json
import os
import socket
import tracemalloc
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest
import requests
from requests import Session

from exporter.upstream import adapter as adapter_module
from exporter.upstream import transfer
from exporter.upstream.client import Client
from exporter.upstream.headers import Secret
from exporter.upstream.target import Credentials, Header
from exporter.version import __version__
from tests.conftest import Upstream, at, begin, error_of, value_of
from tests.limits.servers import CERTIFICATE, Odd, full_backlog, saying, silent
from tests.limits.servers import whole as response_bytes


@pytest.fixture
def session() -> Session:
    return at("http://unused").options.session


def raw(answer: bytes) -> Callable[[BaseHTTPRequestHandler], None]:
    def send(handler: BaseHTTPRequestHandler) -> None:
        handler.wfile.write(answer)

    return send


def test_response_is_that_of_requests(upstream: Upstream, session: Session) -> None:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(503, "Not Now")
        handler.send_header("Content-Type", "application/json; charset=utf-8")
        handler.send_header("X-Twice", "1")
        handler.send_header("X-Twice", "2")
        handler.end_headers()
        handler.wfile.write(b'{"state": "running"}')

    upstream.answers["/x?a=1"] = answer
    response = session.get(f"{upstream.url}/x", params={"a": "1"}, timeout=5)
    assert isinstance(response, requests.Response)
    assert (response.status_code, response.content) == (503, b'{"state": "running"}')
    assert (response.headers["content-type"], response.headers["x-twice"]) == (
        "application/json; charset=utf-8",
        "1, 2",
    )
    assert (response.url, response.request.method) == (f"{upstream.url}/x?a=1", "GET")


def test_post(session: Session) -> None:
    seen: list[bytes] = []

    def behave(connection: socket.socket) -> None:
        seen.append(connection.recv(65536))
        connection.sendall(response_bytes(b"ok"))

    with Odd(behave) as server:
        assert session.post(f"{server.url}/x", json={"key": "L3NlcnZpY2Uv"}, timeout=5).content == b"ok"
    assert seen[0].startswith(b"POST /x HTTP/1.1\r\n")
    assert json.loads(seen[0].rpartition(b"\r\n\r\n")[2]) == {"key": "L3NlcnZpY2Uv"}


def test_environment_does_not_change_a_request(
    upstream: Upstream, session: Session, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / ".netrc").write_text("machine 127.0.0.1 login netrc password netrc\n")
    environ = {"HOME": str(tmp_path), "http_proxy": "http://127.0.0.1:9", "REQUESTS_CA_BUNDLE": "/dev/null"}
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    upstream.answers["/x"] = (200, b"")
    session.get(f"{upstream.url}/x", timeout=5)
    value_of(begin(Client(), at(upstream.url), "x"))
    sent = {
        "Host": upstream.url.removeprefix("http://"),
        "Accept-Encoding": "identity",
        "User-Agent": f"patroni-staytus-exporter/{__version__}",
    }
    assert upstream.requests == [("/x", sent)] * 2


@pytest.mark.parametrize("location", ["/elsewhere", "http://["])
@pytest.mark.parametrize("status", [301, 307])
def test_redirects_and_cookies_are_not_followed(
    upstream: Upstream, session: Session, status: int, location: str
) -> None:
    def redirect(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(status)
        handler.send_header("Location", location)
        handler.send_header("Set-Cookie", "session=1")
        handler.end_headers()

    upstream.answers["/x"] = redirect
    assert [session.get(f"{upstream.url}/x", timeout=5).status_code for _ in range(2)] == [status, status]
    assert upstream.paths == ["/x", "/x"]
    assert ["Cookie" in headers for _, headers in upstream.requests] == [False, False]


def test_tls(session: Session) -> None:
    with Odd(saying(response_bytes(b"ok")), tls=True) as server:
        assert session.get(server.url, timeout=5, verify=CERTIFICATE).content == b"ok"
        assert session.get(server.url, timeout=5, verify=False).content == b"ok"
        with pytest.raises(requests.exceptions.SSLError, match=r"^TLS: the server's certificate is self-signed"):
            session.get(server.url, timeout=5)


def test_timeouts(session: Session) -> None:
    with full_backlog() as url, pytest.raises(requests.ConnectTimeout, match=r"^no connection within 0.2 s$"):
        session.get(url, timeout=(0.2, 5))
    with Odd(silent) as server, pytest.raises(requests.ReadTimeout, match=r"^no whole response within 0.2 s$"):
        session.get(server.url, timeout=(5, 0.2))


def test_connection_errors(session: Session) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        with pytest.raises(requests.ConnectionError, match=r"^no connection: connection refused$"):
            session.get(f"http://127.0.0.1:{taken.getsockname()[1]}", timeout=5)
    with pytest.raises(requests.ConnectionError, match=r"^the host name is not known$"):
        session.get("http://nowhere.invalid", timeout=5)


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (b"", "the connection was closed without a response"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "the response is not HTTP"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\ncut", "the response was cut off"),
        (b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\nplain", "the response cannot be decompressed"),
        (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
            "the response is damaged: chunk hex-length char not a hex digit: 0x7a",
        ),
        (b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 9000 + b"\r\n", "the header of the response is too large"),
        (b"HTTP/1.1 200 OK\r\nX: " + b"y" * 400000 + b"\r\n\r\n", "the header of the response is too large"),
    ],
)
def test_damaged_responses(upstream: Upstream, session: Session, answer: bytes, message: str) -> None:
    upstream.answers["/x"] = raw(answer)
    with pytest.raises(requests.RequestException) as caught:
        session.get(f"{upstream.url}/x", timeout=5)
    assert str(caught.value) == message


@pytest.mark.parametrize("packed", [False, True])
def test_size_limit(upstream: Upstream, session: Session, packed: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adapter_module, "SIZE_LIMIT", 1024 * 1024)
    body = b"x" * (1024 * 1024)

    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        if packed:
            handler.send_header("Content-Encoding", "gzip")
        handler.end_headers()
        handler.wfile.write(gzip.compress(body) if packed else body)

    upstream.answers["/x"] = answer
    assert session.get(f"{upstream.url}/x", timeout=5).content == body
    body += b"x"
    with pytest.raises(requests.RequestException, match=r"^the response is larger than 1 MiB$"):
        session.get(f"{upstream.url}/x", timeout=5)


@pytest.mark.parametrize("writer", [False, True])
def test_fifo_in_place_of_a_file(upstream: Upstream, tmp_path: Path, writer: bool) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    opened = os.open(fifo, os.O_RDWR) if writer else None
    for target in (
        at(upstream.url, auth=Credentials((Header("X-Auth-Token", Secret(file=str(fifo))),))),
        at("https://localhost:1", verify=str(fifo)),
        at("https://localhost:1", cert=str(fifo)),
    ):
        assert str(error_of(begin(Client(), target, "x"))) == f"{fifo}: not a regular file"
    if opened is not None:
        os.close(opened)
    assert upstream.requests == []


def test_internal_error_ends_one_request(
    upstream: Upstream, session: Session, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    upstream.answers.update({"/x": (200, b"x"), "/y": (200, b"y")})
    release = upstream.hold("/y")
    other = begin(Client(), at(upstream.url), "y")
    while "/y" not in upstream.paths:
        pass
    original = transfer.Transfer.response

    def failing(self: transfer.Transfer, curl: object) -> requests.Response:
        if str(self.request.url).endswith("/x"):
            raise MemoryError
        return original(self, curl)  # type: ignore[arg-type]

    monkeypatch.setattr(transfer.Transfer, "response", failing)
    with pytest.raises(requests.RequestException, match=r"^an internal error ended the request"):
        session.get(f"{upstream.url}/x", timeout=5)
    release.set()
    assert value_of(other) == (200, b"y")
    assert "MemoryError" in caplog.text


def test_thread_that_dies_ends_its_requests_and_starts_again(
    upstream: Upstream, session: Session, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    upstream.answers["/x"] = (200, b"x")
    release = upstream.hold("/x")
    future = begin(Client(), at(upstream.url), "x")
    while "/x" not in upstream.paths:
        pass

    def failing(_: object) -> None:
        monkeypatch.undo()
        raise MemoryError

    monkeypatch.setattr(adapter_module._Loop, "_start", failing)
    other = begin(Client(), at(upstream.url), "y")
    reason = "an internal error ended the request; the log of the exporter has its traceback"
    assert [str(error_of(each)) for each in (future, other)] == [reason] * 2
    release.set()
    assert session.get(f"{upstream.url}/x", timeout=5).content == b"x"
    assert "MemoryError" in caplog.text


def test_server_name() -> None:
    """It is verified in place of the URL's host, which stays in the header Host."""
    seen: list[bytes] = []

    def behave(connection: socket.socket) -> None:
        seen.append(connection.recv(65536))
        connection.sendall(response_bytes(b"ok"))

    with Odd(behave, tls=True) as server:
        assert value_of(begin(Client(), at(server.url, verify=CERTIFICATE, server_name="localhost"), "x")) == (
            200,
            b"ok",
        )
        with pytest.raises(requests.exceptions.SSLError, match="not valid for other"):
            value_of(begin(Client(), at(server.url, verify=CERTIFICATE, server_name="other"), "x"))
    assert f"Host: {server.url.removeprefix('https://')}\r\n".encode() in seen[0]


def test_small_chunks(upstream: Upstream, session: Session) -> None:
    """1 MiB in chunks of 2 bytes takes little more memory than in one chunk."""
    chunks = b"2\r\nxx\r\n" * 64 * 1024
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    upstream.answers["/x"] = raw(head + chunks * 8 + b"0\r\n\r\n")
    tracemalloc.start()
    try:
        content = session.get(f"{upstream.url}/x", timeout=30).content
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert len(content) == 1024 * 1024
    assert peak < 16 * 1024 * 1024
