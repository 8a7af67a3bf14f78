"""Requests that nobody sends who means well, to a real gunicorn: each is refused in one plain sentence or answered."""

import json
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import Upstream
from tests.live.processes import MODULE, ROOT, Served, free_port, recorded, serving

TELLS_MORE = ": the log of the exporter has the reason\n"
END = b"Host: h\r\nConnection: close\r\n\r\n"


@pytest.fixture
def exporter(upstream: Upstream, tmp_path: Path) -> Iterator[Served]:
    with free_port() as port:
        line = (*MODULE, "--port", str(port), "--patroni-url", recorded(upstream).url, "--log.level", "debug")
        with serving(tmp_path, port, line) as served:
            yield served


def say(exporter: Served, request: bytes) -> list[tuple[str, dict[str, str], str]]:
    """Sends these bytes; returns the status, the headers and the body of each answer until the server hangs up."""
    with socket.create_connection(("127.0.0.1", exporter.port), 10) as connection:
        connection.sendall(request)
        connection.shutdown(socket.SHUT_WR)
        rest = b"".join(iter(lambda: connection.recv(65536), b""))
    answers = []
    while rest:
        head, _, rest = rest.partition(b"\r\n\r\n")
        status, *lines = head.decode("latin-1").split("\r\n")
        headers = dict(line.split(": ", 1) for line in lines)
        length = int(headers.get("Content-Length", "0"))
        answers.append((status.partition(" ")[2].split(" ", 1)[0], headers, rest[:length].decode()))
        rest = rest[length:]
    return answers


def request(target: bytes, *headers: bytes, method: bytes = b"GET") -> bytes:
    return b"".join([method, b" ", target, b" HTTP/1.1\r\n", *(header + b"\r\n" for header in headers), END])


UP = b"/metrics?name[]=patroni_up"
TIMEOUT = b"X-Prometheus-Scrape-Timeout-Seconds: "

REFUSED = {
    "no HTTP": (b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n", 400, f"bad request{TELLS_MORE}"),
    "HTTP/0.9": (b"GET /\r\n\r\n", 400, f"bad request{TELLS_MORE}"),
    "a terminal's commands": (request(b"/\x1b[2J<script>"), 400, f"bad request{TELLS_MORE}"),
    "a method in small letters": (request(b"/<script>", method=b"get"), 400, f"bad request{TELLS_MORE}"),
    "a query in no encoding": (request(b"/metrics?a=<script>\xff"), 400, f"bad request{TELLS_MORE}"),
    "a header without a name": (request(UP, b"<script> a: b"), 400, f"bad request{TELLS_MORE}"),
    "two hosts": (request(UP, b"Host: evil"), 400, f"bad request{TELLS_MORE}"),
    "less than no body": (request(UP, b"Content-Length: -1"), 400, f"bad request{TELLS_MORE}"),
    "a header of 9 kB": (request(UP, TIMEOUT + b"9" * 9000), 431, f"request header fields too large{TELLS_MORE}"),
    "200 headers": (request(UP, *[b"A: b"] * 200), 431, f"request header fields too large{TELLS_MORE}"),
    "a query of 9 kB": (request(b"/metrics?" + b"x" * 9000), 414, f"uri too long{TELLS_MORE}"),
    "a query of 8 kB": (
        request(b"/metrics?" + b"x" * 8000),
        400,
        "the path and its query are longer than 8000 characters\n",
    ),
    "all paths": (request(b"*", method=b"OPTIONS"), 400, "the path does not begin with /\n"),
    "a proxy's method": (request(b"evil:80", method=b"CONNECT"), 400, "the path does not begin with /\n"),
    "a body that never comes": (
        request(b"/metrics", b"Content-Length: 99999999999", method=b"POST"),
        405,
        "this endpoint does not support this method\n",
    ),
}


@pytest.mark.parametrize("name", list(REFUSED))
def test_odd_request_is_refused_in_one_plain_sentence(exporter: Served, name: str) -> None:
    sent, status, sentence = REFUSED[name]
    ((told, headers, body),) = say(exporter, sent)
    assert (told, headers["Content-Type"], body) == (str(status), "text/plain; charset=utf-8", sentence)
    assert [event for event in exporter.events() if event["level"] == "ERROR"] == []


ANSWERED = {
    "HTTP/1.0 without a host": b"GET " + UP + b" HTTP/1.0\r\n\r\n",
    "no host": b"GET " + UP + b" HTTP/1.1\r\nConnection: close\r\n\r\n",
    "a host that is a script": b"GET " + UP + b" HTTP/1.1\r\nHost: <script>\r\nConnection: close\r\n\r\n",
    "a whole URL": request(b"http://evil" + UP),
    "a body": request(UP, b"Content-Length: 5") + b"hello",
    "two timeouts": request(UP, TIMEOUT + b"1", TIMEOUT + b"2"),
    "an enormous timeout": request(UP, TIMEOUT + b"9" * 7000),
    "a timeout that is none": request(UP, TIMEOUT + b"\xff"),
}
ACCEPTED = (
    b"", b";;,,==;q=;version", b"\xff\xfe", b"text/plain; version=", b"text/plain; version=1.0",
    b"application/openmetrics-text; version=abc", b"application/openmetrics-text; version=1.0.0.a",
    b"application/openmetrics-text; version=\xff", b"application/openmetrics-text; version=1.0.0; version=a",
    b'application/openmetrics-text; version="1.0.0"', b"application/openmetrics-text;version= 1.0.0",
    b"application/openmetrics-text; version=0.0.1,application/openmetrics-text; version=x",
)  # fmt: skip
ANSWERED |= {f"Accept: {text!r}": request(UP, b"Accept: " + text) for text in ACCEPTED}


def test_request_that_is_only_unusual_is_answered(exporter: Served) -> None:
    for name, sent in ANSWERED.items():
        ((status, headers, body),) = say(exporter, sent)
        assert (name, status, body.splitlines()[-1]) == (name, "200", "patroni_up 1.0")
        assert headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert {event["level"] for event in exporter.events()} == {"DEBUG", "INFO"}


def test_body_of_one_request_is_not_the_next_request(exporter: Served) -> None:
    smuggled = b"GET /health HTTP/1.1\r\nHost: h\r\n\r\n"
    length = b"Content-Length: %d\r\n\r\n%b" % (len(smuggled), smuggled)
    chunked = b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (len(smuggled), smuggled)
    for body in (length, chunked):
        sent = b"GET /-/ready HTTP/1.1\r\nHost: h\r\n" + body + request(b"/-/healthy")
        ((status, headers, text),) = say(exporter, sent)
        assert (status, headers["Connection"], text) == ("200", "close", "OK\n")


def test_no_answer_tells_the_version_of_a_server_or_what_was_asked(exporter: Served) -> None:
    for sent in (request(b"/<x>?<x>"), request(b"/metrics?name[]=<x>"), request(b"/", b"X: <x>"), request(b"<x>")):
        for _, headers, body in say(exporter, sent):
            assert headers.get("Server") in (None, "gunicorn")
            assert "<x>" not in f"{headers}{body}"


def test_line_of_the_log_is_one_line_whatever_was_asked(exporter: Served) -> None:
    say(exporter, request(b"/%0alevel=ERROR%1b[2J%e2%80%a8?a%0a=s3cret&b"))
    say(exporter, request(b"/metrics", b"X-Prometheus-Scrape-Timeout-Seconds: 1\x85level=ERROR"))
    exporter.end()
    told = [event for event in exporter.events("exporter.web") if event["msg"] == "request"]
    seconds = [event.pop("seconds") for event in told]
    assert all(0 < float(json.loads(number)) < 10 for number in seconds)
    assert {key: told[0][key] for key in ("level", "method", "path", "status", "bytes")} == {
        "level": "DEBUG",
        "method": "GET",
        "path": "/\nlevel=ERROR\x1b[2J\u2028?a%0a&b",
        "status": "400",
        "bytes": "63",
    }
    assert "s3cret" not in exporter.log.read_text()
    assert {event["level"] for event in exporter.events()} == {"DEBUG", "INFO"}


def test_fault_of_ours_is_one_sentence_to_who_asked_and_one_event_in_the_log(
    upstream: Upstream, tmp_path: Path
) -> None:
    (tmp_path / "faulty.py").write_text(
        "from exporter import create_app\napp = create_app()\napp.add_url_rule('/fault', view_func=lambda: 1 / 0)\n"
    )
    gunicorn = (MODULE[0], "-m", "gunicorn", "-c", str(ROOT / "gunicorn.conf.py"), "faulty:app")
    with free_port() as port:
        environ = {"PATRONI_EXPORTER_PORT": str(port), "PATRONI_EXPORTER_URL": recorded(upstream).url}
        with serving(tmp_path, port, gunicorn, environ=environ) as exporter:
            assert exporter.get("/fault") == (500, "internal error: the log of the exporter has its traceback\n")
            assert exporter.up() == "1.0"
            assert exporter.end() == 0
    (told,) = exporter.events("exporter")
    assert told.pop("traceback").endswith("ZeroDivisionError: division by zero")
    assert {key: value for key, value in told.items() if key != "time"} == {
        "level": "ERROR",
        "logger": "exporter.web.middleware",
        "msg": "internal error",
        "method": "GET",
        "path": "/fault",
    }
