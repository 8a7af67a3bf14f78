"""No secret leaves the exporter: every option has one, and the log is at debug level."""

import base64
import html
import json
import socket
import time
import traceback
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import quote

import pytest

from exporter.config.errors import ConfigError
from exporter.config.options import OPTIONS, Option
from exporter.config.settings import Settings
from tests.limits.servers import Odd, whole
from tests.live.processes import MODULE, Served, free_port, run, running_exporter, serving
from tests.web_config import basic, users, web_config

SECRETS = [option for option in OPTIONS if option.secret]
URLS = [option for option in OPTIONS if option.variable in ("PATRONI_EXPORTER_URL", "STAYTUS_API_URL")]


def core(option: Option) -> str:
    """The part of the secret that is the same in every spelling but base64."""
    return f"c4n4{'abcdefghijklmnopqrstuvwxyz'[(SECRETS + URLS).index(option)] * 6}ry9"


def secret(option: Option) -> str:
    """A secret with special characters; only a password can have others than ASCII."""
    return core(option) + ("\"</&%'+ =é" if option.variable.endswith("_PASSWORD") or option in URLS else "\"</&%'+ =;")


def leaks(text: str) -> set[str]:
    """The options whose secret is in the text."""
    return {option.variable for option in SECRETS + URLS if contains(text, core(option))}


def contains(text: str, secret: str) -> bool:
    """Whether the text has the secret as it is, in hexadecimal, or in base64 as part of a longer text."""
    spellings = [secret, secret.encode().hex()]
    for shift in (0, 1, 2):
        encoded = base64.b64encode(b"." * shift + secret.encode()).decode()
        spellings.append(encoded[4 if shift else 0 : (shift + len(secret)) * 8 // 6])
    return any(spelling in text for spelling in spellings)


def text_of(option: Option) -> str:
    """A value of the option with its secret."""
    name = f"X-{option.variable.replace('_', '-')}"
    return f"{name}: {secret(option)}" if option.variable.endswith("_HEADERS") else secret(option)


def environ_of(source: str, url: str, folder: Path) -> dict[str, str]:
    """The environment with every secret: in variables, in files, or in `.env` with userinfo in the URLs."""
    secrets = {option.variable: text_of(option) for option in SECRETS}
    passwords = [variable for variable in secrets if variable.endswith("_PASSWORD")]
    plain = {option.variable: url for option in URLS}
    plain |= {variable.replace("_PASSWORD", "_USERNAME"): "user" for variable in passwords}
    if source == "variables":
        return {**plain, **secrets}
    if source == "files":
        for variable, text in secrets.items():
            (folder / variable).write_text(text + "\n")
        return {**plain, **{f"{variable}_FILE": str(folder / variable) for variable in secrets}}
    texts = {option.variable: url.replace("://", f"://user:{quote(secret(option), safe='')}@") for option in URLS}
    texts |= {variable: text for variable, text in secrets.items() if variable not in passwords}
    escaped = {name: text.replace("\\", "\\\\").replace("'", "\\'") for name, text in texts.items()}
    (folder / "env").write_text("".join(f"{name}='{text}'\n" for name, text in escaped.items()))
    return {"EXPORTER_ENV_FILE": str(folder / "env")}


def sent(source: str) -> set[str]:
    """The options whose secret is in a request."""
    options = URLS + SECRETS if source == ".env" else SECRETS
    return {option.variable for option in options if source != ".env" or not option.variable.endswith("_PASSWORD")}


class Echo:
    """A server that returns the secrets of a request in one of several forms; it keeps the requests."""

    def __init__(self) -> None:
        self.requests = ""
        self.form = "its headers"

    def __call__(self, connection: socket.socket) -> None:
        head = b""
        while b"\r\n\r\n" not in head:
            if not (part := connection.recv(65536)):
                return
            head += part
        text = head.decode("latin-1")
        self.requests += text
        secrets = " ".join(line.partition(": ")[2] for line in text.splitlines()[1:] if line[:2] in ("X-", "Au"))
        for line in text.splitlines()[1:]:
            if line.startswith("Authorization: Basic "):
                secrets += " " + base64.b64decode(line.rpartition(" ")[2]).decode()
        connection.sendall(self.forms(text, secrets)[self.form])

    @staticmethod
    def forms(text: str, secrets: str) -> Mapping[str, bytes]:
        plain = secrets.encode("ascii", "replace").decode()
        keys = ("patroni", "state", "role", "status", "data", "members", "ttl", "loop_wait", "active")
        return {
            "its headers": whole(secrets.encode(), "400 Bad Request"),
            "HTML": whole(f"<p>{html.escape(secrets)}".encode(), "500 Internal Server Error"),
            "URL": whole(quote(secrets).encode()),
            "JSON": whole(json.dumps(dict.fromkeys(keys, secrets)).encode()),
            "JSON text": whole(json.dumps(secrets).encode()),
            "JSON rows": whole(json.dumps([secrets, [secrets]]).encode()),
            "redirect": whole(secrets.encode(), "302 Found", f"Location: /elsewhere?{quote(secrets)}"),
            "not HTTP": f"{secrets}\r\n{text}".encode("latin-1", "replace"),
            "headers": whole(b"x", "200 OK", f"X-Told: {plain}", f"Content-Encoding: {plain}"),
            "status": whole(b"x", f"200 {plain}"),
            "version": f"HTTP/{plain} 200 OK\r\n\r\n".encode(),
            "length": f"HTTP/1.1 200 OK\r\nContent-Length: {plain}\r\n\r\n".encode(),
            "chunk": f"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{plain}\r\n".encode(),
        }


PATHS = ("/metrics", "/health", "/", "/-/healthy", "/nothing", "/metrics?name[]=<", "/probe?target=x", "/sd", "/%00")


def ask(exporter: Served, path: str, user: str, password: str, method: str = "GET") -> tuple[int, str]:
    """The status of a response, and all of its text."""
    headers = {"Authorization": basic(user, password), "X_Auth_Token": password}
    response = exporter.request(path, method, seconds=30, **headers)
    return response.status, f"{response.status} {response.headers} {response.body.decode()}"


@pytest.mark.parametrize("source", ["variables", "files", ".env"])
def test_options(source: str, tmp_path: Path) -> None:
    echo, own = Echo(), secret(SECRETS[0])
    with Odd(echo) as server:
        environ = {"POLLING_INTERVAL_SECONDS": "1", **environ_of(source, server.url, tmp_path)}
        with running_exporter(tmp_path, "--log.level", "debug", environ=environ) as exporter:
            pids = (exporter.process.pid, *exporter.workers())
            output = "".join(Path(f"/proc/{pid}/cmdline").read_text() for pid in pids)
            for form in echo.forms("", ""):
                echo.form = form
                pages = ""
                for method in ("GET", "POST"):
                    for path in PATHS:
                        path += f"{'&' if '?' in path else '?'}token={quote(own)}"
                        pages += ask(exporter, path, "user", own, method)[1]
                assert '"status":"unhealthy"' in pages
                assert "\npatroni_up 0.0\n" in pages
                output += pages
                time.sleep(1.1)  # until Staytus is read again
            exporter.end()
    assert leaks(echo.requests) == sent(source)
    log = exporter.log.read_text()
    assert "level=DEBUG" in log
    assert "scrape failed" in log
    assert leaks(output + log) == set()


#: The secrets of a modules file, and a password whose hash is in the web configuration file.
WORD, HEADER, BEARER, TOKEN, SECRET, PASSWORD = OF_FILES = [f"c4n4{letter * 6}ry9" for letter in "uvwxyz"]
MODULES = f"""\
modules:
  patroni:
    collector: patroni
    basic_auth: {{username: u, password: {WORD}}}
    http_headers: {{X-Told: {{secrets: [{HEADER}]}}}}
    targets: [127.0.0.1]
  bearer: {{collector: patroni, authorization: {{credentials: {BEARER}}}, targets: [127.0.0.1]}}
  staytus: {{collector: staytus, token: {TOKEN}, secret: {SECRET}, interval: 0, targets: [127.0.0.1]}}
"""


def test_files(tmp_path: Path) -> None:
    """The modules file and the web configuration file, good and bad."""
    echo, modules = Echo(), tmp_path / "modules.yml"
    modules.write_text(MODULES)
    web = Path(web_config(tmp_path, users(alice=PASSWORD)))
    digest = web.read_text().rpartition("$")[2].strip()
    output = ""
    with Odd(echo) as server, free_port() as port:
        command = (*MODULE, "--port", str(port), "--config.file", str(modules), "--web.config.file", str(web))
        with serving(tmp_path, port, (*command, "--web.enable-lifecycle", "--debug")) as exporter:

            def status(path: str, password: str = PASSWORD, method: str = "GET") -> int:
                nonlocal output
                found, text = ask(exporter, path, "alice", password, method)
                output += text
                return found

            for form in echo.forms("", ""):
                echo.form = form
                for name in ("patroni", "bearer", "staytus"):
                    target = f"module={name}&target={quote(server.url)}"
                    assert [status(f"/probe?{target}{debug}") for debug in ("", "&debug=true")] == [200, 200]
                assert status(f"/sd?module=patroni&target={quote(server.url)}") == 503
            assert status("/", HEADER) == 401
            for text in OF_FILES[:-1]:
                for bad in (f"*{text}", f'"{text}\\n"', f"[{text}]", f"{text}: {text}", f'"{text}\\z"'):
                    modules.write_text(MODULES.replace(text, bad))
                    assert status("/-/reload", method="POST") == 500
            web.write_text(f"basic_auth_users: {{alice: {PASSWORD}}}")
            assert status("/") == 200
            output += run((*command, "check"), cwd=tmp_path)[1]
            exporter.end()
    output += exporter.log.read_text()
    assert "***" in output
    assert [text for text in OF_FILES if contains(echo.requests, text)] == OF_FILES[:-1]
    assert [text for text in (*OF_FILES, digest) if contains(output, text)] == []


@pytest.mark.parametrize(("source", "command"), [("variables", "check"), ("files", "check"), (".env", "scrape")])
def test_commands(source: str, command: str, tmp_path: Path) -> None:
    echo = Echo()
    with Odd(echo) as plain, Odd(echo, tls=True) as tls:
        https = plain.url.replace("http:", "https:")
        for url in (plain.url, tls.url, https, "http://127.0.0.1:1", "http://no.invalid"):
            environ = {**environ_of(source, url, tmp_path), "DEBUG": "1"}
            status, output = run((*MODULE, command), cwd=tmp_path, environ=environ)
            assert (status, url.partition("://")[2] in output) == (1 if command == "check" else 0, True)
            assert leaks(output) == set()
    assert leaks(echo.requests) == sent(source)


BAD = [
    *((option.variable, f"{text_of(option)}\x07") for option in SECRETS),
    *((option.variable, url) for option in URLS for url in (
        f"http://user:{secret(option)}@h:0", f"http://{secret(option)}@", f"user:{secret(option)}@h",
        f"http://user:{quote(secret(option))}@h:x/", f"ftp://{quote(secret(option))}:{quote(secret(option))}@h/",
    )),
]  # fmt: skip


@pytest.mark.parametrize(("variable", "text"), BAD)
def test_errors(variable: str, text: str, tmp_path: Path) -> None:
    assert leaks(text)
    (tmp_path / "secret").write_text(text)
    environs = [{variable: text}]
    if variable in {option.variable for option in SECRETS}:
        environs.append({f"{variable}_FILE": str(tmp_path / "secret")})
    for environ in environs:
        with pytest.raises(ConfigError) as error:
            Settings.load({"EXPORTER_ENV_FILE": "/dev/null", **environ})
        assert leaks("".join(traceback.format_exception(error.value)) + repr(error.value)) == set()
