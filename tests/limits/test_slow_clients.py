"""Slow clients of a real gunicorn, without and with TLS: they keep no thread, and other clients are not delayed."""

import contextlib
import json
import socket
import ssl
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import trustme

from tests.certificates import HERE, issue
from tests.conftest import Upstream
from tests.live.processes import MODULE, Served, free_port, run, serving, until
from tests.web_config import tls, web_config

REQUEST = b"GET /-/healthy HTTP/1.1\r\nHost: h\r\n\r\n"

#: Attackers at once; the exporter has 2 threads.
MANY = 6

#: Seconds within which another client gets its response.
AT_ONCE = 1.5

pytestmark = pytest.mark.timeout(60)


@dataclass(frozen=True)
class Exporter:
    served: Served
    context: ssl.SSLContext | None

    def tcp(self, receive_buffer: int = 0) -> socket.socket:
        connection = socket.socket()
        if receive_buffer:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        connection.settimeout(20)
        connection.connect(("127.0.0.1", self.served.port))
        return connection

    def connect(self, receive_buffer: int = 0) -> socket.socket:
        connection = self.tcp(receive_buffer)
        return self.context.wrap_socket(connection, server_hostname="localhost") if self.context else connection

    def seconds(self) -> float:
        """Returns how long a new client waits for a response."""
        start = time.monotonic()
        with self.connect() as connection:
            connection.sendall(REQUEST)
            assert connection.recv(65536).startswith(b"HTTP/1.1 200 OK\r\n")
        return time.monotonic() - start

    def reasons(self) -> list[str]:
        return [event["reason"] for event in self.served.events("exporter.web") if "reason" in event]


@contextlib.contextmanager
def exporter(
    folder: Path, code: str, upstream: str, *, with_tls: bool = False, arguments: str = ""
) -> Iterator[Exporter]:
    """Starts an exporter with 2 threads after this code, with these arguments for gunicorn."""
    code = f"import exporter.__main__ as command, exporter.web.connections as c, exporter.web.gunicorn as g, sys;{code}"
    environ = {
        "STAYTUS_API_URL": upstream,
        "STAYTUS_API_TOKEN": "token",
        "STAYTUS_API_SECRET": "secret",
        "EXPORTER_THREADS": "2",
        "GUNICORN_CMD_ARGS": arguments,
    }
    context = None
    if with_tls:
        authority = trustme.CA()
        issue(authority, folder, "server", *HERE)
        environ["EXPORTER_WEB_CONFIG_FILE"] = web_config(folder, tls())
        context = ssl.create_default_context()
        authority.configure_trust(context)
    with free_port() as port:
        environ["EXPORTER_PORT"] = str(port)
        command = (MODULE[0], "-c", f"{code};sys.exit(command.main())")
        with serving(folder, port, command, environ=environ) as served:
            served.workers()
            yield Exporter(served, context)


SHORT = "c.HANDSHAKE = c.REQUEST = c.CLOSE = 1.0; c.RESPONSE = 3.0"

both = pytest.mark.parametrize("with_tls", [False, True], ids=["plain", "TLS"])


def closed_after(connection: socket.socket) -> float:
    """Reads to the end; returns the seconds until the server closed the connection."""
    start = time.monotonic()
    with contextlib.suppress(ConnectionError, ssl.SSLError):
        while connection.recv(65536):
            pass
    return time.monotonic() - start


@both
@pytest.mark.parametrize(
    ("complete", "more", "reasons"),
    [
        (b"", REQUEST[:-2], ["request timeout"]),
        (REQUEST, REQUEST[:-2], ["request timeout"]),
        (REQUEST[:-2] + b"Connection: close\r\n\r\n", b"", []),
        (REQUEST[:-2] + b"Content-Length: 9\r\n\r\n1", b"", []),
    ],
    ids=["incomplete request", "incomplete second request", "client that does not close", "body that never comes"],
)
def test_slow_clients_keep_no_thread(
    tmp_path: Path, upstream: Upstream, with_tls: bool, complete: bytes, more: bytes, reasons: list[str]
) -> None:
    with exporter(tmp_path, SHORT, upstream.url, with_tls=with_tls) as served, contextlib.ExitStack() as stack:
        slow = [stack.enter_context(served.connect()) for _ in range(MANY)]
        for connection in slow:
            if complete:
                connection.sendall(complete)
                assert connection.recv(65536).startswith(b"HTTP/1.1 200 OK\r\n")
            connection.sendall(more)
        assert served.seconds() < AT_ONCE
        assert all(closed_after(connection) < 3 for connection in slow)
        assert served.reasons() == reasons
        assert served.served.end() == 0


@both
def test_byte_by_byte_request_has_one_deadline(tmp_path: Path, upstream: Upstream, with_tls: bool) -> None:
    with exporter(tmp_path, SHORT, upstream.url, with_tls=with_tls) as served, contextlib.ExitStack() as stack:
        slow = [stack.enter_context(served.connect()) for _ in range(MANY)]
        start = time.monotonic()
        with contextlib.suppress(ConnectionError, ssl.SSLError):
            for byte in REQUEST:
                for connection in slow:
                    connection.sendall(bytes([byte]))
                if time.monotonic() - start < 0.8:
                    assert served.seconds() < AT_ONCE
                time.sleep(0.2)
        assert 0.9 < time.monotonic() - start < 3


@both
def test_oldest_of_too_many_silent_connections_is_closed(tmp_path: Path, upstream: Upstream, with_tls: bool) -> None:
    with (
        exporter(tmp_path, "pass", upstream.url, with_tls=with_tls, arguments="--worker-connections 20") as served,
        contextlib.ExitStack() as stack,
    ):
        silent = [stack.enter_context(served.tcp()) for _ in range(50)]
        assert served.seconds() < AT_ONCE
        assert closed_after(silent[0]) < 1
        newest = silent[-1]
        if served.context:
            newest = stack.enter_context(served.context.wrap_socket(newest, server_hostname="localhost"))
        newest.sendall(REQUEST)
        assert newest.recv(65536).startswith(b"HTTP/1.1 200 OK\r\n")
        assert served.reasons() == ["too many connections, this was the oldest"]


@pytest.mark.parametrize("arguments", ["", "--worker-connections 1000"])
def test_more_connections_than_file_descriptors(tmp_path: Path, upstream: Upstream, arguments: str) -> None:
    code = "import resource; resource.setrlimit(resource.RLIMIT_NOFILE, (60, 60))"
    with exporter(tmp_path, code, upstream.url, arguments=arguments) as served, contextlib.ExitStack() as stack:
        assert served.seconds() < AT_ONCE
        for _ in range(100):
            stack.enter_context(served.tcp())
        assert served.seconds() < AT_ONCE
        assert "Traceback" not in served.served.log.read_text()


def test_handshakes_that_stall_keep_no_thread(tmp_path: Path, upstream: Upstream) -> None:
    with exporter(tmp_path, SHORT, upstream.url, with_tls=True) as served, contextlib.ExitStack() as stack:
        slow = [stack.enter_context(served.tcp()) for _ in range(MANY)]
        for connection in slow:
            connection.sendall(b"\x16\x03\x01\x02\x00\x01")
        assert served.seconds() < AT_ONCE
        assert all(closed_after(connection) < 3 for connection in slow)
        assert served.reasons() == ["handshake timeout"]


def large(upstream: Upstream) -> Upstream:
    """Lets Staytus have so many services that a response of the exporter has more than 6 MB."""
    service = {"name": "n", "status": {"status_type": "ok", "permalink": "p", "name": "q"}}
    services = [{**service, "permalink": f"{number:0500}"} for number in range(2500)]
    upstream.answers["/api/v1/services/all"] = (200, json.dumps({"status": "success", "data": services}).encode())
    upstream.answers["/api/v1/issues/all"] = (200, b'{"status":"success","data":[]}')
    return upstream


SCRAPE = b"GET /metrics HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"


@both
def test_responses_that_clients_do_not_read_keep_no_thread(tmp_path: Path, upstream: Upstream, with_tls: bool) -> None:
    with (
        exporter(tmp_path, SHORT, large(upstream).url, with_tls=with_tls) as served,
        contextlib.ExitStack() as stack,
    ):
        for _ in range(3):
            connection = stack.enter_context(served.connect(32768))
            connection.sendall(SCRAPE)
            assert connection.recv(12) == b"HTTP/1.1 200"
        assert served.seconds() < AT_ONCE
        until(lambda: "response timeout" in served.reasons())
        assert served.seconds() < AT_ONCE


@both
def test_slow_reader_gets_the_whole_response(tmp_path: Path, upstream: Upstream, with_tls: bool) -> None:
    with exporter(tmp_path, "pass", large(upstream).url, with_tls=with_tls) as served:
        with served.connect(65536) as connection:
            connection.sendall(SCRAPE)
            head, _, body = connection.recv(4096).partition(b"\r\n\r\n")
            while data := connection.recv(1 << 20):
                body += data
                if len(body) < 1 << 20:
                    time.sleep(0.02)
        assert f"\r\nContent-Length: {len(body)}\r\n".encode() in head + b"\r\n"
        assert len(body) > 6_000_000


def test_unsent_responses_are_limited(tmp_path: Path, upstream: Upstream) -> None:
    with (
        exporter(tmp_path, "g.MAX_UNSENT = 8 << 20", large(upstream).url) as served,
        contextlib.ExitStack() as stack,
    ):
        for _ in range(3):
            connection = stack.enter_context(served.connect(32768))
            connection.sendall(SCRAPE)
            assert connection.recv(12) == b"HTTP/1.1 200"
        until(lambda: served.reasons() == ["too many bytes that clients have not received"])


@both
def test_requests_sent_together_get_their_responses(tmp_path: Path, upstream: Upstream, with_tls: bool) -> None:
    with exporter(tmp_path, "pass", upstream.url, with_tls=with_tls) as served, served.connect() as connection:
        connection.sendall(REQUEST * 3 + SCRAPE.replace(b"/metrics", b"/-/ready"))
        received = b"".join(iter(lambda: connection.recv(65536), b""))
    assert received.count(b"HTTP/1.1 200 OK\r\n") == received.count(b"\r\n\r\nOK\n") == 4


@both
def test_head_larger_than_the_limit_is_refused(tmp_path: Path, upstream: Upstream, with_tls: bool) -> None:
    with exporter(tmp_path, "pass", upstream.url, with_tls=with_tls) as served, served.connect() as connection:
        connection.sendall(REQUEST[:-2] + (b"A: " + b"b" * 8000 + b"\r\n") * 5)
        received = b"".join(iter(lambda: connection.recv(65536), b""))
    assert received.startswith(b"HTTP/1.1 431 Request Header Fields Too Large\r\n")
    assert received.endswith(b"\r\n\r\nrequest header fields too large: the log of the exporter has the reason\n")


def test_connections_end_with_the_exporter(tmp_path: Path, upstream: Upstream) -> None:
    with exporter(tmp_path, SHORT, upstream.url) as served, served.connect() as idle, served.connect() as incomplete:
        idle.sendall(REQUEST)
        incomplete.sendall(REQUEST[:-2])
        assert idle.recv(65536).startswith(b"HTTP/1.1 200 OK\r\n")
        assert served.served.end() == 0
        assert (idle.recv(1), incomplete.recv(1)) == (b"", b"")


def test_gunicorn_without_an_overridden_method_is_refused(tmp_path: Path, port: int) -> None:
    code = (
        "from gunicorn.workers.gthread import ThreadWorker; del ThreadWorker.get_thread_pool;"
        "import exporter.__main__ as command; command.main()"
    )
    status, output = run([MODULE[0], "-c", code, "--port", str(port)], cwd=tmp_path)
    assert status == 2
    assert output.endswith(" has no ThreadWorker.get_thread_pool(self): expected gunicorn 25 to 27\n")
    assert output.count("\n") == 1
