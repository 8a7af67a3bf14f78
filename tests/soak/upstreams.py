"""Servers that the attackers let the exporter request: thousands of targets that die and come back, and hung ones.

Each listens on all addresses of 127.0.0.0/8, so that one port is thousands of targets.
"""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator

from tests.limits.scrapes import PATRONI
from tests.limits.servers import whole

#: Seconds for which the targets are alive, and then dead.
ALIVE, DEAD = 8.0, 6.0

_SERVICE = {"name": "n", "status": {"status_type": "ok", "permalink": "p", "name": "q"}}
_SERVICES = [{**_SERVICE, "permalink": f"{number:0500}"} for number in range(1500)]

RESPONSES = {
    **{path: whole(answer.body) for path, answer in PATRONI.items()},
    "/api/v1/services/all": whole(json.dumps({"status": "success", "data": _SERVICES}).encode()),
    "/api/v1/issues/all": whole(b'{"status":"success","data":[]}'),
}


class Server:
    """A server on a port of all addresses; `open` are its connections."""

    def __init__(self, port: int, *, hung: bool = False) -> None:
        self.port = port
        self._hung = hung
        self.open: set[asyncio.StreamWriter] = set()
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        """Opens the port, if it is closed."""
        self._server = self._server or await asyncio.start_server(self._serve, "0.0.0.0", self.port, backlog=4096)

    async def stop(self) -> None:
        """Closes the port and all connections."""
        if self._server:
            self._server.close()
            self._server = None
        for writer in self.open:
            writer.transport.abort()
        await asyncio.sleep(0)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.open.add(writer)
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            while self._hung and await reader.read(65536):
                pass
            while not self._hung:
                head = await reader.readuntil(b"\r\n\r\n")
                writer.write(RESPONSES[head.split()[1].decode()])
                await writer.drain()
        self.open.discard(writer)
        writer.close()


@contextlib.asynccontextmanager
async def running(server: Server) -> AsyncIterator[Server]:
    await server.start()
    try:
        yield server
    finally:
        await server.stop()


async def die_and_come_back(server: Server) -> None:
    """Stops the server and starts it again, for ever."""
    while True:
        await asyncio.sleep(ALIVE)
        await server.stop()
        await asyncio.sleep(DEAD)
        await server.start()
