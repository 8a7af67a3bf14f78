"""An authoritative name server on a free port."""

import contextlib
import socket
import threading
from collections import Counter
from typing import Self

import dns.flags
import dns.message
import dns.rcode
import dns.rdatatype
import dns.resolver
import dns.rrset

#: Records by name and type: the time to live in seconds, and the values. An int in their place is a response code, and
#: None no response.
Zone = dict[tuple[str, str], tuple[int, list[str]] | int | None]


class NameServer:
    """Responds with the records of `zone`, with NXDOMAIN for other names; `queries` counts the names and types.

    It sends at most 512 bytes over UDP, so that the client repeats the query over TCP.
    """

    def __init__(self, zone: Zone) -> None:
        self.zone = zone
        self.queries: Counter[tuple[str, str]] = Counter()
        self._tcp = socket.create_server(("127.0.0.1", 0))
        self._udp = socket.socket(type=socket.SOCK_DGRAM)
        self._udp.bind(self._tcp.getsockname())
        self._threads = [threading.Thread(target=serve) for serve in (self._serve_udp, self._serve_tcp)]
        self.resolver = dns.resolver.Resolver(configure=False)
        self.resolver.nameservers = ["127.0.0.1"]
        self.resolver.port = self._udp.getsockname()[1]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        for listener in (self._udp, self._tcp):
            with contextlib.suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)  # ends recvfrom and accept
        for thread in self._threads:
            thread.join()
        for listener in (self._udp, self._tcp):
            listener.close()

    def _serve_udp(self) -> None:
        while True:
            query, client = self._udp.recvfrom(65535)
            if not query:
                return
            if response := self._response(query):
                if len(response) > 512:
                    truncated = dns.message.make_response(dns.message.from_wire(query))
                    truncated.flags |= dns.flags.TC
                    response = truncated.to_wire()
                self._udp.sendto(response, client)

    def _serve_tcp(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._tcp.accept()
                with connection, connection.makefile("rb") as file:
                    response = self._response(file.read(int.from_bytes(file.read(2))))
                    connection.sendall(len(response).to_bytes(2) + response)

    def _response(self, wire: bytes) -> bytes:
        query = dns.message.from_wire(wire)
        (question,) = query.question
        name, kind = question.name.to_text(omit_final_dot=True), dns.rdatatype.to_text(question.rdtype)
        self.queries[name, kind] += 1
        response = dns.message.make_response(query)
        found = self.zone.get((name, kind), 0 if name in {name for name, _ in self.zone} else dns.rcode.NXDOMAIN)
        if found is None:
            return b""
        if isinstance(found, int):
            response.set_rcode(dns.rcode.Rcode(found))
        else:
            ttl, values = found
            response.answer.append(dns.rrset.from_text_list(question.name, ttl, "IN", kind, values))
        return response.to_wire()
