"""The requests of all scrapes against real servers: who joins which, and what is kept."""

import socket
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler

import pytest

from exporter.collectors.document import Answer
from exporter.config.readers import Headers
from exporter.upstream import client
from exporter.upstream.client import Fetcher, wait
from exporter.upstream.target import HeaderFile, Target
from exporter.upstream.transfer import FetchError
from tests.conftest import Upstream, failed, landed
from tests.upstream.test_transfer import failure, raw


def whole(answer: Answer) -> Answer:
    return answer


def test_whoever_asks_while_a_request_is_under_way_joins_it(upstream: Upstream) -> None:
    upstream.answers["/x"] = (200, b"late")
    release = upstream.hold("/x")
    fetcher, target = Fetcher(), Target(upstream.url, 5, True)
    flights = [fetcher.ask(target, "x", whole) for _ in range(20)]
    release.set()
    assert [landed(flight) for flight in flights] == [Answer(200, b"late")] * 20
    assert upstream.paths == ["/x"]
    assert landed(fetcher.ask(target, "x", whole)) == Answer(200, b"late")
    assert upstream.paths == ["/x", "/x"]


def test_other_target_and_other_document_do_not_wait(upstream: Upstream) -> None:
    upstream.answers.update({"/x": (200, b"late"), "/y": (200, b"y")})
    release = upstream.hold("/x")
    fetcher, target = Fetcher(), Target(upstream.url, 5, True)
    hung = fetcher.ask(target, "x", whole)
    assert landed(fetcher.ask(target, "y", whole)) == Answer(200, b"y")
    assert landed(fetcher.ask(Target(upstream.url, 4, True), "y", whole)) == Answer(200, b"y")
    release.set()
    assert landed(hung) == Answer(200, b"late")


def test_whoever_gives_up_waiting_leaves_nothing_behind_and_others_are_woken_once_all_are_there(
    upstream: Upstream,
) -> None:
    upstream.answers.update({"/x": (200, b"late"), "/y": (200, b"y"), "/z": (200, b"late")})
    release = upstream.hold("/x", "/z")
    fetcher, target = Fetcher(), Target(upstream.url, 5, True)
    flights = [fetcher.ask(target, path, whole) for path in "xyz"]
    start = time.monotonic()
    for _ in range(3):
        wait(flights, 0.1)
    assert 0.3 <= time.monotonic() - start < 3
    assert landed(flights[1]) == Answer(200, b"y")
    assert [len(flight.waiting) for flight in flights] == [0, 0, 0]
    threading.Timer(0.2, release.set).start()
    wait(flights, 10)
    assert [flight.model for flight in flights] == [Answer(200, b"late"), Answer(200, b"y"), Answer(200, b"late")]
    wait(flights, 10)


def test_answer_younger_than_the_interval_is_used_again(upstream: Upstream) -> None:
    upstream.answers["/x"] = (200, b"one")
    fetcher, target = Fetcher(), Target(upstream.url, 5, True, interval=0.3)
    assert landed(fetcher.ask(target, "x", whole)) == Answer(200, b"one")
    upstream.answers["/x"] = (200, b"two")
    assert landed(fetcher.ask(target, "x", whole)) == Answer(200, b"one")
    while landed(fetcher.ask(target, "x", whole)) == Answer(200, b"one"):
        time.sleep(0.02)
    assert upstream.paths == ["/x", "/x"]


def test_server_that_was_not_reached_is_tried_again_at_once_whatever_the_interval() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        fetcher, target = Fetcher(), Target(f"http://127.0.0.1:{taken.getsockname()[1]}", 5, True, interval=60)
        first = fetcher.ask(target, "x", whole)
        assert isinstance(failed(first), FetchError)
        while fetcher.ask(target, "x", whole) is first:
            time.sleep(0.01)


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
    monkeypatch.setattr(client, "ABANDON_AFTER", 0.5)
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
        assert landed(fetcher.ask(target, "x", whole)) == Answer(200, b"ok")
    assert len(connections) == 3
    assert len(set(connections)) == 1


def test_answer_is_parsed_once_for_all_who_wait(upstream: Upstream) -> None:
    upstream.answers["/x"] = (200, b"late")
    release = upstream.hold("/x")
    parsed: list[Answer] = []
    fetcher, target = Fetcher(), Target(upstream.url, 5, True)

    def parse(answer: Answer) -> Answer:
        parsed.append(answer)
        return answer

    flights = [fetcher.ask(target, "x", parse) for _ in range(5)]
    release.set()
    assert [landed(flight) for flight in flights] == [Answer(200, b"late")] * 5
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
    assert [landed(fetcher.ask(target, "x", whole)) for _ in range(2)] == [Answer(200, b"ok")] * 2
    assert len(connections) == 2


def test_new_connection_that_is_closed_without_an_answer_is_not_tried_again(upstream: Upstream) -> None:
    upstream.answers["/x"] = raw(b"")
    assert failure(Target(upstream.url, 5, True)) == "the connection was closed without an answer"
    assert upstream.paths == ["/x"]


def test_answers_that_nobody_may_use_any_more_do_not_pile_up(
    upstream: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "KEPT", 10)
    upstream.answers.update({f"/{number}": (200, b"x") for number in range(50)})
    fetcher, short, long = Fetcher(), *(Target(upstream.url, 5, True, interval=seconds) for seconds in (0.001, 60))
    kept = [fetcher.ask(long, str(number), whole) for number in range(5)]
    for number in range(50):
        assert landed(fetcher.ask(short, str(number), whole)) == Answer(200, b"x")
        time.sleep(0.002)
        assert len(fetcher._flights) <= 10
    assert [fetcher.ask(long, str(number), whole) for number in range(5)] == kept


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
    assert landed(fetcher.ask(Target(upstream.url, 5, True), "y", whole)) == Answer(200, b"y")
    assert joined.ended is None
    release.set()
    reader.join(5)
    assert landed(joined) == Answer(200, b"x")
