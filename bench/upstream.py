"""The documents of the stand-in upstream, Patroni and Staytus from memory, and how `upstream.c` is told of them."""

import subprocess
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.recorded import moment, staytus

_FOLDER = TemporaryDirectory(prefix="bench-")

#: The path below which either port tells how often each path was asked; itself not counted.
COUNTS = "/counts"

#: A three-node cluster of Patroni 4.1.5 as its leader tells of it.
PATRONI = {
    **{
        path: moment("4.1.5", "failsafe-enabled", "n1").answers[path].body
        for path in ("/patroni", "/cluster", "/config", "/failsafe")
    },
    "/history": moment("4.1.5", "history-4-timelines", "n1").answers["/history"].body,
}

#: Staytus 1.3.1 with a service and an issue of each kind.
STAYTUS = {
    "/api/v1/services/all": staytus("services_all_ok_minor_major_maintenance").body,
    "/api/v1/issues/all": staytus("issues_all_four_states").body,
}


@cache
def program() -> str:
    """Compiles the upstream, once in a run, and returns the path of the program."""
    path = str(Path(_FOLDER.name, "upstream"))
    subprocess.run(["gcc", "-O2", "-o", path, str(Path(__file__).with_suffix(".c"))], check=True)  # noqa: S603, S607
    return path


def services() -> bytes:
    """Returns what the program reads: Patroni first, which closes each connection, then Staytus, which keeps them."""
    return _service(False, PATRONI) + _service(True, STAYTUS) + b"serve\n"


def _service(keeps: bool, documents: Mapping[str, bytes]) -> bytes:
    head = _keeping if keeps else _closing
    answers = {path: head(body) for path, body in documents.items()}
    answers["*"] = head(b"{}").replace(b"200 OK", b"404 Not Found", 1)
    parts = [f"{path} {len(answer)}\n".encode() + answer for path, answer in answers.items()]
    return f"service {int(keeps)} {len(answers)}\n".encode() + b"".join(parts)


def _closing(body: bytes) -> bytes:
    """Returns an answer as Patroni gives it: HTTP/1.0 without a length, so that the body ends with the connection."""
    return (
        b"HTTP/1.0 200 OK\r\nServer: BaseHTTP/0.6 Python/3.11.2\r\nDate: Sat, 01 Nov 2025 12:00:00 GMT\r\n"
        b"Content-Type: application/json\r\n\r\n" + body
    )


def _keeping(body: bytes) -> bytes:
    """Returns an answer as Staytus gives it: HTTP/1.1 with a length, and the connection stays."""
    return (
        b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nCache-Control: max-age=0, private, must-revalidate\r\n"
        b"Content-Length: " + str(len(body)).encode() + b"\r\n\r\n" + body
    )
