"""Secrets, authorities and client certificates that change on disk while an exporter runs."""

import json
import shlex
from collections.abc import Mapping
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path

import pytest

from tests.certificates import authority, encrypted_key, issue, self_signed
from tests.config.test_settings import KEYS
from tests.live.cluster import eventually
from tests.live.examples import activated, blocks, section
from tests.live.processes import MODULE, Served, run, running_exporter
from tests.live.tls import TLSUpstream, both, context, serial, upstream_with
from tests.web_config import basic

UP = both(None)


def exporter(folder: Path, url: str, variables: Mapping[str, object]) -> AbstractContextManager[Served]:
    """An exporter of both modules with this URL; `*_NAME` is a variable of each."""
    environ = {"PATRONI_EXPORTER_URL": url, "STAYTUS_API_URL": url, "POLLING_INTERVAL_SECONDS": "1", "DEBUG": "yes"}
    for name, value in variables.items():
        environ |= {name.replace("*", prefix): str(value) for prefix in ("PATRONI_EXPORTER", "STAYTUS")}
    return running_exporter(folder, environ=environ)


def reasons(served: Served) -> dict[str, str | None]:
    """Why each module is down, None if it is up."""
    modules = json.loads(served.get("/health")[1])["modules"]
    return {name: module["reason"] for name, module in modules.items()}


def credentials(server: TLSUpstream, path: str) -> dict[str, str]:
    """The headers with credentials in the last request for this path."""
    names = ("Authorization", "X-Auth-Token", "X-Auth-Secret", "X-Proxy", "X-Other", "X-Forwarded-Proto")
    headers = next(headers for requested, headers in reversed(server.requests) if requested == path)
    return {name: headers[name] for name in names if name in headers}


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    """A file for each secret."""
    contents = {
        "*_PASSWORD_FILE": "p4ssw0rd\n",
        "*_HEADERS_FILE": "X-Proxy: pr0xy\n",
        "STAYTUS_API_TOKEN_FILE": "t0ken\n",
        "STAYTUS_API_SECRET_FILE": "s3cret\n",
    }
    for variable, content in contents.items():
        (tmp_path / variable.strip("*_")).write_text(content)
    return {variable: tmp_path / variable.strip("*_") for variable in contents}


def test_secrets_are_read_for_each_request(files: dict[str, Path], tmp_path: Path) -> None:
    def sent() -> list[dict[str, str]]:
        return [credentials(server, "/patroni"), credentials(server, "/api/v1/services/all")]

    with upstream_with(None) as server, exporter(tmp_path, server.url, {**files, "*_USERNAME": "pat"}) as served:
        assert reasons(served) == UP
        headers = {"Authorization": basic("pat", "p4ssw0rd"), "X-Proxy": "pr0xy"}
        assert sent() == [headers, {**headers, "X-Auth-Token": "t0ken", "X-Auth-Secret": "s3cret"}]
        files["*_PASSWORD_FILE"].write_text("n3wpass")
        files["*_HEADERS_FILE"].write_text("X-Proxy: n3wproxy\nX-Other: n3wother\n")
        files["STAYTUS_API_TOKEN_FILE"].write_text("n3wt0ken\r\n")
        files["STAYTUS_API_SECRET_FILE"].write_text("\ufeffn3ws3cret")
        headers = {"Authorization": basic("pat", "n3wpass"), "X-Proxy": "n3wproxy", "X-Other": "n3wother"}
        expected = [headers, {**headers, "X-Auth-Token": "n3wt0ken", "X-Auth-Secret": "n3ws3cret"}]
        eventually(lambda: [reasons(served), sent()], [UP, expected])


def test_modules_are_down_without_their_secrets(files: dict[str, Path], tmp_path: Path) -> None:
    with upstream_with(None) as server, exporter(tmp_path, server.url, {**files, "*_USERNAME": "pat"}) as served:
        assert reasons(served) == UP
        for variable, bad, expected in (
            ("*_PASSWORD_FILE", b"h1dden\nh1dden", "a password, one line"),
            ("*_HEADERS_FILE", b"h1dden", "lines of the form Name: value, each name once"),
            ("STAYTUS_API_TOKEN_FILE", b"h1dden\nX-A: h1dden", "the value of X-Auth-Token, one line of ASCII"),
            ("STAYTUS_API_SECRET_FILE", "h1ddén".encode(), "the value of X-Auth-Secret, one line of ASCII"),
        ):

            def expect(reason: str) -> None:
                down = both(reason) if variable.startswith("*") else {**UP, "staytus": reason}  # noqa: B023
                eventually(lambda: reasons(served), down)

            file = files[variable]
            good = file.read_bytes()
            for content in (b"\n", bad):
                file.write_bytes(content)
                expect(f"{file}: expected a file that holds {expected}")
            file.unlink()
            expect(f"{file}: no such file or directory")
            file.mkdir()
            expect(f"{file}: is a directory")
            file.rmdir()
            file.write_bytes(good)
            eventually(lambda: reasons(served), UP)
        log = served.log.read_text()
        assert [word for word in ("h1dd", "p4ssw0rd", "pr0xy", "t0ken", "s3cret", "Traceback") if word in log] == []


def test_client_certificate_is_replaced_on_a_kept_connection(tmp_path: Path) -> None:
    ca = authority(tmp_path / "ca.pem")
    required = context(issue(ca, tmp_path, "server", "localhost"), tmp_path / "ca.pem")
    client, other = issue(ca, tmp_path, "client"), issue(ca, tmp_path, "other")
    first = serial(client)
    keys = {"*_CERT_FILE": client.cert, "*_KEY_FILE": client.key, "*_REQUEST_VERIFY": tmp_path / "ca.pem", **KEYS}
    with upstream_with(required) as server, exporter(tmp_path, server.url, keys) as served:
        eventually(lambda: reasons(served), UP)
        connections = len(server.clients)
        assert [reasons(served) for _ in range(3)] == [UP] * 3
        assert server.clients == [first] * connections  # they are kept
        server.clients.clear()
        issue(ca, tmp_path, "client")
        seen = len(server.requests)
        used = {None, "/patroni", "/api/v1/services/all"}
        eventually(lambda: {reasons(served)["staytus"], *server.paths[seen:]}, used)
        assert set(server.clients) == {serial(client)} != {first}

        good = client.key.read_bytes()
        pair = f"{client.cert} and {client.key}"
        wrong = f"{pair}: expected a certificate and its private key, without a passphrase, in PEM"
        for content, reason in (
            (other.key.read_bytes(), wrong),
            (encrypted_key(tmp_path / "encrypted.key", old=False).read_bytes(), wrong),
            (client.cert.read_bytes(), wrong),
            (b"", f"{client.key}: expected PEM"),
        ):
            client.key.write_bytes(content)
            eventually(partial(reasons, served), both(reason))
        client.key.write_bytes(good)
        eventually(lambda: reasons(served), UP)


def test_authorities_are_replaced(tmp_path: Path) -> None:
    bundle = tmp_path / "bundle.pem"
    old, new = authority(tmp_path / "old.pem"), authority(tmp_path / "new.pem")
    bundle.write_bytes((tmp_path / "old.pem").read_bytes())
    server_context = context(issue(old, tmp_path, "server", "localhost"))
    variables = {"*_REQUEST_VERIFY": bundle, **KEYS}
    with upstream_with(server_context) as server, exporter(tmp_path, server.url, variables) as served:
        assert reasons(served) == UP
        bundle.write_bytes((tmp_path / "new.pem").read_bytes())
        untrusted = both("TLS: the server's certificate is signed by an authority that is not trusted")
        eventually(lambda: reasons(served), untrusted)
        server.context = context(issue(new, tmp_path, "server", "localhost"))
        eventually(lambda: reasons(served), UP)
        bundle.write_text("")
        eventually(lambda: reasons(served), both(f"{bundle}: expected PEM"))
        bundle.unlink()
        eventually(lambda: reasons(served), both(f"{bundle}: no such file or directory"))
        bundle.write_bytes((tmp_path / "new.pem").read_bytes())
        eventually(lambda: reasons(served), UP)


def test_examples_of_the_documentation(files: dict[str, Path], tmp_path: Path) -> None:
    patroni, staytus = blocks(section("docs/security.md", "Authentication to Patroni and Staytus"))
    ca = authority(tmp_path / "ca.pem")
    issue(ca, tmp_path, "client")
    for variable in ("*_PASSWORD_FILE", "STAYTUS_API_TOKEN_FILE", "STAYTUS_API_SECRET_FILE"):
        files[variable].rename(tmp_path / variable.lower().split("_")[-2])
    required = context(issue(ca, tmp_path, "patroni", "localhost"), tmp_path / "ca.pem")
    proxy_context = context(issue(ca, tmp_path, "staytus", "status.example.org"))
    environ = activated(tmp_path / "bin")
    with upstream_with(required) as node, upstream_with(proxy_context) as proxy:
        for example in (
            patroni.replace("localhost:8008", f"localhost:{node.server_port}"),
            staytus.replace("127.0.0.1:8443", f"127.0.0.1:{proxy.server_port}"),
        ):
            lines = example.splitlines(keepends=True)
            commands = "".join(line.removeprefix("$ ") for line in lines if line.startswith("$ "))
            _, output = run(["bash", "-c", commands], cwd=tmp_path, environ=environ)
            assert output == "".join(line for line in lines if not line.startswith("$ "))
        assert credentials(proxy, "/api/v1/services/all") == {
            "Authorization": basic("prometheus", "p4ssw0rd"),
            "X-Auth-Token": "t0ken",
            "X-Auth-Secret": "s3cret",
            "X-Forwarded-Proto": "https",
        }


REQUEST = """
import sys
from exporter.upstream.client import Client
from tests.conftest import at, begin, error_of
url, cert, key = sys.argv[1:]
print(error_of(begin(Client(), at(url, verify=False, cert=(cert, key)), "x")))
"""


def test_passphrase_is_not_asked_for(tmp_path: Path) -> None:
    """Neither at the start nor by libcurl, on a terminal."""
    client = issue(authority(tmp_path / "ca.pem"), tmp_path, "client")
    key = str(encrypted_key(tmp_path / "encrypted.key", old=False))

    def on_a_terminal(*command: str, **environ: str) -> str:
        return run(["script", "-qec", shlex.join(command), "/dev/null"], cwd=tmp_path, environ=environ)[1].strip()

    files = {"PATRONI_EXPORTER_CERT_FILE": str(client.cert), "PATRONI_EXPORTER_KEY_FILE": key}
    assert on_a_terminal(*MODULE, "scrape", PATRONI_EXPORTER_URL="https://localhost", **files) == (
        f"patroni-staytus-exporter: PATRONI_EXPORTER_CERT_FILE={str(client.cert)!r}: expected its private key, without "
        f"a passphrase, in PATRONI_EXPORTER_KEY_FILE={key!r}"
    )
    with upstream_with(context(self_signed(tmp_path, "localhost"))) as server:
        assert on_a_terminal(MODULE[0], "-c", REQUEST, server.url, str(client.cert), key) == (
            f"{client.cert} and {key}: expected a certificate and its private key, without a passphrase, in PEM"
        )
