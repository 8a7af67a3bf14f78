"""Secrets, headers, authorities and certificates that change on disk while an exporter serves, for both modules."""

import base64
import json
import os
import pty
import re
import select
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

import pytest

from tests.certificates import authority, encrypted_key, issue, self_signed
from tests.live.cluster import eventually
from tests.live.processes import MODULE, ROOT, Served, free_port, serving
from tests.live.tls import TLSUpstream, context, serial, upstream_with

TOKENS = {"STAYTUS_API_TOKEN": "t0ken", "STAYTUS_API_SECRET": "s3cret"}
UP = {"patroni": None, "staytus": None}


@contextmanager
def exporter(folder: Path, url: str, variables: Mapping[str, object]) -> Iterator[Served]:
    """An exporter of both modules at this URL; `*_NAME` is a variable of each."""
    environ = {"PATRONI_EXPORTER_URL": url, "STAYTUS_API_URL": url, "POLLING_INTERVAL_SECONDS": "1", "DEBUG": "yes"}
    for name, value in variables.items():
        environ |= {name.replace("*", prefix): str(value) for prefix in ("PATRONI_EXPORTER", "STAYTUS")}
    with free_port() as port, serving(folder, port, [*MODULE, "--port", str(port)], environ=environ) as served:
        yield served


def told(served: Served) -> dict[str, str | None]:
    """The reason for which each module is down, None when it is up."""
    modules = json.loads(served.get("/health")[1])["modules"]
    return {name: module["reason"] for name, module in modules.items()}


def both(reason: str) -> dict[str, str | None]:
    return dict.fromkeys(UP, reason)


def basic(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


def carried(server: TLSUpstream, path: str) -> dict[str, str]:
    """The keys that the last request for this path carried."""
    names = ("Authorization", "X-Auth-Token", "X-Auth-Secret", "X-Proxy", "X-Other", "X-Forwarded-Proto")
    headers = next(headers for asked, headers in reversed(server.requests) if asked == path)
    return {name: headers[name] for name in names if name in headers}


def everything_carried(server: TLSUpstream) -> list[dict[str, str]]:
    return [carried(server, "/patroni"), carried(server, "/api/v1/services/all")]


# Secrets --------------------------------------------------------------------------------------------------------------


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


def test_secrets_are_read_from_their_files_again_with_each_request(files: dict[str, Path], tmp_path: Path) -> None:
    with upstream_with(None) as server, exporter(tmp_path, server.url, {**files, "*_USERNAME": "pat"}) as served:
        assert told(served) == UP
        more = {"Authorization": basic("pat", "p4ssw0rd"), "X-Proxy": "pr0xy"}
        assert everything_carried(server) == [more, {**more, "X-Auth-Token": "t0ken", "X-Auth-Secret": "s3cret"}]
        files["*_PASSWORD_FILE"].write_text("n3wpass")
        files["*_HEADERS_FILE"].write_text("X-Proxy: n3wproxy\nX-Other: n3wother\n")
        files["STAYTUS_API_TOKEN_FILE"].write_text("n3wt0ken\r\n")
        files["STAYTUS_API_SECRET_FILE"].write_text("\ufeffn3ws3cret")
        more = {"Authorization": basic("pat", "n3wpass"), "X-Proxy": "n3wproxy", "X-Other": "n3wother"}
        expected = [more, {**more, "X-Auth-Token": "n3wt0ken", "X-Auth-Secret": "n3ws3cret"}]
        eventually(lambda: [told(served), everything_carried(server)], [UP, expected])


@pytest.mark.parametrize(
    ("variable", "bad", "expected"),
    [
        ("*_PASSWORD_FILE", b"h1dden\nh1dden", "a password, one line"),
        ("*_PASSWORD_FILE", b"h1dden\xff", "a password, one line"),
        ("*_HEADERS_FILE", b"h1dden", "lines of the form Name: value, each name once"),
        ("STAYTUS_API_TOKEN_FILE", b"h1dden\nX-Auth-Secret: h1dden", "the value of X-Auth-Token, one line of ASCII"),
        ("STAYTUS_API_SECRET_FILE", "h1ddén".encode(), "the value of X-Auth-Secret, one line of ASCII"),
    ],
)
def test_module_is_down_while_its_secret_cannot_be_read(
    variable: str, bad: bytes, expected: str, files: dict[str, Path], tmp_path: Path
) -> None:
    def down(reason: str) -> dict[str, str | None]:
        return both(reason) if variable.startswith("*") else {**UP, "staytus": reason}

    file = files[variable]
    good = file.read_bytes()
    with upstream_with(None) as server, exporter(tmp_path, server.url, {**files, "*_USERNAME": "pat"}) as served:
        assert told(served) == UP
        for content in (b"", b"\n", bad):
            file.write_bytes(content)
            eventually(lambda: told(served), down(f"{file}: expected a file that holds {expected}"))
        file.unlink()
        eventually(lambda: told(served), down(f"{file}: no such file or directory"))
        file.mkdir()
        eventually(lambda: told(served), down(f"{file}: is a directory"))
        file.rmdir()
        file.write_bytes(good)
        eventually(lambda: told(served), UP)
        log = served.log.read_text()
        assert [word for word in ("h1dd", "p4ssw0rd", "pr0xy", "t0ken", "s3cret", "Traceback") if word in log] == []


# Certificates ---------------------------------------------------------------------------------------------------------


def test_client_certificate_that_is_replaced_is_shown_although_a_connection_is_kept(tmp_path: Path) -> None:
    ca = authority(tmp_path / "ca.pem")
    asking = context(issue(ca, tmp_path, "server", "localhost"), tmp_path / "ca.pem")
    client = issue(ca, tmp_path, "client")
    first = serial(client)
    keys = {"*_CERT_FILE": client.cert, "*_KEY_FILE": client.key, "*_REQUEST_VERIFY": tmp_path / "ca.pem", **TOKENS}
    with upstream_with(asking) as server, exporter(tmp_path, server.url, keys) as served:
        assert told(served) == UP
        eventually(lambda: told(served), UP)
        assert set(server.clients) == {first}
        connections = len(server.clients)
        assert [told(served) for _ in range(3)] == [UP] * 3
        assert len(server.clients) == connections  # they are kept
        server.clients.clear()
        issue(ca, tmp_path, "client")
        seen = len(server.requests)
        eventually(lambda: {told(served)["staytus"], *server.paths[seen:]}, {None, "/patroni", "/api/v1/services/all"})
        assert set(server.clients) == {serial(client)} != {first}


def test_client_certificate_and_key_that_do_not_belong_together_are_told_until_they_do(tmp_path: Path) -> None:
    ca = authority(tmp_path / "ca.pem")
    client, other = issue(ca, tmp_path, "client"), issue(ca, tmp_path, "other")
    keys = {"*_CERT_FILE": client.cert, "*_KEY_FILE": client.key, "*_REQUEST_VERIFY": tmp_path / "ca.pem", **TOKENS}
    server_context = context(issue(ca, tmp_path, "server", "localhost"), tmp_path / "ca.pem")
    wrong = f"{client.cert} and {client.key}: expected a certificate and its private key, without a passphrase, in PEM"
    with upstream_with(server_context) as server, exporter(tmp_path, server.url, keys) as served:
        assert told(served) == UP
        good = client.key.read_bytes()
        for content, reason in (
            (other.key.read_bytes(), wrong),
            (encrypted_key(tmp_path / "encrypted.key", old=False).read_bytes(), wrong),
            (client.cert.read_bytes(), wrong),
            (b"", f"{client.key}: expected PEM"),
        ):
            client.key.write_bytes(content)
            eventually(partial(told, served), both(reason))
        client.key.write_bytes(good)
        eventually(lambda: told(served), UP)


def test_authorities_that_are_replaced_count_at_once(tmp_path: Path) -> None:
    bundle = tmp_path / "bundle.pem"
    old, new = authority(tmp_path / "old.pem"), authority(tmp_path / "new.pem")
    bundle.write_bytes((tmp_path / "old.pem").read_bytes())
    server_context = context(issue(old, tmp_path, "server", "localhost"))
    variables = {"*_REQUEST_VERIFY": bundle, **TOKENS}
    with upstream_with(server_context) as server, exporter(tmp_path, server.url, variables) as served:
        assert told(served) == UP
        bundle.write_bytes((tmp_path / "new.pem").read_bytes())
        untrusted = both("TLS: the server's certificate comes of an authority that is not trusted")
        eventually(lambda: told(served), untrusted)
        server.context = context(issue(new, tmp_path, "server", "localhost"))
        eventually(lambda: told(served), UP)
        bundle.write_text("")
        eventually(lambda: told(served), both(f"{bundle}: expected PEM"))
        bundle.unlink()
        eventually(lambda: told(served), both(f"{bundle}: no such file or directory"))
        bundle.write_bytes((tmp_path / "new.pem").read_bytes())
        eventually(lambda: told(served), UP)


def test_verification_that_is_off_is_said_once_for_each_module_and_works(tmp_path: Path) -> None:
    with upstream_with(context(self_signed(tmp_path, "elsewhere.example"))) as server:
        with exporter(tmp_path, server.url, {"*_REQUEST_VERIFY": "false", **TOKENS}) as served:
            assert [told(served) for _ in range(3)] == [UP] * 3
            said = [(event["msg"], event["module"]) for event in served.events() if event["level"] == "WARN"]
        assert said == [("TLS certificate is not verified", name) for name in UP]


def test_examples_of_the_paper_do_what_they_show(files: dict[str, Path], tmp_path: Path) -> None:
    section = (
        (ROOT / "docs" / "security.md").read_text().partition("\n## Keys to the upstream\n")[2].partition("\n## ")[0]
    )
    patroni, staytus = re.findall(r"^```console\n(.*?)^```$", section, re.MULTILINE | re.DOTALL)
    ca = authority(tmp_path / "ca.pem")
    issue(ca, tmp_path, "client")
    for variable in ("*_PASSWORD_FILE", "STAYTUS_API_TOKEN_FILE", "STAYTUS_API_SECRET_FILE"):
        files[variable].rename(tmp_path / variable.lower().split("_")[-2])
    asking = context(issue(ca, tmp_path, "patroni", "localhost"), tmp_path / "ca.pem")
    with (
        upstream_with(asking) as door,
        upstream_with(context(issue(ca, tmp_path, "staytus", "status.example.org"))) as proxy,
    ):
        assert shown(patroni.replace("localhost:8008", f"localhost:{door.server_port}"), tmp_path)
        assert shown(staytus.replace("127.0.0.1:8443", f"127.0.0.1:{proxy.server_port}"), tmp_path)
        assert carried(proxy, "/api/v1/services/all") == {
            "Authorization": basic("prometheus", "p4ssw0rd"),
            "X-Auth-Token": "t0ken",
            "X-Auth-Secret": "s3cret",
            "X-Forwarded-Proto": "https",
        }


def shown(example: str, folder: Path) -> bool:
    """Does the shell write in this folder what stands below the commands of the example?"""
    commands = [line.removeprefix("$ ") for line in example.splitlines() if line.startswith("$ ")]
    environ = {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        ["bash", "-c", "\n".join(commands)],
        cwd=folder,
        env={**environ, "EXPORTER_ENV_FILE": os.devnull},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    return done.stdout.splitlines() == [line for line in example.splitlines() if not line.startswith("$ ")]


SCRAPE = "import runpy, sys; sys.argv = ['exporter', 'scrape']; runpy.run_module('exporter', run_name='__main__')"
ASK = """
from exporter.upstream.client import Fetcher, wait; from exporter.upstream.target import Target; import sys
target = Target(sys.argv[1], 5, False, cert_file=sys.argv[2], key_file=sys.argv[3])
wait([flight := Fetcher().ask(target, "x", str)], 10)
print(flight.error)
"""


def on_a_terminal(code: str, *arguments: str, environ: Mapping[str, str] = {}) -> str:
    """What this code writes, with a terminal that a passphrase could be asked for on, and where nobody answers."""
    terminal, other = pty.openpty()
    code = f"import os; os.open(os.ttyname(0), os.O_RDWR)\n{code}"
    with subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        env={"PYTHONPATH": str(ROOT), "EXPORTER_ENV_FILE": os.devnull, **environ},
        stdin=other,
        stdout=other,
        stderr=other,
        start_new_session=True,
    ) as process:
        os.close(other)
        try:
            written = b""
            with suppress(OSError):  # the terminal is gone with its last process
                while select.select([terminal], [], [], 20)[0]:
                    written += os.read(terminal, 4096)
        finally:
            process.kill()
            os.close(terminal)
    return written.decode().strip()


def test_nobody_is_asked_for_the_passphrase_of_a_key(tmp_path: Path) -> None:
    client = issue(authority(tmp_path / "ca.pem"), tmp_path, "client")
    key = str(encrypted_key(tmp_path / "encrypted.key", old=False))
    environ = {
        "PATRONI_EXPORTER_URL": "https://localhost",
        "PATRONI_EXPORTER_CERT_FILE": str(client.cert),
        "PATRONI_EXPORTER_KEY_FILE": key,
    }
    assert on_a_terminal(SCRAPE, environ=environ) == (
        f"patroni-staytus-exporter: PATRONI_EXPORTER_CERT_FILE={str(client.cert)!r}: expected its private key, without "
        f"a passphrase, in PATRONI_EXPORTER_KEY_FILE={key!r}"
    )
    with upstream_with(context(self_signed(tmp_path, "localhost"))) as server:
        assert on_a_terminal(ASK, server.url, str(client.cert), key) == (
            f"{client.cert} and {key}: expected a certificate and its private key, without a passphrase, in PEM"
        )
