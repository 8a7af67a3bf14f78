"""The credentials of a module, put together the same way from environment variables and from the modules file."""

import ssl
from collections.abc import Iterable

from exporter.upstream.target import Credentials, Header, Login


class DuplicateHeader(ValueError):
    """Two settings of a module set the same header, whose name is the message."""


def credentials(parts: Iterable[Header | Login]) -> Credentials:
    """Returns the credentials with these parts; raises DuplicateHeader."""
    parts = tuple(parts)
    names: set[str] = set()
    for part in parts:
        name = part.name if isinstance(part, Header) else "Authorization"
        if name.lower() in names:
            raise DuplicateHeader(name)
        names.add(name.lower())
    return Credentials(parts)


def client_certificate(cert_file: str, key_file: str) -> str | tuple[str, str] | None:
    """Returns the files of a client certificate in the form of requests, None without one.

    Raises OSError unless they hold a certificate and its private key without a passphrase. One file can hold both.
    """
    if not cert_file:
        return None
    # Without a password OpenSSL would ask for one on the terminal.
    ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_cert_chain(cert_file, key_file or None, password=lambda: b"")
    return (cert_file, key_file) if key_file else cert_file
