"""One request against real servers: what it sends, what it takes for an answer, and how it says what went wrong."""

import gzip
import os
import socket
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from exporter.collectors.document import Answer
from exporter.upstream import transfer
from exporter.upstream.client import Fetcher
from exporter.upstream.target import HeaderFile, Target
from exporter.upstream.transfer import FetchError
from exporter.version import __version__
from tests.conftest import Upstream, landed


def get(target: Target, path: str = "x") -> Answer:
    answer: Answer = landed(Fetcher().ask(target, path, lambda answer: answer))
    return answer


def failure(target: Target, path: str = "x") -> str:
    with pytest.raises(FetchError) as caught:
        get(target, path)
    return str(caught.value)


def test_answer_is_status_and_body_below_the_url(upstream: Upstream) -> None:
    upstream.answers["/base/x"] = (503, b"body")
    assert get(Target(upstream.url + "/base", 5, True)) == Answer(503, b"body")


def test_request_carries_its_headers_and_nothing_of_the_environment(
    upstream: Upstream, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / ".netrc").write_text("machine 127.0.0.1 login netrc password netrc\n")
    for name, value in {"HOME": str(tmp_path), "http_proxy": "http://127.0.0.1:9"}.items():
        monkeypatch.setenv(name, value)
    upstream.answers["/x"] = (200, b"")
    get(Target(upstream.url, 5, True, headers=(("X-Auth-Token", "t"),)))
    assert upstream.requests == [
        (
            "/x",
            {
                "Host": upstream.url.removeprefix("http://"),
                "Accept-Encoding": "identity",
                "User-Agent": f"patroni-staytus-exporter/{__version__}",
                "X-Auth-Token": "t",
            },
        )
    ]


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirect_is_not_followed(upstream: Upstream, status: int) -> None:
    def redirect(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(status)
        handler.send_header("Location", "/elsewhere")
        handler.send_header("Set-Cookie", "session=1")
        handler.end_headers()

    upstream.answers["/x"] = redirect
    assert get(Target(upstream.url, 5, True)).status == status
    assert upstream.paths == ["/x"]


def test_server_that_is_not_there_is_told_as_such() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        target = Target(f"http://127.0.0.1:{taken.getsockname()[1]}", 5, True)
        assert failure(target) == "no connection: connection refused"


def test_host_name_that_is_not_known_is_told_as_such() -> None:
    assert failure(Target("http://nowhere.invalid", 5, True)) == "the host name is not known"


def raw(answer: bytes) -> Callable[[BaseHTTPRequestHandler], None]:
    def send(handler: BaseHTTPRequestHandler) -> None:
        handler.wfile.write(answer)

    return send


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (b"", "the connection was closed without an answer"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "the answer is not HTTP"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\ncut", "the answer was cut off"),
        (b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\nplain", "the answer cannot be decompressed"),
        (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
            "the answer is damaged: chunk hex-length char not a hex digit: 0x7a",
        ),
        (b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 9000 + b"\r\n", "the header of the answer is too large"),
        (b"HTTP/1.1 200 OK\r\nX: " + b"y" * 400000 + b"\r\n\r\n", "the header of the answer is too large"),
    ],
)
def test_answer_that_is_not_whole_http_is_told_as_such(upstream: Upstream, answer: bytes, message: str) -> None:
    upstream.answers["/x"] = raw(answer)
    assert failure(Target(upstream.url, 5, True)) == message


@pytest.mark.parametrize("packed", [False, True])
def test_answer_over_the_size_limit_is_cut_off(
    upstream: Upstream, packed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transfer, "SIZE_LIMIT", 1024 * 1024)
    body = b"x" * (1024 * 1024)

    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        if packed:
            handler.send_header("Content-Encoding", "gzip")
        handler.end_headers()
        handler.wfile.write(gzip.compress(answer_body) if packed else answer_body)

    upstream.answers["/x"] = answer
    answer_body = body
    assert get(Target(upstream.url, 5, True)) == Answer(200, body)
    answer_body = body + b"x"
    assert failure(Target(upstream.url, 5, True)) == "the answer is larger than 1 MiB"


@pytest.mark.parametrize("writer", [False, True])
def test_fifo_in_place_of_a_file_is_refused_and_nobody_waits_for_it(
    upstream: Upstream, tmp_path: Path, writer: bool
) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    opened = os.open(fifo, os.O_RDWR) if writer else None  # so that somebody could write, and does not
    for target in (
        Target(upstream.url, 5, True, header_files=(HeaderFile(str(fifo), "X-Auth-Token"),)),
        Target("https://localhost:1", 5, str(fifo)),
        Target("https://localhost:1", 5, True, cert_file=str(fifo)),
    ):
        assert failure(target) == f"{fifo}: not a regular file"
    if opened is not None:
        os.close(opened)
    assert upstream.requests == []
