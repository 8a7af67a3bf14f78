"""The targets of seeds, with a real name server."""

import time
from collections.abc import Iterator

import dns.rcode
import dns.resolver
import pytest

from exporter.discovery import seeds
from exporter.discovery.seeds import SeedError, resolve
from tests.discovery.name_server import NameServer, Zone

SRV = [f"10 {100 - number} {8000 + number} node{number:02}.example.org." for number in range(40)]


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[NameServer]:
    monkeypatch.setattr(seeds, "_kept", {})
    zone: Zone = {
        ("db.example.org", "A"): (300, ["10.0.0.2", "10.0.0.1"]),
        ("db.example.org", "AAAA"): (60, ["fd00::1"]),
        ("v4.example.org", "A"): (300, ["10.0.0.1"]),
        ("broken.example.org", "A"): (300, ["10.0.0.1"]),
        ("broken.example.org", "AAAA"): dns.rcode.SERVFAIL,
        ("short.example.org", "A"): (0, ["10.0.0.1"]),
        ("silent.example.org", "A"): None,
        ("silent.example.org", "AAAA"): None,
        ("failing.example.org", "SRV"): dns.rcode.SERVFAIL,
        ("_patroni._tcp.example.org", "SRV"): (300, ["20 0 8008 DB2.example.org.", "10 5 8009 db1.example.org."]),
        ("_many._tcp.example.org", "SRV"): (300, SRV),
        ("_none._tcp.example.org", "SRV"): (300, ["0 0 0 ."]),
    }
    with NameServer(zone) as running:
        yield running


@pytest.mark.parametrize(
    ("seed", "targets"),
    [
        ("db1", ["db1"]),
        ("https://db1:8008", ["https://db1:8008"]),
        ("dns+10.0.0.1:8008", ["10.0.0.1:8008"]),
        ("dns+[::1]:8008", ["[::1]:8008"]),
        ("dns+[::1]", ["[::1]"]),
        ("dns+db.example.org:8008", ["10.0.0.1:8008", "10.0.0.2:8008", "[fd00::1]:8008"]),
        ("dns+db.example.org", ["10.0.0.1", "10.0.0.2", "[fd00::1]"]),
        ("dns+db.example.org.:8008", ["10.0.0.1:8008", "10.0.0.2:8008", "[fd00::1]:8008"]),
        ("dns+db:8008", ["10.0.0.1:8008", "10.0.0.2:8008", "[fd00::1]:8008"]),
        ("dns+v4.example.org:8008", ["10.0.0.1:8008"]),
        ("dns+broken.example.org:8008", ["10.0.0.1:8008"]),
        ("dnssrv+_patroni._tcp.example.org", ["DB2.example.org:8008", "db1.example.org:8009"]),
        ("dnssrv+_patroni._tcp", ["DB2.example.org:8008", "db1.example.org:8009"]),
        ("dnssrv+_many._tcp.example.org", [f"node{number:02}.example.org:{8000 + number}" for number in range(40)]),
    ],
)
def test_targets(server: NameServer, seed: str, targets: list[str]) -> None:
    server.resolver.search = [dns.name.from_text("example.org")]
    assert resolve(seed, 5, server.resolver) == targets


@pytest.mark.parametrize(
    ("seed", "reason"),
    [
        ("dns+none.example.org:8008", "the name does not exist"),
        ("dnssrv+none.example.org", "the name does not exist"),
        ("dnssrv+db.example.org", "the name has no records of this kind"),
        ("dns+_patroni._tcp.example.org", "the name has no records of this kind"),
        ("dnssrv+_none._tcp.example.org", "the service is not available"),
        ("dns+silent.example.org:8008", "no answer of a name server within 0.3 s"),
        ("dnssrv+" + "a" * 64, "A DNS label is > 63 octets long."),
    ],
)
def test_errors(server: NameServer, seed: str, reason: str) -> None:
    start = time.monotonic()
    with pytest.raises(SeedError) as raised:
        resolve(seed, 0.3, server.resolver)
    assert str(raised.value) == f"{seed}: {reason}"
    assert time.monotonic() - start < 2


def test_failing_name_server(server: NameServer) -> None:
    with pytest.raises(SeedError, match=r"^dnssrv\+failing.example.org: All nameservers failed .* answered SERVFAIL$"):
        resolve("dnssrv+failing.example.org", 5, server.resolver)


def test_targets_are_kept_for_their_ttl(server: NameServer) -> None:
    for _ in range(2):
        resolve("dns+db.example.org:8008", 5, server.resolver)
        resolve("dns+short.example.org:8008", 5, server.resolver)
    counts = {name: count for name, count in server.queries.items() if name[1] == "A"}
    assert counts == {("db.example.org", "A"): 1, ("short.example.org", "A"): 2}
    until, _ = seeds._kept["dns+db.example.org:8008"]
    assert 50 < until - time.time() <= 60, "the shorter one of its two records"


def test_resolver_of_the_system() -> None:
    with pytest.raises(SeedError, match=r"^dns\+db.invalid:8008: "):
        resolve("dns+db.invalid:8008", 0.1)
