"""The middleware: malformed requests, error responses, response headers and the log of requests."""

import logging
from collections.abc import Iterable
from typing import Any

import pytest
from flask import Flask
from werkzeug.test import Client, TestResponse

from exporter.web.middleware import middleware
from tests.conftest import Upstream, logged
from tests.limits.scrapes import application
from tests.live.processes import recorded

SAFE = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}
METHODS = {"GET", "HEAD", "OPTIONS"}
ENDPOINTS = ("/metrics", "/health", "/-/healthy", "/-/ready", "/")

NOT_PRINTABLE = "the query is not printable text in UTF-8 with percent-encoding"
NO_NAME = "name[] must be the name of a metric: letters, digits, _ and :"
NOT_FOUND = "not found: the page at / lists the endpoints"
INTERNAL_ERROR = "internal error: the log of the exporter has its traceback\n"


@pytest.fixture
def app(upstream: Upstream) -> Flask:
    return application(recorded(upstream).url)


@pytest.fixture
def client(app: Flask) -> Client:
    return Client(app)


def check(response: TestResponse, status: int, text: str) -> None:
    """Asserts that it is one line of plain text, with the headers of all responses."""
    assert (response.status_code, response.text) == (status, text)
    assert response.headers["Content-Type"] == "text/plain; charset=utf-8"
    assert {name: response.headers[name] for name in SAFE} == SAFE


@pytest.mark.parametrize(
    ("url", "status", "sentence"),
    [
        *((path, 404, NOT_FOUND) for path in ("/nothing", "/<script>", "/%ff%00")),
        *((path, 404, NOT_FOUND) for path in ("/health/", "/metrics/x", "/probe/x")),
        *((f"/metrics?{query}", 400, NO_NAME) for query in ("name[]=<b>", "name[]=", "name[]=1x&name[]=patroni_up")),
        *((f"/metrics?{query}", 400, NOT_PRINTABLE) for query in ("a=%zz", "a=%")),
        *((f"/?{query}", 400, NOT_PRINTABLE) for query in ("%ff", "a=%00", "a=%0d%0aX-Other:%20b")),
        ("/health?" + "a&" * 500, 400, "the query has more than 500 parameters"),
        ("/" + "x" * 8000, 400, "the path and its query are longer than 8000 characters"),
        ("/-/ready?" + "x" * 7999, 400, "the path and its query are longer than 8000 characters"),
    ],
)
def test_rejected_request(client: Client, upstream: Upstream, url: str, status: int, sentence: str) -> None:
    path, _, query = url.partition("?")
    check(client.get(path, query_string=query), status, f"{sentence}\n")
    assert upstream.paths == []


@pytest.mark.parametrize("query", ["", "a", "a=b&a=c", "name[]=up", "x=" + "%C3%BC" * 1000, "a&" * 499, "m=%3Chi%3E+x"])
def test_unusual_query(client: Client, query: str) -> None:
    assert [client.get(path, query_string=query).status_code for path in ("/metrics", "/-/ready")] == [200, 200]


def allowed(response: TestResponse) -> set[str]:
    return set(response.headers["Allow"].split(", "))


@pytest.mark.parametrize("path", ENDPOINTS)
@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "TRACE", "CONNECT", "NONSENSE"])
def test_other_methods(client: Client, upstream: Upstream, path: str, method: str) -> None:
    response = client.open(path, method=method, data=b"body")
    check(response, 405, "this endpoint does not support this method\n")
    assert (allowed(response), upstream.paths) == (METHODS, [])


@pytest.mark.parametrize("path", ENDPOINTS)
def test_get_head_and_options(client: Client, path: str) -> None:
    get, head, options = (client.open(path, method=method) for method in ("GET", "HEAD", "OPTIONS"))
    assert {name: get.headers[name] for name in SAFE} == SAFE
    assert (head.status_code, head.data, set(head.headers.keys())) == (200, b"", set(get.headers.keys()))
    assert head.content_type == get.content_type
    assert (options.status_code, options.data, allowed(options)) == (200, b"", METHODS)


def test_no_response_names_the_host_of_the_request(client: Client) -> None:
    """A redirect to it would lead anywhere."""
    for path in (*ENDPOINTS, "//", "//health", "/health/", "/nothing", "*", "evil/x"):
        environ = {"PATH_INFO": path, "HTTP_HOST": "evil.example"}
        for method in ("GET", "OPTIONS"):
            response = client.open(path, method=method, environ_overrides=environ)
            assert "evil" not in f"{response.headers} {response.text}"
            assert response.status_code in (200, 400, 404)


def test_internal_error(app: Flask, caplog: pytest.LogCaptureFixture) -> None:
    def fail() -> str:
        raise ZeroDivisionError("s3cret")

    app.add_url_rule("/fail", view_func=fail)
    check(Client(app).get("/fail?a=b"), 500, INTERNAL_ERROR)
    assert logged(caplog) == [{"msg": "internal error", "method": "GET", "path": "/fail?a"}]
    (record,) = caplog.records
    assert record.exc_info
    assert (record.levelname, record.exc_info[0]) == ("ERROR", ZeroDivisionError)


def test_internal_error_within_a_response(caplog: pytest.LogCaptureFixture) -> None:
    def app(_: Any, start_response: Any) -> Iterable[bytes]:
        start_response("200 OK", [])
        yield b"half"
        raise ZeroDivisionError

    check(Client(middleware(app)).get("/"), 500, INTERNAL_ERROR)
    assert len(caplog.records) == 1


def test_headers_of_the_application_are_kept() -> None:
    def app(_: Any, start_response: Any) -> Iterable[bytes]:
        start_response("200 OK", [("Content-Type", "text/html"), ("Cache-Control", "max-age=1"), ("X-Other", "a")])
        return [b"page"]

    headers = Client(middleware(app)).get("/").headers
    assert (headers["Cache-Control"], headers["X-Other"]) == ("max-age=1", "a")
    assert headers["Content-Security-Policy"].startswith("default-src 'none'")


def test_log_of_requests(client: Client, caplog: pytest.LogCaptureFixture) -> None:
    """At debug level, without the values of the query."""
    caplog.set_level(logging.INFO, "exporter")
    client.get("/-/ready")
    assert caplog.records == []
    caplog.set_level(logging.DEBUG, "exporter")
    client.get("/-/ready", query_string="a=s3cret&b")
    client.post(environ_overrides={"SCRIPT_NAME": "/below", "PATH_INFO": "/x\xc3\xbc\n\xff"})
    client.head("/-/ready")
    events = logged(caplog)
    assert all(0 < float(str(event.pop("seconds"))) < 5 for event in events)
    assert events == [
        {"msg": "request", "method": "GET", "path": "/-/ready?a&b", "status": 200, "bytes": 3},
        {"msg": "request", "method": "POST", "path": "/below/x\xfc\n\ufffd", "status": 404, "bytes": 45},
        {"msg": "request", "method": "HEAD", "path": "/-/ready", "status": 200, "bytes": 0},
    ]
