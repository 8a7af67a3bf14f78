"""TLS of the upstream: what is accepted, and the reasons of what is not."""

import shutil
import socket
import ssl
import subprocess
import warnings
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import trustme

from exporter.upstream.client import Client
from exporter.upstream.target import Module
from tests.certificates import Files, authority, issue, self_signed, write
from tests.conftest import at
from tests.limits.scrapes import application
from tests.limits.servers import Odd
from tests.live.installed import needs, path_of
from tests.live.tls import both, context, serial, upstream_with
from tests.scrape.test_scrape import scrape

UNTRUSTED = "TLS: the server's certificate is signed by an authority that is not trusted"
NOT_VALID_FOR = "TLS: the server's certificate is not valid for "
CLOSED = "the connection was closed without a response"
NO_TLS = "TLS: the server does not speak TLS; is it an http:// server?"
TLS12, TLS13 = ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3


class Certificates:
    """A folder with a trusted authority, another one, and certificates of both."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ca_file = folder / "ca.pem"
        self.ca, self.other = authority(self.ca_file), authority(folder / "other.pem")

    def server(self, *names: str, ca: trustme.CA | None = None, expired: bool = False) -> Files:
        return issue(ca or self.ca, self.folder, "server", *(names or ("localhost",)), expired=expired)

    def client(self, ca: trustme.CA | None = None, *, expired: bool = False) -> Files:
        return issue(ca or self.ca, self.folder, "client", expired=expired)


@pytest.fixture
def certificates(tmp_path: Path) -> Certificates:
    return Certificates(tmp_path)


def reasons(url: str, client: Files | None = None, **options: object) -> dict[str, str | None]:
    """Why each module is down, by /health; both have this URL and these options."""
    environ: dict[str, str] = {}
    if client:
        options |= {"CERT_FILE": client.cert, "KEY_FILE": client.key}
    for name, value in options.items():
        environ |= {f"PATRONI_EXPORTER_{name}": str(value), f"STAYTUS_{name}": str(value)}
    response = application(url, url, **environ).test_client().get("/health")
    modules = response.get_json()["modules"]
    assert response.status_code == (200 if all(module["state"] == "up" for module in modules.values()) else 503)
    return {name: module["reason"] for name, module in modules.items()}


def only(certificates: Certificates, version: ssl.TLSVersion) -> ssl.SSLContext:
    """TLS of one version; OpenSSL has the old ones only at security level 0."""
    made = context(certificates.server())
    made.set_ciphers("DEFAULT@SECLEVEL=0")
    with warnings.catch_warnings(action="ignore"):
        made.minimum_version = made.maximum_version = version
    return made


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda c: context(c.server()), None),
        (lambda c: context(c.server(expired=True)), "TLS: the server's certificate has expired"),
        (
            lambda c: context(self_signed(c.folder, "localhost")),
            "TLS: the server's certificate is self-signed and not trusted",
        ),
        (lambda c: context(c.server("localhost.example", "127.0.0.1")), NOT_VALID_FOR + "localhost"),
        (lambda c: context(c.server(ca=c.other)), UNTRUSTED),
        (lambda c: only(c, ssl.TLSVersion.TLSv1), "TLS: the server does not support TLS 1.2 or later"),
        (lambda c: only(c, ssl.TLSVersion.TLSv1_1), "TLS: the server does not support TLS 1.2 or later"),
        (lambda c: only(c, TLS12), None),
        (lambda c: None, NO_TLS),
    ],
    ids=["good", "expired", "self-signed", "wrong host", "unknown authority", "TLS 1.0", "TLS 1.1", "TLS 1.2", "http"],
)
def test_server(
    make: Callable[[Certificates], ssl.SSLContext | None], reason: str | None, certificates: Certificates
) -> None:
    with upstream_with(make(certificates)) as server:
        url = f"https://localhost:{server.server_port}"
        assert reasons(url, REQUEST_VERIFY=certificates.ca_file) == both(reason)
        assert sorted(server.paths) == ([] if reason else ["/api/v1/services/all", "/patroni"])


def test_default_authorities_do_not_include_ours(certificates: Certificates) -> None:
    with upstream_with(context(certificates.server())) as server:
        assert reasons(server.url) == both(UNTRUSTED)
        url = server.url.replace("https:", "http:")
        assert reasons(url) == both(f"{CLOSED}; does the server expect TLS?")


def test_self_signed_certificate_can_be_its_own_authority(certificates: Certificates) -> None:
    files = self_signed(certificates.folder, "elsewhere.example", old=True)
    with upstream_with(context(files)) as server:
        assert reasons(server.url, REQUEST_VERIFY=files.cert) == both(NOT_VALID_FOR + "localhost")
        assert reasons(server.url, REQUEST_VERIFY=files.cert, SERVER_NAME="elsewhere.example") == both(None)
        assert reasons(server.url, REQUEST_VERIFY="false") == both(None)


@needs("openssl")
def test_folder_of_authorities_needs_openssl_rehash(certificates: Certificates) -> None:
    folder = certificates.folder / "authorities"
    folder.mkdir()
    shutil.copy(certificates.ca_file, folder)
    with upstream_with(context(certificates.server())) as server:
        assert reasons(server.url, REQUEST_VERIFY=folder) == both(UNTRUSTED)
        subprocess.run([path_of("openssl"), "rehash", folder], check=True)
        assert reasons(server.url, REQUEST_VERIFY=folder) == both(None)


@pytest.mark.parametrize("version", [TLS12, TLS13])
def test_client_certificate(version: ssl.TLSVersion, certificates: Certificates) -> None:
    required = context(certificates.server(), certificates.ca_file)
    required.minimum_version = required.maximum_version = version
    missing = {
        TLS12: "TLS: the server refused the handshake; does it require a client certificate?",
        TLS13: "TLS: the server requires a client certificate",
    }
    untrusted = "TLS: the server does not trust the authority of the client certificate"
    expired = "TLS: the server reports that the client certificate has expired"
    with upstream_with(required) as server:
        url, verify = server.url, certificates.ca_file
        assert reasons(url, REQUEST_VERIFY=verify) == both(missing[version])
        assert reasons(url, certificates.client(certificates.other), REQUEST_VERIFY=verify) == both(untrusted)
        assert reasons(url, certificates.client(expired=True), REQUEST_VERIFY=verify) == both(expired)
        assert server.paths == []
        client = certificates.client()
        assert reasons(url, client, REQUEST_VERIFY=verify) == both(None)
        assert set(server.clients) == {serial(client)}


def test_server_that_closes_without_an_alert(certificates: Certificates) -> None:
    required = context(certificates.server(), certificates.ca_file)
    required.minimum_version = TLS13
    with upstream_with(required) as server:
        server.lingers = False
        guess = f"{CLOSED}; does the server require a client certificate?"
        found = set(reasons(server.url, REQUEST_VERIFY=certificates.ca_file).values())
        assert found <= {guess, "TLS: the server requires a client certificate"}


def alert(number: int) -> bytes:
    """A fatal alert (RFC 8446, section 6)."""
    return bytes([21, 3, 3, 0, 2, 2, number])


#: A server that selects TLS 1.0 although the client does not offer it.
HELLO_OF_1_0 = bytes([22, 3, 1, 0, 42, 2, 0, 0, 38, 3, 1, *range(32), 0, 0, 47, 0])
REQUIRES, REJECTS = "requires a client certificate", "does not accept the client certificate"


@pytest.mark.parametrize(
    ("first", "without", "shown"),
    [
        (alert(42), REQUIRES, f"{REJECTS} (bad certificate)"),
        (alert(44), REQUIRES, f"{REJECTS} (certificate revoked)"),
        (alert(46), REQUIRES, f"{REJECTS} (certificate unknown)"),
        (alert(49), REQUIRES, f"{REJECTS} (access denied)"),
        (alert(112), *["does not serve that name"] * 2),
        (HELLO_OF_1_0, *["does not support TLS 1.2 or later"] * 2),
        (b"220 mail.example ESMTP\r\n", *["does not speak TLS; is it an http:// server?"] * 2),
    ],
)
def test_first_bytes_of_a_server(first: bytes, without: str, shown: str, certificates: Certificates) -> None:
    def behave(connection: socket.socket) -> None:
        connection.recv(4096)
        connection.sendall(first)
        while connection.recv(4096):
            pass

    with Odd(behave) as server:
        url = server.url.replace("http:", "https:")
        assert reasons(url) == both(f"TLS: the server {without}")
        assert reasons(url, certificates.client()) == both(f"TLS: the server {shown}")


def test_server_name_replaces_the_host(certificates: Certificates) -> None:
    with upstream_with(context(certificates.server("pg.example"))) as server:
        address, verify = f"127.0.0.1:{server.server_port}", certificates.ca_file
        url = f"https://{address}"
        assert reasons(url, REQUEST_VERIFY=verify) == both(NOT_VALID_FOR + "127.0.0.1")
        other = reasons(url, REQUEST_VERIFY=verify, SERVER_NAME="other.example")
        assert other == both(NOT_VALID_FOR + "other.example")
        assert (server.paths, server.names) == ([], [None, None, "other.example", "other.example"])
        server.names.clear()
        assert reasons(url, REQUEST_VERIFY=verify, SERVER_NAME="pg.example") == both(None)
        assert set(server.names) == {"pg.example"}
        assert {headers["Host"] for _, headers in server.requests} == {address}


def test_expiry_for_each_server_name(certificates: Certificates) -> None:
    """A server can have a certificate for each name, and keeps a connection for each."""
    times = {f"n{day}.example": datetime.now(UTC).replace(microsecond=0) + timedelta(day) for day in (1, 2)}
    with upstream_with(None) as server:
        address, client = f"https://127.0.0.1:{server.server_port}", Client()
        found: list[float] = []
        for name in (*times, *times):
            made = certificates.ca.issue_cert(name, not_after=times[name])
            server.context = context(write(made, certificates.folder, name))
            target = at(address, verify=str(certificates.ca_file), server_name=name)
            samples = scrape((Module("patroni", "patroni", target, ("node",)),), client=client)
            found += samples["patroni_tls_certificate_not_after_timestamp_seconds"].values()
        assert found == [time.timestamp() for time in (*times.values(), *times.values())]
        assert server.names == [*times]


def test_host_header(certificates: Certificates) -> None:
    with upstream_with(context(certificates.server())) as server:
        assert reasons(server.url, REQUEST_VERIFY=certificates.ca_file, HEADERS="host: pg.example") == both(None)
        hosts = [value for _, headers in server.requests for name, value in headers.items() if name.lower() == "host"]
        assert hosts == ["pg.example", "pg.example"]
