"""The door: what is refused in which words, what goes with every answer, and what the log tells of a request."""

import logging
from collections.abc import Iterable
from typing import Any

import pytest
from flask import Flask
from werkzeug.test import Client

from exporter import create_app
from exporter.config.settings import Settings
from exporter.web.middleware import door
from tests.conftest import Upstream
from tests.live.processes import recorded

SAFE = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}


@pytest.fixture
def app(upstream: Upstream) -> Flask:
    return create_app(Settings.load({"PATRONI_EXPORTER_URL": recorded(upstream).url}))


@pytest.fixture
def client(app: Flask) -> Client:
    return Client(app)


NOT_PRINTABLE = "the query is not printable text in UTF-8 with percent-encoding"
NO_NAME = "name[] is not the name of a metric, which has letters, digits, _ and : in it"


@pytest.mark.parametrize(
    ("url", "status", "sentence"),
    [
        ("/nothing", 404, "not found: the page at / tells what there is"),
        ("/<script>", 404, "not found: the page at / tells what there is"),
        ("/%ff%00", 404, "not found: the page at / tells what there is"),
        ("/health/", 404, "not found: the page at / tells what there is"),
        ("/metrics/x", 404, "not found: the metrics are at /metrics"),
        ("/metrics?name[]=<script>", 400, NO_NAME),
        ("/metrics?name[]=", 400, NO_NAME),
        ("/metrics?name[]=1x&name[]=patroni_up", 400, NO_NAME),
        ("/metrics?a=%zz", 400, NOT_PRINTABLE),
        ("/metrics?a=%", 400, NOT_PRINTABLE),
        ("/?%ff", 400, NOT_PRINTABLE),
        ("/?a=%00", 400, NOT_PRINTABLE),
        ("/?a=%0d%0aX-Other:%20b", 400, NOT_PRINTABLE),
        ("/health?" + "a&" * 500, 400, "the query has more than 500 parameters"),
        ("/" + "x" * 8000, 400, "the path and its query are longer than 8000 characters"),
        ("/-/ready?" + "x" * 7999, 400, "the path and its query are longer than 8000 characters"),
    ],
)
def test_what_is_not_there_or_odd_is_refused_in_one_sentence(
    client: Client, upstream: Upstream, url: str, status: int, sentence: str
) -> None:
    path, _, query = url.partition("?")
    answer = client.get(path, query_string=query)
    assert (answer.status_code, answer.text) == (status, f"{sentence}\n")
    assert answer.headers["Content-Type"] == "text/plain; charset=utf-8"
    assert {name: answer.headers[name] for name in SAFE} == SAFE
    assert upstream.paths == []


@pytest.mark.parametrize("query", ["", "a", "a=b&a=c", "name[]=up", "x=" + "%C3%BC" * 1000, "a&" * 499, "m=%3Chi%3E+x"])
def test_query_that_may_be_meant_is_answered(client: Client, query: str) -> None:
    assert [client.get(path, query_string=query).status_code for path in ("/metrics", "/-/ready")] == [200, 200]


DOORS = ("/metrics", "/health", "/-/healthy", "/-/ready", "/")


@pytest.mark.parametrize("path", DOORS)
@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "TRACE", "CONNECT", "NONSENSE"])
def test_other_methods_are_405_with_those_that_there_are(
    client: Client, upstream: Upstream, path: str, method: str
) -> None:
    answer = client.open(path, method=method, data=b"body")
    assert (answer.status_code, answer.text) == (405, "this path does not answer to this method\n")
    assert (answer.headers["Content-Type"], allowed(answer)) == ("text/plain; charset=utf-8", METHODS)
    assert upstream.paths == []


METHODS = {"GET", "HEAD", "OPTIONS"}


def allowed(answer: Any) -> set[str]:
    return set(answer.headers["Allow"].split(", "))


@pytest.mark.parametrize("path", DOORS)
def test_head_is_get_without_its_body_and_options_names_the_methods(client: Client, path: str) -> None:
    get, head, options = (client.open(path, method=method) for method in ("GET", "HEAD", "OPTIONS"))
    assert (head.status_code, head.data, set(head.headers.keys())) == (200, b"", set(get.headers.keys()))
    assert head.content_type == get.content_type
    assert (options.status_code, options.data, allowed(options)) == (200, b"", METHODS)


@pytest.mark.parametrize("path", DOORS)
def test_every_answer_is_for_this_moment_and_is_what_it_says(client: Client, path: str) -> None:
    headers = client.get(path).headers
    assert {name: headers[name] for name in SAFE} == SAFE


def test_no_answer_leads_to_the_host_that_the_client_names(client: Client) -> None:
    for path in (*DOORS, "//", "//health", "/health/", "/nothing", "*", "evil/x"):
        environ = {"PATH_INFO": path, "HTTP_HOST": "evil.example"}
        for method in ("GET", "OPTIONS"):
            answer = client.open(path, method=method, environ_overrides=environ)
            assert "evil" not in f"{answer.headers} {answer.text}"
            assert answer.status_code in (200, 400, 404)


def test_fault_of_ours_is_one_sentence_and_one_event_with_its_traceback(
    app: Flask, caplog: pytest.LogCaptureFixture
) -> None:
    def fault() -> str:
        raise ZeroDivisionError("s3cret")

    app.add_url_rule("/fault", view_func=fault)
    answer = Client(app).get("/fault?a=b")
    assert (answer.status_code, answer.text) == (500, "internal error: the log of the exporter tells more\n")
    assert {name: answer.headers[name] for name in SAFE} == SAFE
    (record,) = caplog.records
    assert (record.levelname, record.getMessage()) == ("ERROR", "GET /fault?a: a fault of the exporter")
    assert record.exc_info
    assert record.exc_info[0] is ZeroDivisionError


def test_fault_in_the_middle_of_an_answer_is_a_500_too(caplog: pytest.LogCaptureFixture) -> None:
    def app(_: Any, start_response: Any) -> Iterable[bytes]:
        start_response("200 OK", [])
        yield b"half"
        raise ZeroDivisionError

    answer = Client(door(app)).get("/")
    assert (answer.status_code, answer.text) == (500, "internal error: the log of the exporter tells more\n")
    assert len(caplog.records) == 1


def test_headers_of_the_application_stand() -> None:
    def app(_: Any, start_response: Any) -> Iterable[bytes]:
        start_response("200 OK", [("Content-Type", "text/html"), ("Cache-Control", "max-age=1"), ("X-Other", "a")])
        return [b"page"]

    headers = Client(door(app)).get("/").headers
    assert (headers["Cache-Control"], headers["X-Other"]) == ("max-age=1", "a")
    assert headers["Content-Security-Policy"].startswith("default-src 'none'")


def test_request_is_a_line_at_debug_level_without_the_values_of_its_query(
    client: Client, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "exporter")
    client.get("/-/ready")
    assert caplog.records == []
    caplog.set_level(logging.DEBUG, "exporter")
    client.get("/-/ready", query_string="a=s3cret&b")
    client.post(environ_overrides={"SCRIPT_NAME": "/below", "PATH_INFO": "/x\xc3\xbc\n\xff"})
    client.head("/-/ready")
    told = [dict(record.__dict__["known"]) for record in caplog.records]
    assert all(0 < event.pop("seconds") < 5 for event in told)
    assert told == [
        {"msg": "request", "method": "GET", "path": "/-/ready?a&b", "status": 200, "bytes": 3},
        {"msg": "request", "method": "POST", "path": "/below/x\xfc\n\ufffd", "status": 404, "bytes": 45},
        {"msg": "request", "method": "HEAD", "path": "/-/ready", "status": 200, "bytes": 0},
    ]
    assert caplog.messages[0] == "GET /-/ready?a&b: 200"
