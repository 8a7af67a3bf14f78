"""gunicorn with a web configuration file: TLS, client certificates, passwords, and changes of the file."""

import contextlib
import http.client
import os
import signal
import socket
import ssl
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
import trustme

from tests.certificates import HERE, issue
from tests.conftest import Upstream
from tests.live.processes import MODULE, ROOT, Served, recorded, run, serving, until
from tests.live.test_gunicorn import command
from tests.web_config import basic, tls, users, web_config

pytestmark = pytest.mark.timeout(60)

AUTHORITIES = {"ours": trustme.CA(), "other": trustme.CA()}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a certificate of this host, and client certificates of a trusted and of another authority."""
    issue(AUTHORITIES["ours"], tmp_path, "server", *HERE)
    for name, ca in AUTHORITIES.items():
        issue(ca, tmp_path, name, "prometheus.example.org", "10.1.2.3")
        ca.cert_pem.write_to_path(tmp_path / f"{name}-ca.pem")
    return tmp_path


@dataclass(frozen=True)
class Client:
    """A client that trusts our authority; `certificate` is the name of its own."""

    folder: Path
    port: int
    certificate: str | None = None
    newest: ssl.TLSVersion = ssl.TLSVersion.MAXIMUM_SUPPORTED

    def context(self) -> ssl.SSLContext:
        context = ssl.create_default_context(cafile=str(self.folder / "ours-ca.pem"))
        context.maximum_version = self.newest
        if self.certificate:
            context.load_cert_chain(self.folder / f"{self.certificate}.pem", self.folder / f"{self.certificate}.key")
        return context

    def get(self, path: str = "/-/healthy", login: tuple[str, str] | None = None, seconds: float = 10) -> int | str:
        """The status of the response, or the error of the connection."""
        connection = http.client.HTTPSConnection("localhost", self.port, timeout=seconds, context=self.context())
        headers = {"Authorization": basic(*login)} if login else {}
        with contextlib.closing(connection):
            try:
                connection.request("GET", path, headers=headers)
                return connection.getresponse().status
            except ssl.SSLError as error:
                return error.reason or str(error)
            except OSError as error:
                return type(error).__name__

    def served(self) -> bytes:
        """The certificate of the server."""
        plain = socket.create_connection(("localhost", self.port), 10)
        with plain, self.context().wrap_socket(plain, server_hostname="localhost") as connection:
            return connection.getpeercert(binary_form=True) or b""


def logged(exporter: Served, logger: str) -> list[str]:
    """The reasons in the log of this logger."""
    return [event["reason"] for event in exporter.events(f"exporter.web.{logger}")]


def with_file(upstream: Upstream, port: int, path: str, *arguments: str) -> tuple[str, ...]:
    return command(recorded(upstream), port, "--web.config.file", path, *arguments)


NO_CERTIFICATE = ("TLSV13_ALERT_CERTIFICATE_REQUIRED", "SSLV3_ALERT_HANDSHAKE_FAILURE")
UNKNOWN = ("TLSV1_ALERT_UNKNOWN_CA", "TLSV1_ALERT_UNKNOWN_CA")


@pytest.mark.parametrize(
    ("auth_type", "without", "other"),
    [
        ("NoClientCert", 200, 200),
        ("RequestClientCert", 200, 200),
        ("VerifyClientCertIfGiven", 200, UNKNOWN),
        ("RequireAnyClientCert", NO_CERTIFICATE, UNKNOWN),
        ("RequireAndVerifyClientCert", NO_CERTIFICATE, UNKNOWN),
    ],
)
def test_client_auth_type(
    upstream: Upstream, folder: Path, port: int, auth_type: str, without: object, other: object
) -> None:
    authority = {} if auth_type in ("NoClientCert", "RequestClientCert") else {"client_ca_file": "ours-ca.pem"}
    path = web_config(folder, tls(client_auth_type=auth_type, **authority))
    with serving(folder, port, with_file(upstream, port, path)) as exporter:
        for version, newest in enumerate((ssl.TLSVersion.TLSv1_3, ssl.TLSVersion.TLSv1_2)):
            got = [Client(folder, port, name, newest).get() for name in (None, "other", "ours")]
            expected = [outcome[version] if isinstance(outcome, tuple) else outcome for outcome in (without, other)]
            assert got == [*expected, 200]
        reasons = set(logged(exporter, "connections"))
    refused = {
        NO_CERTIFICATE: "peer did not return a certificate",
        UNKNOWN: "unable to get local issuer certificate",
    }
    assert reasons == {refused[outcome] for outcome in (without, other) if isinstance(outcome, tuple)}


@pytest.mark.parametrize("allowed", ["prometheus.example.org", "10.1.2.3", "other.example.org"])
def test_client_allowed_sans(upstream: Upstream, folder: Path, port: int, allowed: str) -> None:
    keys = {"client_auth_type": "RequireAndVerifyClientCert", "client_ca_file": "ours-ca.pem"}
    path = web_config(folder, tls(client_allowed_sans=f"[x, {allowed}]", **keys))
    with serving(folder, port, with_file(upstream, port, path)) as exporter:
        got = Client(folder, port, "ours").get()
        if allowed == "other.example.org":
            assert got != 200
            assert "the certificate has none of the names in client_allowed_sans" in logged(exporter, "connections")
        else:
            assert got == 200


def test_plain_http_and_old_tls(upstream: Upstream, folder: Path, port: int) -> None:
    path = web_config(folder, tls(min_version="TLS13"))
    with serving(folder, port, with_file(upstream, port, path)) as exporter:
        assert exporter.get() == (400, "This port speaks HTTPS.\n")
        assert Client(folder, port).get() == 200
        assert Client(folder, port, newest=ssl.TLSVersion.TLSv1_2).get() == "TLSV1_ALERT_PROTOCOL_VERSION"
        assert "Traceback" not in exporter.log.read_text()


def served_by_each(exporter: Served, client: Client) -> list[bytes]:
    """The certificate of each worker, in turn, while the others are stopped."""
    served = []
    for worker in sorted(workers := exporter.workers()):
        for other in workers - {worker}:
            os.kill(other, signal.SIGSTOP)
        served.append(client.served())
        for other in workers - {worker}:
            os.kill(other, signal.SIGCONT)
    return served


def test_every_worker_serves_a_changed_certificate(upstream: Upstream, folder: Path, port: int) -> None:
    with serving(folder, port, with_file(upstream, port, web_config(folder, tls()), "--workers", "2")) as exporter:
        until(lambda: len(exporter.workers()) == 2)
        before = served_by_each(exporter, client := Client(folder, port))
        files = issue(AUTHORITIES["ours"], folder, "server", *HERE)
        new = ssl.PEM_cert_to_DER_cert(files.cert.read_text())
        assert served_by_each(exporter, client) == [new, new]
        (folder / "server.pem").write_text("broken")
        assert served_by_each(exporter, client) == [new, new]
    assert before[0] == before[1] != new
    bad = f"{folder}/web.yml: tls_server_config: cert_file, key_file: expected a certificate and a key in PEM"
    assert set(logged(exporter, "web_config")) == {bad}


def test_users_and_authorities_change(upstream: Upstream, folder: Path, port: int) -> None:
    keys = {"client_auth_type": "RequireAndVerifyClientCert"}
    path = web_config(folder, tls(client_ca_file="ours-ca.pem", **keys) + users(alice="old"))
    with serving(folder, port, with_file(upstream, port, path)) as exporter:
        ours, other = Client(folder, port, "ours"), Client(folder, port, "other")
        assert [ours.get(login=("alice", "old")), other.get(login=("alice", "old"))] == [200, UNKNOWN[0]]
        web_config(folder, tls(client_ca_file="other-ca.pem", **keys) + users(alice="new"))
        assert [ours.get(login=("alice", "new")), other.get(login=("alice", "new"))] == [UNKNOWN[0], 200]
        assert other.get(login=("alice", "old")) == 401
        assert exporter.end() == 0


def test_bad_file(folder: Path, port: int) -> None:
    path = web_config(folder, tls(key_file="gone.key"))
    line = f"{path}: tls_server_config: key_file: '{folder}/gone.key': No such file or directory"
    expected = (2, f"patroni-staytus-exporter: {line}\n")
    assert run((*MODULE, "--port", str(port), "--web.config.file", path), cwd=folder) == expected


def test_check_shows_no_hash(upstream: Upstream, folder: Path, port: int) -> None:
    headers = "http_server_config: {headers: {X-Frame-Options: deny}}\n"
    path = web_config(folder, tls(client_auth_type="RequestClientCert") + headers + users(bob="b", alice="a"))
    status, output = run((*with_file(upstream, port, path), "check"), cwd=folder)
    assert status == 0
    assert [line.removeprefix(f"{path}: ") for line in output.splitlines() if line.startswith(path)] == [
        f"TLS: {folder}/server.pem, TLS12 or later, RequestClientCert",
        "users: alice, bob",
        "headers: X-Frame-Options",
        "client_auth_type RequestClientCert: certificates are not requested, they would be ignored",
    ]
    assert "$2b$" not in output


@pytest.mark.parametrize(
    "text",
    [
        users(alice="a"),
        tls(client_auth_type="RequireAndVerifyClientCert", client_ca_file="ours-ca.pem") + users(alice="a"),
        tls(client_auth_type="RequireAndVerifyClientCert", client_ca_file="ours-ca.pem", max_version="TLS12"),
        "rate_limit: {interval: 1h, burst: 1}\n",
    ],
    ids=["users", "TLS client and users", "TLS 1.2 client", "rate limit"],
)
def test_healthcheck(upstream: Upstream, folder: Path, port: int, text: str) -> None:
    healthcheck = (sys.executable, str(ROOT / "deploy" / "healthcheck.py"), str(folder / "cmdline"))
    line = with_file(upstream, port, web_config(folder, text))
    (folder / "cmdline").write_text("\0".join(line) + "\0")
    with serving(folder, port, line) as exporter:
        assert run(healthcheck, cwd=folder) == (0, "")
        web_config(folder, "broken")
        assert run(healthcheck, cwd=folder) == (0, "")
        assert exporter.end() == 0
    assert run(healthcheck, cwd=folder) == (1, f"0.0.0.0:{port}: [Errno 111] Connection refused\n")
