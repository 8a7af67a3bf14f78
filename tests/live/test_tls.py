"""Servers whose TLS is not as it should be: each is refused with a reason that a person understands."""

import shutil
import socket
import ssl
import subprocess
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
import trustme

from exporter import create_app
from exporter.config.settings import Settings
from tests.certificates import Files, authority, issue, self_signed
from tests.config.test_settings import KEYS
from tests.limits.servers import Odd
from tests.live.installed import needs, path_of
from tests.live.tls import context, serial, upstream_with

UNTRUSTED = "TLS: the server's certificate comes of an authority that is not trusted"
CLOSED = "the connection was closed without an answer"


class House:
    """A folder with an authority that the exporter trusts and one that it does not, and what they vouch for."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ca_file, self.other_file = folder / "ca.pem", folder / "other.pem"
        self.ca, self.other = authority(self.ca_file), authority(self.other_file)

    def server(self, *names: str, ca: trustme.CA | None = None, expired: bool = False) -> Files:
        return issue(ca or self.ca, self.folder, "server", *(names or ("localhost",)), expired=expired)

    def client(self, ca: trustme.CA | None = None, *, expired: bool = False) -> Files:
        return issue(ca or self.ca, self.folder, "client", expired=expired)


@pytest.fixture
def house(tmp_path: Path) -> House:
    return House(tmp_path)


def told(url: str, **keys: object) -> dict[str, str | None]:
    """The reasons that /health gives for both modules, which have this URL and these keys."""
    environ = {"PATRONI_EXPORTER_URL": url, "STAYTUS_API_URL": url, **KEYS}
    for name, value in keys.items():
        environ |= {f"PATRONI_EXPORTER_{name}": str(value), f"STAYTUS_{name}": str(value)}
    answer = create_app(Settings.load(environ)).test_client().get("/health")
    modules = answer.get_json()["modules"]
    assert answer.status_code == (200 if all(module["state"] == "up" for module in modules.values()) else 503)
    return {name: module["reason"] for name, module in modules.items()}


def both(reason: str | None) -> dict[str, str | None]:
    return {"patroni": reason, "staytus": reason}


def keys(files: Files | None) -> dict[str, Path]:
    return {"CERT_FILE": files.cert, "KEY_FILE": files.key} if files else {}


def of_old(house: House, version: ssl.TLSVersion) -> ssl.SSLContext:
    """TLS of this version alone, which OpenSSL knows still where it is told that security does not count."""
    made = context(house.server())
    made.set_ciphers("DEFAULT@SECLEVEL=0")
    with warnings.catch_warnings(action="ignore"):
        made.minimum_version = made.maximum_version = version
    return made


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda house: context(house.server()), None),
        (lambda house: context(house.server(expired=True)), "TLS: the server's certificate has expired"),
        (
            lambda house: context(self_signed(house.folder, "localhost")),
            "TLS: the server's certificate is self-signed and not trusted",
        ),
        (
            lambda house: context(house.server("localhost.example", "127.0.0.1")),
            "TLS: the server's certificate is not for localhost",
        ),
        (lambda house: context(house.server(ca=house.other)), UNTRUSTED),
        (lambda house: of_old(house, ssl.TLSVersion.TLSv1), "TLS: the server has no TLS 1.2 or later"),
        (lambda house: of_old(house, ssl.TLSVersion.TLSv1_1), "TLS: the server has no TLS 1.2 or later"),
        (lambda house: of_old(house, ssl.TLSVersion.TLSv1_2), None),
        (lambda house: None, "TLS: the server does not speak TLS; is it one of http?"),
    ],
    ids=["good", "expired", "self-signed", "wrong host", "unknown authority", "TLS 1.0", "TLS 1.1", "TLS 1.2", "http"],
)
def test_server_is_asked_only_behind_the_tls_that_is_expected(
    make: Callable[[House], ssl.SSLContext | None], reason: str | None, house: House
) -> None:
    with upstream_with(make(house)) as server:
        assert told(f"https://localhost:{server.server_port}", REQUEST_VERIFY=house.ca_file) == both(reason)
        assert sorted(server.paths) == ([] if reason else ["/api/v1/services/all", "/patroni"])


def test_authorities_of_the_web_do_not_know_one_of_our_own(house: House) -> None:
    with upstream_with(context(house.server())) as server:
        assert told(server.url) == both(UNTRUSTED)


def test_self_signed_certificate_is_its_own_authority_where_it_is_named_as_such(house: House) -> None:
    files = self_signed(house.folder, "elsewhere.example", of_old=True)
    with upstream_with(context(files)) as server:
        assert told(server.url, REQUEST_VERIFY=files.cert) == both("TLS: the server's certificate is not for localhost")
        assert told(server.url, REQUEST_VERIFY=files.cert, SERVER_NAME="elsewhere.example") == both(None)


def test_url_of_http_before_a_server_of_https_is_told(house: House) -> None:
    with upstream_with(context(house.server())) as server:
        url = server.url.replace("https:", "http:")
        assert told(url) == both(f"{CLOSED}; does the server ask for TLS?")


def test_server_that_is_not_verified_is_asked_whatever_its_certificate_is(house: House) -> None:
    with upstream_with(context(self_signed(house.folder, "elsewhere.example"))) as server:
        assert told(server.url, REQUEST_VERIFY="false") == both(None)


@needs("openssl")
def test_folder_of_authorities_counts_once_openssl_has_hashed_it(house: House) -> None:
    folder = house.folder / "authorities"
    folder.mkdir()
    shutil.copy(house.ca_file, folder)
    with upstream_with(context(house.server())) as server:
        assert told(server.url, REQUEST_VERIFY=folder) == both(UNTRUSTED)
        subprocess.run([path_of("openssl"), "rehash", folder], check=True)
        assert told(server.url, REQUEST_VERIFY=folder) == both(None)


# Client certificates --------------------------------------------------------------------------------------------------

TLS12, TLS13 = ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3


@pytest.mark.parametrize(
    ("client", "version", "reason"),
    [
        ("none", TLS12, "TLS: the server broke off the handshake; does it ask for a client certificate?"),
        ("none", TLS13, "TLS: the server asks for a client certificate"),
        ("stranger", TLS12, "TLS: the server does not trust the authority of the client certificate"),
        ("stranger", TLS13, "TLS: the server does not trust the authority of the client certificate"),
        ("expired", TLS12, "TLS: the server says that the client certificate has expired"),
        ("expired", TLS13, "TLS: the server says that the client certificate has expired"),
    ],
)
def test_server_that_refuses_the_client_certificate_is_understood(
    client: str, version: ssl.TLSVersion, reason: str, house: House
) -> None:
    files = None
    if client != "none":
        files = house.client(house.other if client == "stranger" else house.ca, expired=client == "expired")
    asking = context(house.server(), house.ca_file)
    asking.minimum_version = asking.maximum_version = version
    with upstream_with(asking) as server:
        assert told(server.url, REQUEST_VERIFY=house.ca_file, **keys(files)) == both(reason)
        assert server.paths == []


def test_server_that_refuses_without_a_word_is_guessed_at(house: House) -> None:
    asking = context(house.server(), house.ca_file)
    asking.minimum_version = ssl.TLSVersion.TLSv1_3
    with upstream_with(asking) as server:
        server.lingers = False
        reasons = told(server.url, REQUEST_VERIFY=house.ca_file)
        guess = f"{CLOSED}; does the server ask for a client certificate?"
        assert set(reasons.values()) <= {guess, "TLS: the server asks for a client certificate"}


def alert(number: int) -> bytes:
    """A fatal alert (RFC 8446, section 6) as the first that a server says."""
    return bytes([21, 3, 3, 0, 2, 2, number])


#: The answer of a server that has settled on TLS 1.0, although the client said that it has no version so old.
HELLO_OF_1_0 = bytes([22, 3, 1, 0, 42, 2, 0, 0, 38, 3, 1, *range(32), 0, 0, 47, 0])


@pytest.mark.parametrize(
    ("said", "without", "shown"),
    [
        (alert(42), "asks for a client certificate", "does not accept the client certificate (bad certificate)"),
        (alert(44), "asks for a client certificate", "does not accept the client certificate (certificate revoked)"),
        (alert(46), "asks for a client certificate", "does not accept the client certificate (certificate unknown)"),
        (alert(49), "asks for a client certificate", "does not accept the client certificate (access denied)"),
        (alert(112), *["does not answer to that name"] * 2),
        (HELLO_OF_1_0, *["has no TLS 1.2 or later"] * 2),
        (b"220 mail.example ESMTP\r\n", *["does not speak TLS; is it one of http?"] * 2),
    ],
)
def test_first_words_of_other_servers_are_understood(said: bytes, without: str, shown: str, house: House) -> None:
    def behave(connection: socket.socket) -> None:
        connection.recv(4096)
        connection.sendall(said)
        while connection.recv(4096):
            pass

    with Odd(behave) as server:
        url = server.url.replace("http:", "https:")
        assert told(url) == both(f"TLS: the server {without}")
        assert told(url, **keys(house.client())) == both(f"TLS: the server {shown}")


def test_client_certificate_is_shown(house: House) -> None:
    client = house.client()
    with upstream_with(context(house.server(), house.ca_file)) as server:
        assert told(server.url, REQUEST_VERIFY=house.ca_file, **keys(client)) == both(None)
        assert set(server.clients) == {serial(client)}


# The server's name ----------------------------------------------------------------------------------------------------


def test_server_name_is_asked_for_and_verified_in_place_of_the_urls_host(house: House) -> None:
    with upstream_with(context(house.server("pg.example"))) as server:
        address = f"127.0.0.1:{server.server_port}"
        url = f"https://{address}"
        assert told(url, REQUEST_VERIFY=house.ca_file) == both("TLS: the server's certificate is not for 127.0.0.1")
        assert told(url, REQUEST_VERIFY=house.ca_file, SERVER_NAME="other.example") == both(
            "TLS: the server's certificate is not for other.example"
        )
        assert (server.paths, server.names) == ([], [None, None, "other.example", "other.example"])
        server.names.clear()
        assert told(url, REQUEST_VERIFY=house.ca_file, SERVER_NAME="pg.example") == both(None)
        assert set(server.names) == {"pg.example"}
        assert {headers["Host"] for _, headers in server.requests} == {address}


def test_host_of_the_headers_wins_over_that_of_the_url(house: House) -> None:
    with upstream_with(context(house.server())) as server:
        assert told(server.url, REQUEST_VERIFY=house.ca_file, HEADERS="host: pg.example") == both(None)
        hosts = [value for _, headers in server.requests for name, value in headers.items() if name.lower() == "host"]
        assert hosts == ["pg.example", "pg.example"]
