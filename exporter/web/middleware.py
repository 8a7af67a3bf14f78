"""The middleware around all endpoints: malformed requests, error responses, response headers and the request log."""

import logging
import re
import time
from collections.abc import Callable, Iterable
from urllib.parse import unquote_to_bytes
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from werkzeug.exceptions import BadRequest, HTTPException, InternalServerError, MethodNotAllowed, NotFound
from werkzeug.test import run_wsgi_app
from werkzeug.wrappers import Response

from exporter.log import Event
from exporter.upstream.headers import Headers

log = logging.getLogger(__name__)

METHODS = ("GET", "HEAD", "OPTIONS")

#: Characters of a path with its query, as sent, and parameters of a query.
LONGEST = 8000
MOST = 500

#: The texts of errors that have no text of their own.
SENTENCES = {
    404: "not found: the page at / lists the endpoints",
    405: "this endpoint does not support this method",
    500: "internal error: the log of the exporter has its traceback",
}

#: The headers of every response that does not set them itself, and those of pages.
HEADERS = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}
PAGE_HEADERS = HEADERS | {
    "Content-Security-Policy": "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
}


def middleware(app: WSGIApplication, headers: Callable[[], Headers] = tuple) -> WSGIApplication:
    """Returns the application with this middleware around it; its responses are buffered.

    `headers` replace those of a response that have the same names.
    """

    def wsgi(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        start = time.monotonic()
        try:
            reject_malformed(environ)
            body, status, fields = run_wsgi_app(app, environ, buffered=True)
        except HTTPException as error:
            body, status, fields = run_wsgi_app(error_response(error), environ, buffered=True)
        except Exception:
            log.exception(Event("internal error", method=environ["REQUEST_METHOD"], path=_path(environ)))
            body, status, fields = run_wsgi_app(error_response(InternalServerError()), environ, buffered=True)
        content = b"".join(body)
        fields.setdefault("Content-Length", str(len(content)))
        is_page = fields.get("Content-Type", "").startswith("text/html")
        for name, value in (PAGE_HEADERS if is_page else HEADERS).items():
            fields.setdefault(name, value)
        for name, value in headers():
            fields[name] = value
        if environ["REQUEST_METHOD"] == "HEAD":
            content = b""
        if log.isEnabledFor(logging.DEBUG):
            method, path, code = environ["REQUEST_METHOD"], _path(environ), int(status.split(" ")[0])
            seconds = round(time.monotonic() - start, 6)
            log.debug(Event("request", method=method, path=path, status=code, seconds=seconds, bytes=len(content)))
        start_response(status, fields.to_wsgi_list())
        return [content]

    return wsgi


def reject_malformed(environ: WSGIEnvironment) -> None:
    """Raises BadRequest for a path or a query that is malformed or too long."""
    path, query = environ.get("PATH_INFO", ""), environ.get("QUERY_STRING", "")
    if path and not path.startswith("/"):
        raise BadRequest("the path does not begin with /")  # Flask would redirect to the host that the client names
    if len(path) + len(query) > LONGEST:
        raise BadRequest(f"the path and its query are longer than {LONGEST} characters")
    if query.count("&") >= MOST:
        raise BadRequest(f"the query has more than {MOST} parameters")
    try:
        text = unquote_to_bytes(query.encode("latin-1")).decode()
    except UnicodeError:
        text = "\n"
    if not text.isprintable() or re.search("%(?![0-9A-Fa-f]{2})", query):
        raise BadRequest("the query is not printable text in UTF-8 with percent-encoding")


def endpoint(app: WSGIApplication) -> WSGIApplication:
    """Returns the application for GET and HEAD of the path at which it is mounted; OPTIONS and errors are handled."""

    def wsgi(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        if environ.get("PATH_INFO", "") not in ("", "/"):
            raise NotFound
        if environ["REQUEST_METHOD"] not in METHODS:
            raise MethodNotAllowed(METHODS)
        if environ["REQUEST_METHOD"] == "OPTIONS":
            return Response(headers={"Allow": ", ".join(METHODS)}, mimetype="text/plain")(environ, start_response)
        return app(environ, start_response)

    return wsgi


def error_response(error: HTTPException) -> Response:
    """Returns an error as one line of text, in place of werkzeug's page."""
    is_own = error.description and error.description != type(error).description
    sentence = error.description if is_own else SENTENCES.get(error.code or 500, error.name.lower())
    headers = [(name, value) for name, value in error.get_headers() if name != "Content-Type"]
    return Response(f"{' '.join(str(sentence).split())}\n", error.code, headers, mimetype="text/plain")


def _path(environ: WSGIEnvironment) -> str:
    """Returns the path with the names of the query's parameters, without their values."""
    path = environ.get("SCRIPT_NAME", "") + environ.get("PATH_INFO", "")
    names = [word.partition("=")[0] for word in environ.get("QUERY_STRING", "").split("&")]
    return str((path + "?" + "&".join(names)).rstrip("?").encode("latin-1", "replace").decode(errors="replace"))
