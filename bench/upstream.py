"""The documents of the fake Patroni and Staytus, as input for `upstream.c`."""

import json
import subprocess
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.recorded import moment, staytus

_FOLDER = TemporaryDirectory(prefix="bench-")

#: The path with the number of requests of each document, on both ports. It is not counted itself.
COUNTS = "/counts"

#: A three-node cluster of Patroni 4.1.5, as its leader returns it.
PATRONI = {
    **{
        path: moment("4.1.5", "failsafe-enabled", "n1").answers[path].body
        for path in ("/patroni", "/cluster", "/config", "/failsafe")
    },
    "/history": moment("4.1.5", "history-4-timelines", "n1").answers["/history"].body,
}

#: The document with the members has their addresses and their scope in it: see upstream.c.
_MEMBERS = json.loads(PATRONI["/cluster"])
for _number, _member in enumerate(_MEMBERS["members"]):
    _member["api_url"] = f"http://@{_number}@/patroni"
PATRONI["/cluster"] = json.dumps({**_MEMBERS, "scope": "cluster-@S@"}).encode()

#: Staytus 1.3.1 with a service of each status and an issue of each state.
STAYTUS = {
    "/api/v1/services/all": staytus("services_all_ok_minor_major_maintenance").body,
    "/api/v1/issues/all": staytus("issues_all_four_states").body,
}


@cache
def program() -> str:
    """Compiles the fake upstream once and returns the path of the program."""
    path = str(Path(_FOLDER.name, "upstream"))
    subprocess.run(["gcc", "-O2", "-o", path, str(Path(__file__).with_suffix(".c"))], check=True)  # noqa: S603, S607
    return path


def services() -> bytes:
    """Returns the input of the program: Patroni, which closes each connection, and Staytus, which keeps them open."""
    return _service(False, PATRONI) + _service(True, STAYTUS) + b"serve\n"


def _service(keep_alive: bool, documents: Mapping[str, bytes]) -> bytes:
    response = _http11 if keep_alive else _http10
    responses = {path: response(body) for path, body in documents.items()}
    responses["*"] = response(b"{}").replace(b"200 OK", b"404 Not Found", 1)
    parts = [f"{path} {len(content)}\n".encode() + content for path, content in responses.items()]
    return f"service {int(keep_alive)} {len(responses)}\n".encode() + b"".join(parts)


def _http10(body: bytes) -> bytes:
    """Returns a response like Patroni's: HTTP/1.0 without Content-Length; the end of the connection ends the body."""
    return (
        b"HTTP/1.0 200 OK\r\nServer: BaseHTTP/0.6 Python/3.11.2\r\nDate: Sat, 01 Nov 2025 12:00:00 GMT\r\n"
        b"Content-Type: application/json\r\n\r\n" + body
    )


def _http11(body: bytes) -> bytes:
    """Returns a response like that of Staytus: HTTP/1.1 with Content-Length on a persistent connection."""
    return (
        b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nCache-Control: max-age=0, private, must-revalidate\r\n"
        b"Content-Length: " + str(len(body)).encode() + b"\r\n\r\n" + body
    )
