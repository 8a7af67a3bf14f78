"""The TLS of the server: the section tls_server_config of the web configuration file, and its context."""

import contextlib
import ipaddress
import os
import ssl
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from exporter.upstream.headers import file_content

#: The values of client_auth_type; a certificate that is requested is always verified here.
CLIENT_AUTH_TYPES = {
    "": ssl.CERT_NONE,
    "NoClientCert": ssl.CERT_NONE,
    "RequestClientCert": ssl.CERT_NONE,
    "RequireClientCert": ssl.CERT_REQUIRED,  # the old name of the next one
    "RequireAnyClientCert": ssl.CERT_REQUIRED,
    "VerifyClientCertIfGiven": ssl.CERT_OPTIONAL,
    "RequireAndVerifyClientCert": ssl.CERT_REQUIRED,
}
_ANY = ("RequireClientCert", "RequireAnyClientCert")

#: The values of min_version and max_version; the minimum here is TLS 1.2.
VERSIONS = dict.fromkeys(("TLS10", "TLS11", "TLS12"), ssl.TLSVersion.TLSv1_2) | {"TLS13": ssl.TLSVersion.TLSv1_3}

#: The cipher suites of TLS 1.2 in Go's crypto/tls: OpenSSL's names by Go's.
CIPHER_SUITES = {
    f"TLS_{key}_WITH_{go}": f"{prefix}{openssl}"
    for key, prefix in (("ECDHE_ECDSA", "ECDHE-ECDSA-"), ("ECDHE_RSA", "ECDHE-RSA-"), ("RSA", ""))
    for go, openssl in (
        ("AES_128_CBC_SHA", "AES128-SHA"),
        ("AES_256_CBC_SHA", "AES256-SHA"),
        ("AES_128_GCM_SHA256", "AES128-GCM-SHA256"),
        ("AES_256_GCM_SHA384", "AES256-GCM-SHA384"),
        ("CHACHA20_POLY1305_SHA256", "CHACHA20-POLY1305"),
    )
    if (key, openssl) != ("RSA", "CHACHA20-POLY1305")  # does not exist
}
#: Those of TLS 1.3, which are always all on, as in Go.
CIPHER_SUITES_13 = ("TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256")

CURVES = {"CurveP256": "prime256v1", "CurveP384": "secp384r1", "CurveP521": "secp521r1", "X25519": "X25519"}


@dataclass(frozen=True)
class ServerTLS:
    """The keys of tls_server_config with their defaults. Paths are absolute; what is not set is empty."""

    cert_file: str = ""
    key_file: str = ""
    client_ca_file: str = ""
    cert: str = ""
    key: str = field(default="", repr=False)
    client_ca: str = ""
    client_auth_type: str = ""
    client_allowed_sans: tuple[str, ...] | None = None
    min_version: str = "TLS12"
    max_version: str = "TLS13"
    cipher_suites: tuple[str, ...] = ()
    prefer_server_cipher_suites: bool = True
    curve_preferences: tuple[str, ...] = ()

    @property
    def is_on(self) -> bool:
        """Whether TLS is served: it is when anything is set but versions and algorithms."""
        certificate = (self.cert_file, self.cert, self.key_file, self.key)
        return any((*certificate, self.client_ca_file, self.client_ca, self.client_auth_type))

    @property
    def remarks(self) -> tuple[str, ...]:
        """Where the server does not do what a value says, one sentence each."""
        if not self.is_on:
            return ("tls_server_config has no certificate: TLS is off",) if self != ServerTLS() else ()
        remarks = []
        if self.client_auth_type == "RequestClientCert":
            remarks.append("client_auth_type RequestClientCert: certificates are not requested, they would be ignored")
        if self.client_auth_type in _ANY:
            remarks.append(f"client_auth_type {self.client_auth_type}: certificates are verified with client_ca")
        if self.min_version < "TLS12":
            remarks.append(f"min_version {self.min_version}: the minimum is TLS12")
        return tuple(remarks)


class Context(ssl.SSLContext):
    """A context made from these files; a client certificate must have one of the `allowed_sans`, if they are set."""

    files: tuple[str, ...] = ()
    allowed_sans: frozenset[str] | None = None


def server_context(tls: ServerTLS) -> Context:
    """Returns the context for gunicorn; raises ValueError, which names the key, for what is not valid or supported."""
    _check(tls)
    context = Context(ssl.PROTOCOL_TLS_SERVER)
    context.set_alpn_protocols(["http/1.1"])
    context.minimum_version, context.maximum_version = VERSIONS[tls.min_version], VERSIONS[tls.max_version]
    suites = [CIPHER_SUITES[name] for name in tls.cipher_suites if name in CIPHER_SUITES]
    if suites:
        context.set_ciphers(":".join(suites))
    elif tls.cipher_suites:
        context.minimum_version = ssl.TLSVersion.TLSv1_3
    if not tls.prefer_server_cipher_suites:
        context.options &= ~ssl.OP_CIPHER_SERVER_PREFERENCE
    for curve in tls.curve_preferences:
        context.set_ecdh_curve(CURVES[curve])

    _load_certificate(context, tls)
    if (mode := CLIENT_AUTH_TYPES[tls.client_auth_type]) != ssl.CERT_NONE:
        _load_authorities(context, tls)
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN  # client_ca need not be a root, as in Go
    context.verify_mode = mode
    if tls.client_allowed_sans is not None:
        context.allowed_sans = frozenset(tls.client_allowed_sans)
    context.files = tuple(filter(None, (tls.cert_file, tls.key_file, tls.client_ca_file)))
    return context


def _check(tls: ServerTLS) -> None:
    """Raises ValueError for keys that contradict each other or that Python's TLS does not support."""
    mode = CLIENT_AUTH_TYPES[tls.client_auth_type]
    authority = tls.client_ca_file or tls.client_ca
    if not tls.cert_file and not tls.cert:
        raise ValueError("cert_file is missing")
    if not tls.key_file and not tls.key:
        raise ValueError("key_file is missing")
    if authority and tls.client_auth_type in ("", "NoClientCert"):
        raise ValueError("client_ca_file is set, but client_auth_type does not request certificates")
    if tls.client_auth_type in _ANY and not authority:
        raise ValueError(
            f"client_auth_type {tls.client_auth_type}: certificates are always verified here; expected "
            "client_ca_file or another client_auth_type"
        )
    if tls.client_allowed_sans is not None and mode != ssl.CERT_REQUIRED:
        raise ValueError("client_allowed_sans needs the client_auth_type RequireAndVerifyClientCert")
    if tls.max_version < max("TLS12", tls.min_version):
        raise ValueError(f"max_version {tls.max_version}: expected TLS12 or TLS13, and not less than min_version")
    if len(tls.curve_preferences) > 1:
        raise ValueError("curve_preferences: expected one curve, or none for all")


def _load_certificate(context: ssl.SSLContext, tls: ServerTLS) -> None:
    with contextlib.ExitStack() as stack:
        cert, key = (
            _readable(name, path) if path else stack.enter_context(_in_memory(name, text))
            for name, path, text in (("cert_file", tls.cert_file, tls.cert), ("key_file", tls.key_file, tls.key))
        )
        try:
            context.load_cert_chain(cert, key, password=_no_passphrase)
        except ssl.SSLError as error:
            mismatch = error.reason in ("KEY_VALUES_MISMATCH", "KEY_TYPE_MISMATCH")
            reason = "the key does not match the certificate" if mismatch else "expected a certificate and a key in PEM"
            raise ValueError(f"cert_file, key_file: {reason}") from None


def _load_authorities(context: ssl.SSLContext, tls: ServerTLS) -> None:
    try:
        if tls.client_ca_file:
            context.load_verify_locations(_readable("client_ca_file", tls.client_ca_file))
        elif tls.client_ca:
            context.load_verify_locations(cadata=tls.client_ca)
        else:
            context.load_default_certs(ssl.Purpose.CLIENT_AUTH)
    except (ssl.SSLError, UnicodeError):
        name = "client_ca_file" if tls.client_ca_file else "client_ca"
        raise ValueError(f"{name}: expected certificates in PEM") from None


def _readable(name: str, path: str) -> str:
    """Returns the path of a readable file; the errors of ssl do not name the file, and it blocks on a FIFO."""
    try:
        file_content(path)
        return path
    except OSError as error:
        raise ValueError(f"{name}: {path!r}: {error.strerror}") from None


@contextlib.contextmanager
def _in_memory(name: str, pem: str) -> Iterator[str]:
    """Yields a path for a text, since ssl reads only files; it is never on a disk."""
    if not hasattr(os, "memfd_create"):
        raise ValueError(f"{name} is missing: a certificate in the file itself is supported only on Linux")
    with os.fdopen(os.memfd_create(name), "wb", buffering=0) as file:
        file.write(pem.encode())
        yield f"/proc/self/fd/{file.fileno()}"


def _no_passphrase() -> str:
    raise ValueError("key_file: the private key has a passphrase; expected one without")


def client_is_allowed(connection: ssl.SSLSocket) -> bool:
    """Returns whether the client certificate has one of the names in client_allowed_sans."""
    allowed = getattr(connection.context, "allowed_sans", None)
    return allowed is None or bool(allowed & _names(connection.getpeercert() or {}))


def _names(certificate: Mapping[str, Any]) -> set[str]:
    """Returns the subject alternative names of a certificate, addresses as one writes them."""
    names = set()
    for kind, name in certificate.get("subjectAltName", ()):
        with contextlib.suppress(ValueError):
            names.add(str(ipaddress.ip_address(name)) if kind == "IP Address" else name)
    return names
