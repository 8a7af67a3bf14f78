"""The order of lookups, and what callers receive. tests/limits/test_names.py has a real exporter."""

import math
import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from exporter.upstream import names as names_module
from exporter.upstream.names import Names
from tests.live.processes import until


class Resolver:
    """Stands in for the resolver of the C library: each lookup waits for its result."""

    def __init__(self) -> None:
        self.lookups: list[str] = []
        self.results: dict[str, Any] = {}
        self._changed = threading.Condition()

    def __call__(self, host: str, *_: Any, **__: Any) -> Any:
        with self._changed:
            self.lookups.append(host)
            self._changed.wait_for(lambda: host in self.results)
            result = self.results.pop(host)
        if isinstance(result, Exception):
            raise result
        return [(None, None, None, "", (address, 0)) for address in result]

    def end(self, host: str, result: Any) -> None:
        """Ends the lookup of a host with addresses or an exception."""
        with self._changed:
            self.results[host] = result
            self._changed.notify_all()


@pytest.fixture
def resolver(monkeypatch: pytest.MonkeyPatch) -> Iterator[Resolver]:
    resolver = Resolver()
    monkeypatch.setattr(socket, "getaddrinfo", resolver)
    monkeypatch.setattr(names_module, "CHECK", 0.0)
    yield resolver
    for host in resolver.lookups:
        resolver.end(host, [])


def look_up(names: Names, host: str, seconds: float = math.inf) -> list[Any]:
    """Returns a list that will have the result."""
    found: list[Any] = []
    names.look_up(host, seconds, found.append)
    return found


def known(names: Names, resolver: Resolver, host: str) -> None:
    """Looks up a host that has an address."""
    found = look_up(names, host)
    resolver.end(host, ["192.0.2.1"])
    until(lambda: found == [["192.0.2.1"]])


def test_callers_share_a_lookup(resolver: Resolver) -> None:
    names = Names()
    found = [look_up(names, "db1") for _ in range(3)]
    resolver.end("db1", ["192.0.2.1", "fe80::1%eth0", "2001:db8::1"])
    until(lambda: found == [[["192.0.2.1", "2001:db8::1"]]] * 3)
    assert look_up(names, "db1") == [["192.0.2.1", "2001:db8::1"]]
    assert resolver.lookups == ["db1"]


def test_caller_waits_no_longer_than_its_time(resolver: Resolver) -> None:
    names = Names()
    found = look_up(names, "db1", 0)
    until(lambda: look_up(names, "db2") is not None and [type(each) for each in found] == [TimeoutError])
    resolver.end("db1", ["192.0.2.1"])
    until(lambda: look_up(names, "db1") == [["192.0.2.1"]])
    assert resolver.lookups.count("db1") == 1
    assert len(found) == 1


def test_new_names_go_before_those_that_failed(resolver: Resolver, monkeypatch: pytest.MonkeyPatch) -> None:
    names = Names()
    failed = look_up(names, "failed")
    resolver.end("failed", socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution"))
    until(lambda: [type(each) for each in failed] == [socket.gaierror])
    monkeypatch.setattr(names_module, "MOST", 1)
    look_up(names, "hangs")
    for host in ("failed", "new"):
        look_up(names, host)
    resolver.end("hangs", [])
    until(lambda: len(resolver.lookups) == 3)
    resolver.end("new", [])
    until(lambda: len(resolver.lookups) == 4)
    assert resolver.lookups == ["failed", "hangs", "new", "failed"]


def test_known_addresses_are_used_for_a_time(resolver: Resolver, monkeypatch: pytest.MonkeyPatch) -> None:
    names = Names()
    known(names, resolver, "db1")
    monkeypatch.setattr(names_module, "KEPT", 0.0)
    assert look_up(names, "db1") == [["192.0.2.1"]]
    until(lambda: len(resolver.lookups) == 2)
    monkeypatch.setattr(names_module, "STALE", 0.0)
    assert look_up(names, "db1") == []


def test_name_is_forgotten(resolver: Resolver, monkeypatch: pytest.MonkeyPatch) -> None:
    names = Names()
    known(names, resolver, "db1")
    monkeypatch.setattr(names_module, "FORGOTTEN", 0.0)
    look_up(names, "db2")
    assert look_up(names, "db1") == []
    until(lambda: resolver.lookups == ["db1", "db2", "db1"])
