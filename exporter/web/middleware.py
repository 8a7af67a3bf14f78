"""The door that all come through: odd requests are refused, faults of ours and refusals say one plain sentence, every
answer gets its headers and, at debug level, its line in the log.
"""

import logging
import re
import time
from typing import TYPE_CHECKING
from urllib.parse import unquote_to_bytes

from werkzeug.exceptions import BadRequest, HTTPException, InternalServerError
from werkzeug.wrappers import Response

from exporter.log import known

if TYPE_CHECKING:
    from collections.abc import Iterable

    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

log = logging.getLogger(__name__)

#: Characters of a path with its query, as they come over the wire, and the parameters of a query.
LONGEST = 8000
MOST = 500

#: What is said where nobody said more.
SENTENCES = {
    404: "not found: the page at / tells what there is",
    405: "this path does not answer to this method",
    500: "internal error: the log of the exporter tells more",
}

#: What goes with every answer that does not say it otherwise, and with pages.
HEADERS = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}
PAGE_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
}


def door(app: "WSGIApplication") -> "WSGIApplication":
    """Returns the application with this door before it; what it answers is held as a whole."""

    def wsgi(environ: "WSGIEnvironment", start_response: "StartResponse") -> "Iterable[bytes]":
        start = time.monotonic()
        try:
            check(environ)
            response = Response.from_app(app, environ, buffered=True)
        except HTTPException as error:
            response = refusal(error)
        except Exception:
            method, path = environ["REQUEST_METHOD"], _path(environ)
            told = known("fault of the exporter", method=method, path=path)
            log.exception("%s %s: a fault of the exporter", method, path, extra=told)
            response = refusal(InternalServerError())
        headers = HEADERS | PAGE_HEADERS if response.mimetype == "text/html" else HEADERS
        for name, value in headers.items():
            response.headers.setdefault(name, value)
        if log.isEnabledFor(logging.DEBUG):
            _tell(environ, response, time.monotonic() - start)
        return response(environ, start_response)

    return wsgi


def check(environ: "WSGIEnvironment") -> None:
    """Raises BadRequest for a path or a query that nobody sends who means well."""
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


def refusal(error: HTTPException) -> Response:
    """Returns an error as one plain sentence, its own or the one for its status, in place of werkzeug's page."""
    is_own = error.description and error.description != type(error).description
    sentence = error.description if is_own else SENTENCES.get(error.code or 500, error.name.lower())
    headers = [(name, value) for name, value in error.get_headers() if name != "Content-Type"]
    return Response(f"{' '.join(str(sentence).split())}\n", error.code, headers, mimetype="text/plain")


def _path(environ: "WSGIEnvironment") -> str:
    """Returns the path with the names of the query's parameters, since their values can be anything."""
    path = environ.get("SCRIPT_NAME", "") + environ.get("PATH_INFO", "")
    names = [word.partition("=")[0] for word in environ.get("QUERY_STRING", "").split("&")]
    return str((path + "?" + "&".join(names)).rstrip("?").encode("latin-1", "replace").decode(errors="replace"))


def _tell(environ: "WSGIEnvironment", response: Response, seconds: float) -> None:
    method, path, status = environ["REQUEST_METHOD"], _path(environ), response.status_code
    size = 0 if method == "HEAD" else sum(map(len, response.response))
    told = known("request", method=method, path=path, status=status, seconds=round(seconds, 6), bytes=size)
    log.debug("%s %s: %s", method, path, status, extra=told)
