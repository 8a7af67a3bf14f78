"""An upstream with TLS that can change while it runs."""

import contextlib
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.certificates import Files
from tests.conftest import Upstream
from tests.limits.scrapes import STAYTUS
from tests.live.processes import recorded


def both(reason: str | None) -> dict[str, str | None]:
    """The same reason for both modules."""
    return {"patroni": reason, "staytus": reason}


class TLSUpstream(Upstream):
    """An upstream that keeps connections open.

    `context` applies to new connections. `names` has the name of each connection (SNI), `clients` the serial number of
    its client certificate in hexadecimal. A server that requires a client certificate `lingers` until a rejected client
    has closed the connection, so that the client receives the alert.
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
        """Does the handshake in the thread of the connection."""
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
            certificate = connection.getpeercert()
            self.clients.append(str(certificate["serialNumber"]) if certificate else None)
            super().finish_request(connection, client_address)
        return None

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Many tests end connections."""


def _drain(connection: ssl.SSLSocket) -> None:
    """Reads until the client closes."""
    connection.settimeout(5)
    with contextlib.suppress(OSError):
        socket.socket.shutdown(connection, socket.SHUT_WR)
        while socket.socket.recv(connection, 4096):
            pass


def context(files: Files, client_ca: Path | None = None) -> ssl.SSLContext:
    """TLS with this certificate; requires a client certificate if there is an authority for them."""
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    made.load_cert_chain(*files.pair)
    if client_ca:
        made.load_verify_locations(client_ca)
        made.verify_mode = ssl.CERT_REQUIRED
    return made


@contextlib.contextmanager
def upstream_with(context: ssl.SSLContext | None) -> Iterator[TLSUpstream]:
    """A Patroni and Staytus with this TLS, or without TLS."""
    with TLSUpstream(context) as server:
        recorded(server).serve(STAYTUS)
        yield server


def serial(files: Files) -> str:
    """The serial number of the certificate, as in `clients`."""
    decoded: dict[str, Any] = ssl._ssl._test_decode_cert(str(files.cert))  # type: ignore[attr-defined]
    return str(decoded["serialNumber"])
