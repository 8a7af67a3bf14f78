"""Secrets: each that can be given is given, all goes wrong at debug level, and none is in anything that comes out."""

import base64
import html
import http.client
import json
import socket
import time
import traceback
from collections.abc import Iterator, Mapping
from pathlib import Path
from urllib.parse import quote

import pytest

from exporter.config.errors import ConfigError
from exporter.config.options import OPTIONS, PATRONI, STAYTUS, Option
from exporter.config.settings import Settings, given_settings
from exporter.scrape.scrape import read
from exporter.upstream.client import Fetcher
from tests.limits.servers import Odd, whole
from tests.live.processes import MODULE, Served, free_port, run, serving
from tests.locks import users, web_config

SECRETS = [option for option in OPTIONS if option.secret]
URLS = [PATRONI.url, STAYTUS.url]


def core(option: Option) -> str:
    """The part of its secret that is the same in every spelling but base64's."""
    return f"c4n4{'abcdefghijklmnopqrstuvwxyz'[(SECRETS + URLS).index(option)] * 6}ry9"


def canary(option: Option) -> str:
    """A secret for this option, with odd signs; only a password may have some that are not ASCII."""
    return core(option) + ("\"</&%'+ =é" if option.variable.endswith("_PASSWORD") or option in URLS else "\"</&%'+ =;")


def leaks(text: str) -> set[str]:
    """The options whose secret stands in the text: as it is, or in base64 wherever in something longer."""
    return {option.variable for option in SECRETS + URLS if any(part in text for part in _parts(core(option)))}


def _parts(secret: str) -> Iterator[str]:
    yield from (secret, secret.encode().hex())
    for shift in (0, 1, 2):
        encoded = base64.b64encode(b"." * shift + secret.encode()).decode()
        yield encoded[4 if shift else 0 : (shift + len(secret)) * 8 // 6]


def text_of(option: Option) -> str:
    """What is given for the option, with the canary in it."""
    name = f"X-{option.variable.replace('_', '-')}"
    return f"{name}: {canary(option)}" if option.variable.endswith("_HEADERS") else canary(option)


def with_userinfo(url: str, option: Option) -> str:
    return url.replace("://", f"://user:{quote(canary(option), safe='')}@")


def given(way: str, url: str, folder: Path) -> dict[str, str]:
    """The environment with every secret: in variables, in files of their own, or in `.env` with userinfo in URLs."""
    secrets = {option.variable: text_of(option) for option in SECRETS}
    passwords = [variable for variable in secrets if variable.endswith("_PASSWORD")]
    names = {variable.replace("_PASSWORD", "_USERNAME"): "user" for variable in passwords}
    plain = {option.variable: url for option in URLS}
    if way == "variables":
        return {**plain, **secrets, **names}
    if way == "files":
        for variable, text in secrets.items():
            (folder / variable).write_text(text + "\n")
        return {**plain, **{f"{variable}_FILE": str(folder / variable) for variable in secrets}, **names}
    urls = {option.variable: with_userinfo(url, option) for option in URLS}
    kept = {variable: text for variable, text in secrets.items() if variable not in passwords}
    escaped = {name: text.replace("\\", "\\\\").replace("'", "\\'") for name, text in {**urls, **kept}.items()}
    (folder / "env").write_text("".join(f"{name}='{text}'\n" for name, text in escaped.items()))
    return {"EXPORTER_ENV_FILE": str(folder / "env")}


def in_use(way: str) -> set[str]:
    """The options whose secrets an upstream is shown."""
    if way == ".env":
        return {option.variable for option in URLS + SECRETS if not option.variable.endswith("_PASSWORD")}
    return {option.variable for option in SECRETS}


class Repeating:
    """A server that says again what it was sent, in one way after another, and keeps it."""

    def __init__(self) -> None:
        self.heard = ""
        self.way = ""

    def __call__(self, connection: socket.socket) -> None:
        head = b""
        while b"\r\n\r\n" not in head:
            if not (part := connection.recv(65536)):
                return
            head += part
        text = head.decode("latin-1")
        self.heard += text
        told = " ".join(line.partition(": ")[2] for line in text.splitlines()[1:] if line[:2] in ("X-", "Au"))
        for line in text.splitlines()[1:]:
            if line.startswith("Authorization: Basic "):
                told += " " + base64.b64decode(line.rpartition(" ")[2]).decode()
        connection.sendall(self.answers(text, told)[self.way])

    @staticmethod
    def answers(text: str, told: str) -> Mapping[str, bytes]:
        plain = told.encode("ascii", "replace").decode()
        keys = ("patroni", "state", "role", "status", "data", "members", "ttl", "loop_wait", "active")
        return {
            "its headers alone": whole(told.encode(), "400 Bad Request"),
            "as HTML": whole(f"<p>{html.escape(told)}".encode(), "500 Internal Server Error"),
            "as a URL": whole(quote(told).encode()),
            "as JSON": whole(json.dumps(dict.fromkeys(keys, told)).encode()),
            "as JSON's text": whole(json.dumps(told).encode()),
            "as rows": whole(json.dumps([told, [told]]).encode()),
            "as a redirect": whole(told.encode(), "302 Found", f"Location: /elsewhere?{quote(told)}"),
            "as no HTTP": f"{told}\r\n{text}".encode("latin-1", "replace"),
            "as headers": whole(b"x", "200 OK", f"X-Told: {plain}", f"Content-Encoding: {plain}"),
            "as a status": whole(b"x", f"200 {plain}"),
            "as a version": f"HTTP/{plain} 200 OK\r\n\r\n".encode(),
            "as a length": f"HTTP/1.1 200 OK\r\nContent-Length: {plain}\r\n\r\n".encode(),
            "as a chunk": f"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{plain}\r\n".encode(),
        }


DOORS = ("/metrics", "/health", "/", "/-/healthy", "/nothing", "/metrics?name[]=<", "/probe?target=x", "/sd", "/%00")


def visit(exporter: Served) -> Iterator[str]:
    """Everything that comes through the doors, for somebody who shows a secret of his own."""
    own = canary(SECRETS[0])
    headers = {"Authorization": f"Basic {base64.b64encode(f'user:{own}'.encode()).decode()}", "X-Auth-Token": own}
    for method in ("GET", "POST"):
        for door in DOORS:
            connection = http.client.HTTPConnection("127.0.0.1", exporter.port, timeout=30)
            target = f"{door}{'&' if '?' in door else '?'}token={quote(own)}"
            connection.request(method, target, headers=headers)
            answer = connection.getresponse()
            yield f"{answer.status} {answer.headers} {answer.read().decode()}"
            connection.close()


def command_lines(exporter: Served) -> str:
    """The arguments of all its processes, which everybody on the machine can read."""
    return "".join(Path(f"/proc/{pid}/cmdline").read_text() for pid in (exporter.process.pid, *exporter.workers()))


@pytest.mark.parametrize("way", ["variables", "files", ".env"])
def test_no_secret_comes_out_of_what_serves_whatever_goes_wrong(way: str, tmp_path: Path) -> None:
    server = Repeating()
    with Odd(server) as odd, free_port() as port:
        environ = {
            "PATRONI_EXPORTER_PORT": str(port), "POLLING_INTERVAL_SECONDS": "1", "EXPORTER_LOG_LEVEL": "debug",
            **given(way, odd.url, tmp_path),
        }  # fmt: skip
        with serving(tmp_path, port, environ=environ) as exporter:
            out = command_lines(exporter)
            for way_back in server.answers("", ""):
                server.way = way_back
                told = "".join(visit(exporter))
                assert '"status":"unhealthy"' in told
                assert "\npatroni_up 0.0\n" in told
                out += told
                time.sleep(1.1)  # until Staytus is asked anew
            exporter.end()
    assert leaks(server.heard) == in_use(way)  # else nothing was tried
    log = exporter.log.read_text()
    assert "***" in log
    assert "level=DEBUG" in log
    assert leaks(out) | leaks(log) == set()


#: The secrets of a modules file, and the password of somebody whose hash the web configuration file has.
WORD, HEADER, BEARER, TOKEN, SECRET, LOGIN = OF_FILES = [f"c4n4{letter * 6}ry9" for letter in "uvwxyz"]
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


def test_no_secret_of_the_two_files_comes_out_whatever_goes_wrong(tmp_path: Path) -> None:
    server, modules = Repeating(), tmp_path / "modules.yml"
    modules.write_text(MODULES)
    web = web_config(tmp_path, users(alice=LOGIN))
    digest = Path(web).read_text().rpartition("$")[2].strip()
    out = ""
    with Odd(server) as odd, free_port() as port:
        line = (*MODULE, "--port", str(port), "--config.file", str(modules), "--web.config.file", web)
        with serving(tmp_path, port, (*line, "--web.enable-lifecycle", "--debug")) as exporter:

            def ask(path: str, password: str = LOGIN, method: str = "GET") -> int:
                nonlocal out
                connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
                login = base64.b64encode(f"alice:{password}".encode()).decode()
                connection.request(method, path, headers={"Authorization": f"Basic {login}"})
                answer = connection.getresponse()
                out += f"{answer.headers} {answer.read().decode()}"
                connection.close()
                return answer.status

            for way_back in server.answers("", ""):
                server.way = way_back
                for name in ("patroni", "bearer", "staytus"):
                    target = f"module={name}&target={quote(odd.url)}"
                    assert [ask(f"/probe?{target}{debug}") for debug in ("", "&debug=true")] == [200, 200]
                assert ask(f"/sd?module=patroni&target={quote(odd.url)}") == 503
            assert ask("/", HEADER) == 401
            for secret in OF_FILES[:-1]:
                for bad in (f"*{secret}", f'"{secret}\\n"', f"[{secret}]", f"{secret}: {secret}", f'"{secret}\\z"'):
                    modules.write_text(MODULES.replace(secret, bad))
                    assert ask("/-/reload", method="POST") == 500
            Path(web).write_text(f"basic_auth_users: {{alice: {LOGIN}}}")
            assert ask("/") == 200
            out += "".join(run((*line, "check"), cwd=tmp_path)[1])
            exporter.end()
    log = exporter.log.read_text()
    assert "***" in log
    heard, leaked = (
        [secret for secret in OF_FILES if any(part in text for part in _parts(secret))]
        for text in (server.heard, out + log)
    )
    assert (heard, leaked) == (OF_FILES[:-1], [])
    assert digest not in out + log


@pytest.mark.parametrize(("way", "command"), [("variables", "check"), ("files", "check"), (".env", "scrape")])
def test_no_secret_comes_out_of_a_command(way: str, command: str, tmp_path: Path) -> None:
    server = Repeating()
    server.way = "its headers alone"
    with Odd(server) as odd, Odd(server, tls=True) as tls:
        for url in (odd.url, tls.url, odd.url.replace("http:", "https:"), "http://127.0.0.1:1", "http://no.invalid"):
            environ = {**given(way, url, tmp_path), "DEBUG": "1"}
            status, output = run((*MODULE, command), cwd=tmp_path, environ=environ)
            assert (status, url.partition("://")[2] in output) == (1 if command == "check" else 0, True)
            assert leaks(output) == set()
    assert leaks(server.heard) == in_use(way)


WRONG = [
    *((option.variable, f"{text_of(option)}\x07") for option in SECRETS),
    *((option.variable, url) for option in URLS for url in (
        f"http://user:{canary(option)}@h:0", f"http://{canary(option)}@", f"user:{canary(option)}@h",
        f"http://user:{quote(canary(option))}@h:x/", f"ftp://{quote(canary(option))}:{quote(canary(option))}@h/",
    )),
]  # fmt: skip


@pytest.mark.parametrize(("variable", "text"), WRONG)
def test_no_secret_comes_out_of_a_value_that_is_refused(variable: str, text: str, tmp_path: Path) -> None:
    assert leaks(text)
    (tmp_path / "secret").write_text(text)
    secret = variable in {option.variable for option in SECRETS}
    environs = [{variable: text}, *([{f"{variable}_FILE": str(tmp_path / "secret")}] if secret else [])]
    for environ in environs:
        with pytest.raises(ConfigError) as error:
            Settings.load({"EXPORTER_ENV_FILE": "/dev/null", **environ})
        assert leaks("".join(traceback.format_exception(error.value)) + repr(error.value)) == set()
    status, output = run(MODULE, cwd=tmp_path, environ=environs[-1])
    assert (status, output.count("\n"), leaks(output)) == (2, 1, set())


@pytest.mark.parametrize("way", ["variables", "files", ".env"])
def test_no_secret_is_in_what_python_shows_of_an_object(way: str, tmp_path: Path) -> None:
    server = Repeating()
    with Odd(server) as odd:
        environ = {"EXPORTER_ENV_FILE": "/dev/null", **given(way, odd.url, tmp_path)}
        settings = Settings.load(environ)
        shown = [repr(settings), repr(given_settings(environ))]
        for way_back in server.answers("", ""):
            server.way = way_back
            readings = read(settings.modules, fetcher := Fetcher(), 5.0)
            shown += [repr(readings), repr(fetcher), str(fetcher.__dict__)]
            errors = [document.flight.error for reading in readings for document in reading.documents]
            shown += ["".join(traceback.format_exception(error)) + repr(error) for error in errors if error]
            assert any(errors)
    assert leaks(server.heard) == in_use(way)
    assert leaks("".join(shown)) == set()


def test_every_spelling_is_found_that_is_looked_for() -> None:
    for option in SECRETS + URLS:
        secret = canary(option)
        for prefix in ("", "u:", "user:", "x"):
            assert leaks(base64.b64encode(f"{prefix}{secret}".encode()).decode()) == {option.variable}
        for spelling in (secret, quote(secret), repr(secret), json.dumps(secret), html.escape(secret)):
            assert leaks(spelling) == {option.variable}
    assert leaks("c4n4ry") == set()
