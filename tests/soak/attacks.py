"""Slow, silent and greedy clients of an exporter. All of them are bounded in number and rate."""

import asyncio
import contextlib
import random
import socket
import threading
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from urllib.parse import quote

from tests.soak.scrapes import AUTHORIZATION, Wrong
from tests.soak.upstreams import Server, die_and_come_back, running
from tests.web_config import basic

#: Targets that die and come back; at the end one of so many of them is probed.
TARGETS, SAMPLE = 5000, 10

#: Seconds after which a client that never reads gives up. The exporter closes its connection before.
NEVER = 33.0

#: Bytes of the receive buffer of a client that never reads.
RECEIVE_BUFFER = 4096


@dataclass
class Attack:
    """The attackers of an exporter on a port, which probe targets on the ports `hung`, `mortal` and `large`.

    `counts` is what they did, `wrong` are responses that they must not get.
    """

    port: int
    seed: int
    hung: int
    mortal: int
    large: int
    counts: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._chance = random.Random(self.seed)
        self._next_target = 0
        self._end = threading.Event()

    def run(self) -> None:
        """Attacks until `stop` is called in another thread."""
        asyncio.run(self._run())

    def stop(self) -> None:
        self._end.set()

    async def _run(self) -> None:
        async with (
            running(Server(self.hung, hung=True)),
            running(Server(self.large)),
            running(Server(self.mortal)) as mortal,
        ):
            tasks = [asyncio.create_task(die_and_come_back(mortal))]
            tasks += [
                asyncio.create_task(self._repeat(attack, pause))
                for attack, (number, pause) in ATTACKS.items()
                for _ in range(number)
            ]
            while not self._end.is_set():
                await asyncio.sleep(0.1)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await mortal.start()
            for number in range(0, TARGETS, SAMPLE):
                if "\npatroni_up 1.0\n" not in await self._probe("fleet", target_of(number, self.mortal), {200}):
                    self.wrong.append(f"target {number} came back and is not up")

    async def _repeat(self, attack: Callable[["Attack"], Awaitable[None]], pause: float) -> None:
        await asyncio.sleep(self._chance.random() * max(pause, 1.0))
        while True:
            try:
                await attack(self)
            except OSError:  # the exporter has closed the connection
                self.counts[f"{attack.__name__}, connection closed"] += 1
            except Wrong as error:
                self.wrong.append(f"{attack.__name__}: {error}")
            else:
                self.counts[attack.__name__] += 1
            await asyncio.sleep(pause)

    async def get(self, url: str, authorization: str = AUTHORIZATION, timeout: float = 10.0) -> tuple[int, str]:
        """Returns the status and the body of a response. `timeout` is the scrape timeout of Prometheus."""
        async with self._connected() as (reader, writer):
            lines = (
                f"GET {url} HTTP/1.1",
                "Host: h",
                "Connection: close",
                f"Authorization: {authorization}",
                f"X-Prometheus-Scrape-Timeout-Seconds: {timeout:g}",
            )
            writer.write("".join(f"{line}\r\n" for line in (*lines, "")).encode())
            head, _, body = (await reader.read(-1)).partition(b"\r\n\r\n")
        if not head:
            raise ConnectionResetError
        return int(head.split()[1]), body.decode()

    @contextlib.asynccontextmanager
    async def _connected(self) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            yield reader, writer
        finally:
            writer.transport.abort()

    # slow clients

    async def half_sent_request(self) -> None:
        async with self._connected() as (reader, writer):
            writer.write(b"GET /metrics HTTP/1.1\r\nHost: h\r\n")
            await reader.read(-1)

    async def byte_each_second(self) -> None:
        async with self._connected() as (reader, writer):
            for byte in b"GET /metrics HTTP/1.1\r\nHost: h\r\n\r\n":
                writer.write(bytes([byte]))
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(reader.read(-1), 1)
                    return

    async def response_never_read(self) -> None:
        line = f"GET /probe?module=large&target=127.0.0.1:{self.large} HTTP/1.1"
        request = f"{line}\r\nHost: h\r\nAuthorization: {AUTHORIZATION}\r\n\r\n"
        with socket.socket() as connection:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)
            connection.setblocking(False)
            loop = asyncio.get_running_loop()
            await loop.sock_connect(connection, ("127.0.0.1", self.port))
            await loop.sock_sendall(connection, request.encode())
            await asyncio.sleep(NEVER)

    async def silent_connection(self) -> None:
        async with self._connected() as (reader, _):
            await reader.read(-1)

    # greedy clients

    async def tiny_timeout(self) -> None:
        """Half of them go to four hosts, with paths of their own; the others to many hosts."""
        number = self._chance.randrange(4 if self._chance.random() < 0.5 else 400)
        path = self._chance.randrange(10**9)
        target = f"http://127.9.{number // 200}.{number % 200 + 1}:{self.hung}/{path}"
        module = "fleet" if self._chance.random() < 0.1 else "paths"
        await self._probe(module, target, {403} if module == "fleet" else {200, 503}, 0.002)

    async def mortal_target(self) -> None:
        """Probes the next target. One that is dead has patroni_up 0."""
        number, self._next_target = self._next_target, (self._next_target + 1) % TARGETS
        body = await self._probe("fleet", target_of(number, self.mortal), {200})
        self.counts["targets that are up" if "\npatroni_up 1.0\n" in body else "targets that are down"] += 1

    async def wrong_password(self) -> None:
        status, body = await self.get("/metrics", basic("alice", self._chance.randbytes(9).hex()))
        if status not in {401, 429}:
            raise Wrong(f"HTTP {status}: {body[:200]}")
        self.counts[f"logins with status {status}"] += 1

    async def _probe(self, module: str, target: str, statuses: set[int], timeout: float = 10.0) -> str:
        status, body = await self.get(f"/probe?module={module}&target={quote(target, safe='')}", timeout=timeout)
        if status not in statuses:
            raise Wrong(f"{target}: HTTP {status}: {body[:200]}")
        self.counts[f"{module} with status {status}"] += 1
        return body


def target_of(number: int, port: int) -> str:
    """Returns the target of this number."""
    return f"127.1.{number // 250}.{number % 250 + 1}:{port}"


#: How many clients attack at once, and the seconds between two attacks of one. The connections are more than the
#: worker_connections of the exporter, the probes fewer than its EXPORTER_PROBES.
ATTACKS: dict[Callable[[Attack], Awaitable[None]], tuple[int, float]] = {
    Attack.half_sent_request: (40, 0.5),
    Attack.byte_each_second: (40, 0.5),
    Attack.response_never_read: (8, 1.0),
    Attack.silent_connection: (2200, 1.0),
    Attack.tiny_timeout: (8, 0.1),
    Attack.mortal_target: (8, 0.1),
    Attack.wrong_password: (32, 0.1),
}
