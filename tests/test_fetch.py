"""The HTTP client against real servers: what it sends, whom it joins, and how it says what went wrong."""

import gzip
import os
import socket
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from exporter import fetch, request
from exporter.document import Answer
from exporter.fetch import Fetcher
from exporter.request import FetchError
from exporter.target import HeaderFile, Target
from exporter.values import Headers
from exporter.version import __version__
from tests.conftest import Upstream


def whole(answer: Answer) -> Answer:
    return answer


def get(target: Target, path: str = "x") -> Answer:
    answer: Answer = Fetcher().ask(target, path, whole).model.result(10)
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


def hold(release: threading.Event, body: bytes = b"late") -> Callable[[BaseHTTPRequestHandler], None]:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        release.wait(10)
        handler.send_response(200)
        handler.end_headers()
        handler.wfile.write(body)

    return answer


def test_whoever_asks_while_a_request_is_under_way_joins_it(upstream: Upstream) -> None:
    release = threading.Event()
    upstream.answers["/x"] = hold(release)
    fetcher, target = Fetcher(), Target(upstream.url, 5, True)
    flights = [fetcher.ask(target, "x", whole) for _ in range(20)]
    release.set()
    assert [flight.model.result(5) for flight in flights] == [Answer(200, b"late")] * 20
    assert upstream.paths == ["/x"]
    assert fetcher.ask(target, "x", whole).model.result(5) == Answer(200, b"late")
    assert upstream.paths == ["/x", "/x"]


def test_other_target_and_other_document_do_not_wait(upstream: Upstream) -> None:
    release = threading.Event()
    upstream.answers.update({"/x": hold(release), "/y": (200, b"y")})
    fetcher, target = Fetcher(), Target(upstream.url, 5, True)
    hung = fetcher.ask(target, "x", whole)
    assert fetcher.ask(target, "y", whole).model.result(5) == Answer(200, b"y")
    assert fetcher.ask(Target(upstream.url, 4, True), "y", whole).model.result(5) == Answer(200, b"y")
    release.set()
    assert hung.model.result(5) == Answer(200, b"late")


def test_answer_younger_than_the_interval_is_used_again(upstream: Upstream) -> None:
    upstream.answers["/x"] = (200, b"one")
    fetcher, target = Fetcher(), Target(upstream.url, 5, True, interval=0.3)
    assert fetcher.ask(target, "x", whole).model.result(5) == Answer(200, b"one")
    upstream.answers["/x"] = (200, b"two")
    assert fetcher.ask(target, "x", whole).model.result(5) == Answer(200, b"one")
    while fetcher.ask(target, "x", whole).model.result(5) == Answer(200, b"one"):
        time.sleep(0.02)
    assert upstream.paths == ["/x", "/x"]


def test_server_that_was_not_reached_is_tried_again_at_once_whatever_the_interval() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        fetcher, target = Fetcher(), Target(f"http://127.0.0.1:{taken.getsockname()[1]}", 5, True, interval=60)
        first = fetcher.ask(target, "x", whole)
        assert isinstance(first.model.exception(5), FetchError)
        while fetcher.ask(target, "x", whole) is first:
            time.sleep(0.01)


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
    monkeypatch.setattr(request, "SIZE_LIMIT", 1024 * 1024)
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


def dripping(part: bytes) -> Callable[[BaseHTTPRequestHandler], None]:
    """Sends a byte every 50 ms for as long as somebody reads."""

    def answer(handler: BaseHTTPRequestHandler) -> None:
        try:
            handler.wfile.write(part)
            while True:
                handler.wfile.write(b"x")
                time.sleep(0.05)
        except OSError:
            pass

    return answer


@pytest.mark.parametrize("part", [b"HTTP/1.1 2", b"HTTP/1.1 200 OK\r\nX: ", b"HTTP/1.1 200 OK\r\n\r\n"])
def test_server_that_sends_byte_by_byte_is_given_up_in_time(
    upstream: Upstream, part: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetch, "ABANDON_AFTER", 0.5)
    upstream.answers["/x"] = dripping(part)
    start = time.monotonic()
    assert failure(Target(upstream.url, 0.5, True)) == "no whole answer within 0.5 s"
    assert 0.4 < time.monotonic() - start < 3


def test_connection_is_used_again_while_the_server_keeps_it(upstream: Upstream) -> None:
    connections = []

    def answer(handler: BaseHTTPRequestHandler) -> None:
        connections.append(handler.client_address)
        handler.protocol_version = "HTTP/1.1"
        handler.close_connection = False
        handler.send_response(200)
        handler.send_header("Content-Length", "2")
        handler.end_headers()
        handler.wfile.write(b"ok")

    upstream.answers["/x"] = answer
    fetcher, target = Fetcher(), Target(upstream.url, 5, True)
    for _ in range(3):
        assert fetcher.ask(target, "x", whole).model.result(5) == Answer(200, b"ok")
    assert len(connections) == 3
    assert len(set(connections)) == 1


def test_answer_is_parsed_once_for_all_who_wait(upstream: Upstream) -> None:
    release = threading.Event()
    upstream.answers["/x"] = hold(release)
    parsed: list[Answer] = []
    fetcher, target = Fetcher(), Target(upstream.url, 5, True)

    def parse(answer: Answer) -> Answer:
        parsed.append(answer)
        return answer

    flights = [fetcher.ask(target, "x", parse) for _ in range(5)]
    release.set()
    assert [flight.model.result(5) for flight in flights] == [Answer(200, b"late")] * 5
    assert parsed == [Answer(200, b"late")]


def test_kept_connection_that_went_stale_is_replaced_and_nobody_notices(upstream: Upstream) -> None:
    connections: list[socket.socket] = []

    def answer(handler: BaseHTTPRequestHandler) -> None:
        if handler.connection in connections:
            handler.connection.shutdown(socket.SHUT_RDWR)  # only now, so that it looked alive when it was chosen
            return
        connections.append(handler.connection)
        handler.protocol_version = "HTTP/1.1"
        handler.close_connection = False
        handler.send_response(200)
        handler.send_header("Content-Length", "2")
        handler.end_headers()
        handler.wfile.write(b"ok")

    upstream.answers["/x"] = answer
    fetcher, target = Fetcher(), Target(upstream.url, 5, True)
    assert [fetcher.ask(target, "x", whole).model.result(5) for _ in range(2)] == [Answer(200, b"ok")] * 2
    assert len(connections) == 2


def test_new_connection_that_is_closed_without_an_answer_is_not_tried_again(upstream: Upstream) -> None:
    upstream.answers["/x"] = raw(b"")
    assert failure(Target(upstream.url, 5, True)) == "the connection was closed without an answer"
    assert upstream.paths == ["/x"]


def test_answers_that_nobody_may_use_any_more_do_not_pile_up(
    upstream: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetch, "KEPT", 10)
    upstream.answers.update({f"/{number}": (200, b"x") for number in range(50)})
    fetcher, short, long = Fetcher(), *(Target(upstream.url, 5, True, interval=seconds) for seconds in (0.001, 60))
    kept = [fetcher.ask(long, str(number), whole) for number in range(5)]
    for number in range(50):
        assert fetcher.ask(short, str(number), whole).model.result(5) == Answer(200, b"x")
        time.sleep(0.002)
        assert len(fetcher._flights) <= 10
    assert [fetcher.ask(long, str(number), whole) for number in range(5)] == kept


# Files that are read with each request --------------------------------------------------------------------------------


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


def test_file_that_hangs_keeps_nobody_waiting_but_whoever_asked_for_it(upstream: Upstream) -> None:
    """As one on a server of files that does not answer: its reader cannot be woken."""
    release, asked = threading.Event(), threading.Event()

    class Hanging(HeaderFile):
        def headers(self) -> Headers:
            asked.set()
            release.wait(10)
            return ()

    upstream.answers.update({"/x": (200, b"x"), "/y": (200, b"y")})
    fetcher, hung = Fetcher(), Target(upstream.url, 5, True, header_files=(Hanging("there"),))
    reader = threading.Thread(target=fetcher.ask, args=(hung, "x", whole))
    reader.start()
    assert asked.wait(5)
    joined = fetcher.ask(hung, "x", whole)
    assert fetcher.ask(Target(upstream.url, 5, True), "y", whole).model.result(5) == Answer(200, b"y")
    assert not joined.model.done()
    release.set()
    reader.join(5)
    assert joined.model.result(5) == Answer(200, b"x")
