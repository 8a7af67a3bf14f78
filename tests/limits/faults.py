"""An upstream with random faults, which depend on a seed and on the number of requests."""

import gzip
import json
import random
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

from tests.limits.documents import NUMBERS, TEXTS, places, written
from tests.limits.scrapes import RECORDED
from tests.limits.servers import read_request, repeating, resetting, saying, silent, whole

MIB = 1024 * 1024
OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"
SMALL_CHUNKS = CHUNKED + b"2\r\n[]\r\n" * (MIB // 2)
BOMB = gzip.compress(b" " * (64 * MIB), 1)

#: Seconds of the longest delay.
LATEST = 1.0


class Faulty:
    """Patroni and Staytus in one server; while `faulty`, two of five responses have a fault."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._lock = threading.Lock()
        self.requests: Counter[str] = Counter()
        self.faults: Counter[str] = Counter()
        self.faulty = False

    def behave(self, connection: socket.socket) -> None:
        while True:
            path = read_request(connection)
            with self._lock:
                self.requests[path] += 1
                chance = random.Random(f"{self._seed} {path} {self.requests[path]}")
            if not self.faulty or chance.random() < 0.6:
                connection.sendall(whole(RECORDED[path].body))
                continue
            name = chance.choice(list(FAULTS))
            with self._lock:
                self.faults[name] += 1
            FAULTS[name](chance, path)(_WithRequest(connection))
            return


class _WithRequest:
    """A connection whose request was read, with another request for the behaviour to read."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._left = b"GET / HTTP/1.1\r\n\r\n"

    def recv(self, size: int) -> bytes:
        left, self._left = self._left, b""
        return left or self._connection.recv(size)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)


def changed(chance: random.Random, path: str) -> bytes:
    """The recorded document with another value at one place."""
    document = json.loads(RECORDED[path].body)
    found = list(places(document))
    if found:
        container, key, _ = chance.choice(found)
        container[key] = chance.choice((*TEXTS, *NUMBERS, None, True, [], {}, [[]]))
    return written(document)


Fault = Callable[[random.Random, str], Callable[[Any], None]]

FAULTS: dict[str, Fault] = {
    "closed": lambda *_: saying(b""),
    "reset": lambda chance, path: resetting(whole(RECORDED[path].body)[: chance.randrange(200)]),
    "cut": lambda chance, path: saying(whole(RECORDED[path].body)[: chance.randrange(200)]),
    "not HTTP": lambda chance, _: saying(chance.randbytes(chance.randrange(1, 500))),
    "not JSON": lambda chance, _: saying(whole(chance.randbytes(chance.randrange(500)))),
    "changed": lambda chance, path: saying(whole(changed(chance, path))),
    "status": lambda chance, path: saying(whole(RECORDED[path].body, f"{chance.randrange(300, 600)} Odd")),
    "deep": lambda *_: saying(whole(b'{"a":[' * 50_000)),
    "gzip bomb": lambda *_: saying(whole(BOMB, "200 OK", "Content-Encoding: gzip")),
    "endless": lambda *_: repeating(OK + b"\r\n", b"x" * 65536),
    "endless chunk": lambda *_: repeating(CHUNKED + b"-1\r\n", b"x" * 65536),
    "small chunks": lambda *_: saying(SMALL_CHUNKS),
    "large": lambda *_: saying(whole(b'{"members":[' + b"{}," * MIB + b"{}]}")),
    "silent": lambda *_: silent,
    "header by byte": lambda *_: repeating(OK + b"X: ", b"x", 0.05),
    "body by byte": lambda *_: repeating(OK + b"\r\n", b"x", 0.05),
    "late": lambda chance, path: late(chance.random() * LATEST, whole(RECORDED[path].body)),
}


def late(seconds: float, response: bytes) -> Callable[[socket.socket], None]:
    """Sends the response after some seconds."""

    def behave(connection: socket.socket) -> None:
        time.sleep(seconds)
        connection.sendall(response)

    return behave
