"""The targets of a module: how a target is written, and the list of names, addresses and networks that are allowed."""

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from itertools import chain
from urllib.parse import urlsplit

from exporter.config import readers

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

EXPECTED = "HOST, HOST:PORT or a URL such as http://db1:8008, with IPv6 in brackets and without user, query or fragment"
EXPECTED_ENTRY = (
    "a host name in which * matches any characters but a dot, an address or a network such as 10.0.0.0/8, "
    "IPv6 in brackets, each optionally with :PORT or :PORT-PORT"
)

#: Link-local addresses and the metadata services of clouds: allowed only where the list has them by themselves.
SPECIAL = [
    ip_network(text)
    for text in (
        "169.254.0.0/16",  # link-local; the metadata of AWS, Azure, Google, Oracle and others
        "100.100.100.200/32",  # Alibaba
        "168.63.129.16/32",  # Azure
        "192.0.0.192/32",  # Oracle
        "fe80::/10",  # link-local
        "fd00:ec2::/32",  # AWS
        "fd20:ce::254/128",  # Google
    )
]


class TargetError(ValueError):
    """The text is not a target; the message is a sentence without userinfo."""


class NotAllowed(Exception):
    """The target is not allowed; the message is a sentence."""


# Targets


@dataclass(frozen=True)
class Place:
    """A base URL, its host and its port. The host is an address if it is written as one."""

    url: str
    host: str | Address
    port: int

    @classmethod
    def of(cls, text: str, scheme: str, port: int | None) -> "Place":
        """Returns the place of a target; raises TargetError.

        A text that is not a URL has this scheme, and this port by default; None is the port of the scheme.
        """
        is_url = "://" in text
        try:
            base = readers.base_url("")(text if is_url else f"{scheme}://{text}")
            parts = urlsplit(base.url)
            host = _host(parts.hostname or "")
        except ValueError:
            shown = ascii(re.sub(r".*@", "***@", text, flags=re.DOTALL))[:120]
            raise TargetError(f"target {shown} is not valid: expected {EXPECTED}") from None
        if base.login:
            raise TargetError(f"a target with a user is not valid: expected {EXPECTED}")
        if not is_url and parts.path:
            raise TargetError(f"target {ascii(text)[:120]} has a path but no http:// before it: expected {EXPECTED}")
        default = {"http": 80, "https": 443}[parts.scheme]
        number = parts.port or (default if is_url or port is None else port)
        netloc = _shown(host) if number == default else f"{_shown(host)}:{number}"
        return cls(f"{parts.scheme}://{netloc}{parts.path}", host, number)

    def __str__(self) -> str:
        return f"{_shown(self.host)}:{self.port}"


def _shown(host: str | Address) -> str:
    return f"[{host}]" if isinstance(host, IPv6Address) else str(host)


def _host(text: str) -> str | Address:
    """Returns an address, or a host name in lower case; raises ValueError for what resolvers take for an address.

    They accept 0x7f.1 and 2130706433, so the last label must not be a number (as in the URL standard).
    """
    try:
        address = ip_address(text)
    except ValueError:
        name = text.lower().removesuffix(".")
        if re.search(r"(^|\.)(\d+|0x[0-9a-f]*)$", name):
            raise
        return name
    if isinstance(address, IPv6Address):
        if address.scope_id is not None:
            raise ValueError
        return address.ipv4_mapped or address
    return address


# Addresses


def _is_special(address: Address) -> bool:
    return any(address in network for network in SPECIAL) or (
        isinstance(address, IPv6Address) and any(map(_is_special, _ipv4_of(address)))
    )


def _ipv4_of(address: IPv6Address) -> Iterator[IPv4Address]:
    """Returns the IPv4 addresses that connections to an IPv6 address can lead to."""
    packed = address.packed
    if packed[:12] in (b"\0" * 10 + b"\xff\xff", b"\0\x64\xff\x9b" + b"\0" * 8):  # mapped (RFC 4291), NAT64 (RFC 6052)
        yield IPv4Address(packed[12:])
    if packed[:2] == b"\x20\x02":  # 6to4 (RFC 3056)
        yield IPv4Address(packed[2:6])
    if packed[:6] == b"\0\x64\xff\x9b\0\x01":  # local NAT64 (RFC 8215), whose prefix has 48, 56, 64 or 96 bits
        for part in (packed[6:8] + packed[9:11], packed[7:8] + packed[9:12], packed[9:13], packed[12:]):
            yield IPv4Address(part)


def _network(text: str) -> Network | None:
    try:
        return ip_network(text)
    except ValueError:
        return None


# The list

_ANY_PORT = range(65536)


class AllowList:
    """Names, addresses and networks, each with the ports that are allowed there."""

    def __init__(self) -> None:
        self._names: defaultdict[str, list[range]] = defaultdict(list)
        self._patterns: list[tuple[re.Pattern[str], range]] = []
        self._addresses: defaultdict[Address, list[range]] = defaultdict(list)
        self._networks: defaultdict[Network, list[range]] = defaultdict(list)

    def add(self, entry: str) -> None:
        """Adds an entry; raises ValueError when it is not valid."""
        place, ports = _place_and_ports(entry)
        network = _network(place)
        if network is not None and network.prefixlen == network.max_prefixlen:
            self._addresses[network.network_address].append(ports)
        elif network is not None:
            self._networks[network].append(ports)
        elif not re.fullmatch(r"[\w*-][\w.*-]*", place, re.ASCII):
            raise ValueError
        elif "*" in place:
            name = place.lower().removesuffix(".")
            pattern = "[^.]*".join(map(re.escape, name.split("*"))) if name != "*" else ".*"
            self._patterns.append((re.compile(pattern), ports))
        else:
            self._names[str(_host(place))].append(ports)

    def check(self, place: Place) -> None:
        """Raises NotAllowed for an address that is not allowed, and for a name that has no address that is.

        A name that is not in the list passes if networks are: its address is known only when it is connected to.
        """
        if isinstance(place.host, str):
            listed = chain(self._addresses.values(), self._networks.values())
            if self._has_name(place.host, place.port) or any(_covers(ports, place.port) for ports in listed):
                return
        elif self._has_address(place.host, place.port):
            return
        elif _is_special(place.host):
            raise NotAllowed(
                f"target {place} is a link-local or metadata address, which is allowed only if the targets of this "
                "module have it as an address or as a network of its own"
            )
        raise NotAllowed(f"target {place} is not among the targets of this module")

    def allows(self, host: str, port: int, address: Address) -> bool:
        """Decides whether the address that a host name has may be connected to.

        A name that is in the list may have any address that is not special.
        """
        return (self._has_name(host, port) and not _is_special(address)) or self._has_address(address, port)

    def _has_name(self, name: str, port: int) -> bool:
        return _covers(self._names.get(name, ()), port) or any(
            port in ports and pattern.fullmatch(name) for pattern, ports in self._patterns
        )

    def _has_address(self, address: Address, port: int) -> bool:
        return _covers(self._addresses.get(address, ()), port) or any(
            address in network
            and _covers(ports, port)
            and (not _is_special(address) or all(map(_is_special, (network[0], network[-1]))))  # then all between them
            for network, ports in self._networks.items()
        )


def _covers(ports: Iterable[range], port: int) -> bool:
    return any(port in some for some in ports)


def _place_and_ports(entry: str) -> tuple[str, range]:
    if _network(entry) is not None:  # ::1 is not a host with a port
        return entry, _ANY_PORT
    match = re.fullmatch(r"(\[[^]]*]|[^:[\]]*)(?::(\d{1,5})(?:-(\d{1,5}))?)?", entry, re.ASCII)
    if match is None:
        raise ValueError
    place, first, last = match.groups()
    ports = _ANY_PORT if first is None else range(int(first), int(last or first) + 1)
    if first is not None and not (ports and 1 <= ports[0] <= ports[-1] <= 65535):
        raise ValueError
    if place.startswith("["):
        place = place[1:-1]
        if ":" not in place or _network(place) is None:
            raise ValueError
    return place, ports
