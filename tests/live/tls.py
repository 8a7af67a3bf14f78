"""An upstream behind TLS whose certificate and demands can change while it runs, and which knows who came."""

import contextlib
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.certificates import Files
from tests.conftest import Upstream
from tests.live.processes import recorded
from tests.recorded import staytus


class TLSUpstream(Upstream):
    """Answers as an upstream does, and keeps connections open unless `keeps` is False.

    `names` has the name that each connection asked for (SNI), `clients` the serial number of the certificate that each
    one showed, in hexadecimal. `context` holds for connections from now on. Where it asks for client certificates it
    `lingers` until a client that it refuses has closed, so that this hears why.
    """

    def __init__(self, context: ssl.SSLContext | None) -> None:
        super().__init__()
        self.context = context
        self.url = f"http{'s' * (context is not None)}://localhost:{self.server_port}"
        self.lingers = context is not None and context.verify_mode == ssl.CERT_REQUIRED
        self.names: list[str | None] = []
        self.clients: list[str | None] = []

        class Handler(self.RequestHandlerClass):  # type: ignore[name-defined,misc]
            protocol_version = "HTTP/1.1"

        self.RequestHandlerClass = Handler

    def finish_request(self, request: Any, client_address: Any) -> None:
        """Does the handshake in the thread of the connection, then answers."""
        if self.context is None:
            return super().finish_request(request, client_address)
        self.context.sni_callback = lambda _, name, __: self.names.append(name)
        connection = self.context.wrap_socket(request, server_side=True, do_handshake_on_connect=False)
        with connection, contextlib.suppress(OSError):
            try:
                connection.do_handshake()
            except ssl.SSLError:
                if self.lingers:
                    _drain(connection)
                raise
            shown = connection.getpeercert()
            self.clients.append(str(shown["serialNumber"]) if shown else None)
            super().finish_request(connection, client_address)
        return None

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that goes away is what many tests are about."""


def _drain(connection: ssl.SSLSocket) -> None:
    """Reads on until the client closes: to close before it does can take away the alert that says why."""
    connection.settimeout(5)
    with contextlib.suppress(OSError):
        socket.socket.shutdown(connection, socket.SHUT_WR)
        while socket.socket.recv(connection, 4096):
            pass


def context(files: Files, client_ca: Path | None = None) -> ssl.SSLContext:
    """TLS with this certificate, that asks for a client certificate of the authority where there is one."""
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    made.load_cert_chain(*files.pair)
    if client_ca:
        made.load_verify_locations(client_ca)
        made.verify_mode = ssl.CERT_REQUIRED
    return made


def healthy(server: TLSUpstream) -> TLSUpstream:
    """The upstream with the answers of a real Patroni and of a real Staytus."""
    recorded(server)
    server.answers["/api/v1/services/all"] = (200, staytus("services_all_ok_minor_major_maintenance").body)
    server.answers["/api/v1/issues/all"] = (200, staytus("issues_all_four_states").body)
    return server


@contextlib.contextmanager
def upstream_with(context: ssl.SSLContext | None) -> Iterator[TLSUpstream]:
    """A healthy upstream with this TLS, or with none."""
    with healthy(TLSUpstream(context)) as server:
        yield server


def serial(files: Files) -> str:
    """The serial number of the certificate, as `clients` tells it."""
    decoded: dict[str, Any] = ssl._ssl._test_decode_cert(str(files.cert))  # type: ignore[attr-defined]
    return str(decoded["serialNumber"])
