"""Malformed and unusual requests to a real gunicorn: each is rejected with one plain sentence, or served."""

import socket
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import Upstream
from tests.live.processes import Served, recorded, running_exporter
from tests.web_config import web_config

TELLS_MORE = ": the log of the exporter has the reason\n"
END = b"Host: h\r\nConnection: close\r\n\r\n"


@pytest.fixture(scope="module")
def exporter(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with Upstream() as upstream:
        arguments = ("--patroni-url", recorded(upstream).url, "--log.level", "debug")
        with running_exporter(tmp_path_factory.mktemp("requests"), *arguments) as served:
            yield served


def say(exporter: Served, request: bytes) -> list[tuple[str, dict[str, str], str]]:
    """Sends these bytes; returns the status, the headers and the body of each response."""
    with socket.create_connection(("127.0.0.1", exporter.port), 10) as connection:
        connection.sendall(request)
        connection.shutdown(socket.SHUT_WR)
        rest = b"".join(iter(lambda: connection.recv(65536), b""))
    responses = []
    while rest:
        head, _, rest = rest.partition(b"\r\n\r\n")
        status, *lines = head.decode("latin-1").split("\r\n")
        headers = dict(line.split(": ", 1) for line in lines)
        length = int(headers.get("Content-Length", "0"))
        responses.append((status.partition(" ")[2].split(" ", 1)[0], headers, rest[:length].decode()))
        rest = rest[length:]
    return responses


def request(target: bytes, *headers: bytes, method: bytes = b"GET") -> bytes:
    return b"".join([method, b" ", target, b" HTTP/1.1\r\n", *(header + b"\r\n" for header in headers), END])


def levels(exporter: Served) -> Counter[str]:
    """The number of log lines of each level."""
    return Counter(event["level"] for event in exporter.events())


UP = b"/metrics?name[]=patroni_up"
TIMEOUT = b"X-Prometheus-Scrape-Timeout-Seconds: "

BAD = f"bad request{TELLS_MORE}"
TOO_LARGE = f"request header fields too large{TELLS_MORE}"


@pytest.mark.parametrize(
    ("sent", "status", "sentence"),
    [
        (b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n", 400, BAD),
        (b"GET /\r\n\r\n", 400, BAD),
        (request(b"/\x1b[2J<script>"), 400, BAD),
        (request(b"/<script>", method=b"get"), 400, BAD),
        (request(b"/metrics?a=<script>\xff"), 400, BAD),
        (request(UP, b"<script> a: b"), 400, BAD),
        (request(UP, b"Host: evil"), 400, BAD),
        (request(UP, b"Content-Length: -1"), 400, BAD),
        (request(UP, TIMEOUT + b"9" * 9000), 431, TOO_LARGE),
        (request(UP, *[b"A: b"] * 200), 431, TOO_LARGE),
        (request(b"/metrics?" + b"x" * 9000), 414, f"uri too long{TELLS_MORE}"),
        (request(b"/metrics?" + b"x" * 8000), 400, "the path and its query are longer than 8000 characters\n"),
        (request(b"*", method=b"OPTIONS"), 400, "the path does not begin with /\n"),
        (request(b"evil:80", method=b"CONNECT"), 400, "the path does not begin with /\n"),
        (
            request(b"/metrics", b"Content-Length: 99999999999", method=b"POST"),
            405,
            "this endpoint does not support this method\n",
        ),
    ],
    ids=[
        *("TLS", "HTTP/0.9", "control character", "lower-case method", "query that is not ASCII"),
        *("header name with a space", "two hosts", "negative length", "long header", "many headers", "long URL"),
        *("long query", "OPTIONS *", "CONNECT", "long body"),
    ],
)
def test_rejected_request(exporter: Served, sent: bytes, status: int, sentence: str) -> None:
    ((code, headers, body),) = say(exporter, sent)
    assert (code, headers["Content-Type"], body) == (str(status), "text/plain; charset=utf-8", sentence)
    assert "<script>" not in str(headers)
    assert headers.get("Server") in (None, "gunicorn")
    assert "ERROR" not in levels(exporter)


UNUSUAL = {
    "HTTP/1.0 without a host": b"GET " + UP + b" HTTP/1.0\r\n\r\n",
    "no host": b"GET " + UP + b" HTTP/1.1\r\nConnection: close\r\n\r\n",
    "a host that is a script": b"GET " + UP + b" HTTP/1.1\r\nHost: <script>\r\nConnection: close\r\n\r\n",
    "a whole URL": request(b"http://evil" + UP),
    "a body": request(UP, b"Content-Length: 5") + b"hello",
    "two timeouts": request(UP, TIMEOUT + b"1", TIMEOUT + b"2"),
    "an enormous timeout": request(UP, TIMEOUT + b"9" * 7000),
    "a timeout that is not a number": request(UP, TIMEOUT + b"\xff"),
}


@pytest.mark.parametrize("name", list(UNUSUAL))
def test_unusual_request(exporter: Served, name: str) -> None:
    before = levels(exporter)["WARN"]
    ((status, headers, body),) = say(exporter, UNUSUAL[name])
    assert (status, body.splitlines()[-1]) == ("200", "patroni_up 1.0")
    assert headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert (levels(exporter)["WARN"], "ERROR" in levels(exporter)) == (before, False)


def test_body_of_one_request_is_not_the_next_request(exporter: Served) -> None:
    smuggled = b"GET /health HTTP/1.1\r\nHost: h\r\n\r\n"
    length = b"Content-Length: %d\r\n\r\n%b" % (len(smuggled), smuggled)
    chunked = b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (len(smuggled), smuggled)
    for body in (length, chunked):
        sent = b"GET /-/ready HTTP/1.1\r\nHost: h\r\n" + body + request(b"/-/healthy")
        ((status, headers, text),) = say(exporter, sent)
        assert (status, headers["Connection"], text) == ("200", "close", "OK\n")


def test_headers_of_the_web_configuration(tmp_path: Path) -> None:
    """They are also in the response of gunicorn to a request that it cannot parse, and change with the file."""
    text = "http_server_config: {headers: {X-Frame-Options: %s}}\n"
    with running_exporter(tmp_path, "--web.config.file", web_config(tmp_path, text % "deny")) as served:
        for value in ("deny", "sameorigin"):
            web_config(tmp_path, text % value)
            for sent, expected in ((b"GET /\r\n\r\n", "400"), (request(b"/?%"), "400"), (request(b"/x"), "404")):
                ((status, headers, _),) = say(served, sent)
                assert (status, headers["X-Frame-Options"]) == (expected, value)
