"""A fake Staytus: an HTTP server that replays recorded responses of a real Staytus 1.3.1.

with Staytus() as staytus:
    requests.get(staytus.url + "api/v1/services/all", headers=staytus.headers)
"""

from __future__ import annotations

import contextlib
import http.server
import re
import socket
import threading
from pathlib import Path
from typing import Any, Self

from demo import DemoError

RECORDED = Path(__file__).parent / "recorded"
ACTION = re.compile(r"/api/v[^/]+/(services|issues)/all(/.*)?")
NOT_FOUND = b"<!DOCTYPE html>\n<html><head><title>Not found</title></head><body><h1>Not found</h1></body></html>\n"


class _RequestHandler(http.server.BaseHTTPRequestHandler):
    """Responds to the requests of one connection."""

    protocol_version = "HTTP/1.1"
    server_version = "staytus-stand-in"
    timeout = 20  # Staytus closes an idle connection after the same time
    wbufsize = -1  # headers and body in one packet
    disable_nagle_algorithm = True
    server: _Server

    def do_GET(self) -> None:
        """Respond to GET; HEAD and POST use this too.

        The path is from the request line: http.server replaces two leading slashes by one in `self.path`.
        """
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        path = self.requestline.split()[1].partition("?")[0]
        if not path.startswith("/api/"):
            self._send(404, "text/html; charset=UTF-8", NOT_FOUND)
        elif not (action := ACTION.fullmatch(path)):  # before authentication, as in Staytus
            self._send(400, "application/json", (RECORDED / "unknown_action.json").read_bytes())
        elif not self._authenticated():
            self._send(200, "application/json", (RECORDED / "access_denied.json").read_bytes())
        else:
            self._send(200, "application/json", (RECORDED / f"{action[1]}_all.json").read_bytes())

    def do_HEAD(self) -> None:
        """Respond like GET; `_send` omits the body."""
        self.do_GET()

    def do_POST(self) -> None:
        """Respond like GET; parameters are ignored."""
        self.do_GET()

    def _authenticated(self) -> bool:
        """Compare the credentials case-insensitively, as the database of Staytus does."""
        given = (self.headers.get("X-Auth-Token", ""), self.headers.get("X-Auth-Secret", ""))
        return tuple(value.lower() for value in given) == (self.server.token.lower(), self.server.secret.lower())

    def _send(self, status: int, kind: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Cache-Control", "max-age=0, private, must-revalidate" if status == 200 else "no-cache")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Do not log requests."""


class _Server(http.server.ThreadingHTTPServer):
    """Tracks its open connections, so that `close_all` closes idle ones too."""

    def __init__(self, port: int, token: str, secret: str) -> None:
        super().__init__(("127.0.0.1", port), _RequestHandler)
        self.token, self.secret = token, secret
        self._open: set[socket.socket] = set()

    def process_request(self, request: Any, client_address: Any) -> None:
        self._open.add(request)
        super().process_request(request, client_address)

    def close_request(self, request: Any) -> None:
        self._open.discard(request)
        super().close_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Ignore clients that disconnect."""

    def close_all(self) -> None:
        """Stop listening and close all connections."""
        self.server_close()
        for connection in list(self._open):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)


class Staytus:
    """The fake server, from `start` to `stop`, or in a `with` block."""

    def __init__(self, port: int = 0, token: str = "demo-token", secret: str = "demo-secret") -> None:
        """Set the port, 0 for any free one, and the valid credentials."""
        self.port, self.token, self.secret = port, token, secret
        self._server: _Server | None = None

    def __enter__(self) -> Self:
        """Start the server."""
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop the server."""
        self.stop()

    @property
    def url(self) -> str:
        """The value for STAYTUS_API_URL."""
        return f"http://127.0.0.1:{self.port}/"

    @property
    def headers(self) -> dict[str, str]:
        """The headers with the credentials."""
        return {"X-Auth-Token": self.token, "X-Auth-Secret": self.secret}

    def start(self) -> None:
        """Serve in a background thread; `port` is set to the port in use."""
        try:
            self._server = _Server(self.port, self.token, self.secret)
        except OSError as error:
            raise DemoError(f"port {self.port} of the fake Staytus: {error.strerror}") from None
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def stop(self) -> None:
        """Stop listening and close all connections; does nothing if not running."""
        if self._server is not None:
            self._server.shutdown()
            self._server.close_all()
            self._server = None
