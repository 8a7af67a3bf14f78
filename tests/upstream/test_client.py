"""The requests in flight: which callers share one, and which responses are used again."""

import socket
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler

import pytest
from requests import PreparedRequest, Response

from exporter.upstream import client as client_module
from exporter.upstream.client import Client
from exporter.upstream.errors import FetchError, TooManyRequests
from exporter.upstream.target import Credentials, HeaderLines
from tests.conftest import Upstream, at, begin, error_of, value_of
from tests.counted import counts


@pytest.fixture
def client() -> Client:
    return Client()


def test_callers_join_the_request_in_flight(upstream: Upstream, client: Client) -> None:
    """Its response is read once for all."""
    upstream.answers["/x"] = (200, b"late")
    release = upstream.hold("/x")
    read: list[bytes] = []

    def reading(response: Response) -> bytes:
        read.append(response.content)
        return response.content

    futures = [begin(client, at(upstream.url), "x", reading) for _ in range(20)]
    assert client.in_flight == 1
    release.set()
    assert [value_of(future) for future in futures] == [b"late"] * 20
    assert (read, upstream.paths) == ([b"late"], ["/x"])
    assert value_of(begin(client, at(upstream.url), "x")) == (200, b"late")
    assert (upstream.paths, client.in_flight) == (["/x", "/x"], 0)


def test_other_targets_and_paths_do_not_wait(upstream: Upstream, client: Client) -> None:
    upstream.answers.update({"/x": (200, b"late"), "/y": (200, b"y")})
    release = upstream.hold("/x")
    hung = begin(client, at(upstream.url), "x")
    assert value_of(begin(client, at(upstream.url), "y")) == (200, b"y")
    assert value_of(begin(client, at(upstream.url, 4), "y")) == (200, b"y")
    release.set()
    assert value_of(hung) == (200, b"late")


def test_young_response_is_used_again(upstream: Upstream, client: Client) -> None:
    upstream.answers["/x"] = (200, b"one")
    target = at(upstream.url, interval=0.3)
    assert value_of(begin(client, target, "x")) == (200, b"one")
    upstream.answers["/x"] = (200, b"two")
    assert value_of(begin(client, target, "x")) == (200, b"one")
    while value_of(begin(client, target, "x")) == (200, b"one"):
        time.sleep(0.02)
    assert upstream.paths == ["/x", "/x"]


def test_failed_connection_is_tried_again_at_once(client: Client) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        target = at(f"http://127.0.0.1:{taken.getsockname()[1]}", interval=60)
        first = begin(client, target, "x")
        assert isinstance(error_of(first), FetchError)
        assert begin(client, target, "x") is not first


def test_callers_do_not_wait_for_a_request_older_than_the_timeout(upstream: Upstream, client: Client) -> None:
    upstream.answers["/x"] = (200, b"late")
    release = upstream.hold("/x")
    target = at(upstream.url, 0.2)
    first = begin(client, target, "x")
    assert begin(client, target, "x") is first
    time.sleep(0.21)
    late = begin(client, target, "x")
    assert late.done()
    assert (str(error_of(late)), client.in_flight, upstream.paths) == ("no response within 0.2 s", 1, ["/x"])
    release.set()
    assert value_of(first) == (200, b"late")
    assert value_of(begin(client, target, "x")) == (200, b"late")
    assert upstream.paths == ["/x", "/x"]


def test_request_that_never_ended_is_not_joined(
    upstream: Upstream, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An internal error may lose a request."""
    monkeypatch.setattr(client_module, "ABANDON_AFTER", 0.0)
    monkeypatch.setattr(client_module, "SLACK", 0.0)
    upstream.answers["/x"] = (200, b"late")
    release = upstream.hold("/x")
    target = at(upstream.url, 0.1)
    lost = begin(client, target, "x")
    time.sleep(0.11)
    found = begin(client, target, "x")
    assert found is not lost
    release.set()


def dripping(part: bytes) -> Callable[[BaseHTTPRequestHandler], None]:
    """Sends a byte every 50 ms until the client closes the connection."""

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
def test_byte_by_byte_response_is_abandoned(
    upstream: Upstream, client: Client, part: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client_module, "ABANDON_AFTER", 0.5)
    upstream.answers["/x"] = dripping(part)
    start = time.monotonic()
    assert str(error_of(begin(client, at(upstream.url, 0.5), "x"))) == "no whole response within 0.5 s"
    assert 0.4 < time.monotonic() - start < 3
    assert (counts(client._abandoned), client.in_flight) == ({"": 1}, 0)


@pytest.mark.parametrize("size", [2, 100_000])
def test_internal_error_of_a_reader(upstream: Upstream, client: Client, size: int) -> None:
    upstream.answers["/x"] = (200, b"x" * size)
    error = error_of(begin(client, at(upstream.url), "x", lambda response: 1 // (response.status_code - 200)))
    assert isinstance(error, ZeroDivisionError)
    assert value_of(begin(client, at(upstream.url), "x")) == (200, b"x" * size)


def test_old_responses_are_removed(upstream: Upstream, client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module, "KEPT", 10)
    client._most = 10
    upstream.answers.update({f"/{number}": (200, b"x") for number in range(50)})
    short, long = (at(upstream.url, interval=seconds) for seconds in (0.001, 60))
    kept = [begin(client, long, str(number)) for number in range(5)]
    for number in range(50):
        assert value_of(begin(client, short, str(number))) == (200, b"x")
        time.sleep(0.002)
        assert len(client._requests) <= 10
    assert [begin(client, long, str(number)) for number in range(5)] == kept


def test_file_that_hangs_delays_its_own_request_alone(upstream: Upstream, client: Client) -> None:
    """Such as a file on a file server that does not respond: its reader cannot be woken."""
    release, reading = threading.Event(), threading.Event()

    class Hanging(HeaderLines):
        def __call__(self, request: PreparedRequest) -> PreparedRequest:
            reading.set()
            release.wait(10)
            return request

    upstream.answers.update({"/x": (200, b"x"), "/y": (200, b"y")})
    hung = at(upstream.url, auth=Credentials((Hanging(lines=None),)))  # type: ignore[arg-type]
    reader = threading.Thread(target=begin, args=(client, hung, "x"))
    reader.start()
    assert reading.wait(5)
    joined = begin(client, hung, "x")
    assert value_of(begin(client, at(upstream.url), "y")) == (200, b"y")
    assert not joined.done()
    release.set()
    reader.join(5)
    assert value_of(joined) == (200, b"x")


def test_limit_of_one_host(upstream: Upstream, client: Client) -> None:
    """Paths of one host share its limit; requests count until they end, also after the caller has given up."""
    upstream.answers.update({f"/{number}": (200, b"x") for number in range(client_module.PER_HOST + 1)})
    release = upstream.hold(*upstream.answers)
    futures = [begin(client, at(upstream.url), str(number)) for number in range(client_module.PER_HOST)]
    refused = begin(client, at(upstream.url, 1), "0")
    host = upstream.url.removeprefix("http://")
    error = error_of(refused)
    assert isinstance(error, TooManyRequests)
    assert str(error) == f"20 requests to {host} are in flight, the limit of one host"
    assert begin(client, at(upstream.url), "3") is futures[3]
    assert (client.in_flight, counts(client._refused)) == (20, {"host": 1, "total": 0})
    release.set()
    assert [value_of(future) for future in futures] == [(200, b"x")] * 20
    assert value_of(begin(client, at(upstream.url), str(client_module.PER_HOST))) == (200, b"x")
    assert (client.in_flight, client._hosts) == (0, {})


def test_limit_of_the_process(upstream: Upstream, client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module, "TOTAL", 1)
    upstream.answers["/x"] = (200, b"x")
    release = upstream.hold("/x")
    first = begin(client, at(upstream.url), "x")
    assert (
        str(error_of(begin(client, at("http://127.0.0.1:1"), "x")))
        == "1 requests are in flight, the limit of this process"
    )
    assert counts(client._refused) == {"host": 0, "total": 1}
    release.set()
    assert value_of(first) == (200, b"x")
