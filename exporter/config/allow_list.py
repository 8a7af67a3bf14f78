"""Which targets may be asked: the text that names one, and the list of names, addresses and networks that allows it."""

import re
from collections import defaultdict
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from urllib.parse import urlsplit

from exporter.config import readers
from exporter.upstream.target import Networks

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

EXPECTED = "HOST, HOST:PORT or a URL such as http://db1:8008, with IPv6 in brackets and without user, query or fragment"
EXPECTED_ENTRY = (
    "a host name in which * stands for any characters but a dot, an address or a network such as 10.0.0.0/8, "
    "IPv6 in brackets, each with or without :PORT or :PORT-PORT"
)


class TargetError(ValueError):
    """The text names no target; the message is a sentence, and holds no userinfo."""


class NotAllowed(Exception):
    """The target may not be asked; the message is a sentence."""


def _with_ipv4_inside(network: str) -> Networks:
    """Returns an IPv4 network with the IPv6 ones that lead to it: mapped (RFC 4291) and by NAT64 (RFC 6052)."""
    inner = ip_network(network)
    prefixes = (b"\0" * 10 + b"\xff\xff", b"\0\x64\xff\x9b" + b"\0" * 8)
    return (inner, *(ip_network((prefix + inner.network_address.packed, 96 + inner.prefixlen)) for prefix in prefixes))


#: Link-local addresses, and those at which clouds tell machines their keys: asked only where the list names them.
SPECIAL: Networks = (
    *_with_ipv4_inside("169.254.0.0/16"),  # link-local; the metadata of AWS, Azure, Google, Oracle and others
    *_with_ipv4_inside("100.100.100.200/32"),  # Alibaba
    *_with_ipv4_inside("168.63.129.16/32"),  # Azure
    *_with_ipv4_inside("192.0.0.192/32"),  # Oracle
    ip_network("fe80::/10"),  # link-local
    ip_network("fd00:ec2::/32"),  # AWS
    ip_network("fd20:ce::254/128"),  # Google
)


# The text that names a target -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Place:
    """Where a target is: its base URL, and the host and port in it; the host is an address where it is one."""

    url: str
    host: str | Address
    port: int

    @classmethod
    def of(cls, text: str, scheme: str, port: int | None) -> "Place":
        """Returns the place that this text names; the scheme and the port are those of a text that is no URL.

        A URL without a port has that of its scheme. Raises TargetError.
        """
        is_url = "://" in text
        try:
            url, login = readers.url(text if is_url else f"{scheme}://{text}")
            parts = urlsplit(url)
            host = _host(parts.hostname or "")
        except ValueError:
            shown = ascii(re.sub(r".*@", "***@", text, flags=re.DOTALL))[:120]
            raise TargetError(f"target {shown} cannot be used: expected {EXPECTED}") from None
        if login:
            raise TargetError(f"a target with a user cannot be used: expected {EXPECTED}")
        if not is_url and parts.path:
            raise TargetError(f"target {ascii(text)[:120]} has a path and no http:// before it: expected {EXPECTED}")
        default = {"http": 80, "https": 443}[parts.scheme]
        number = parts.port or (default if is_url or port is None else port)
        name = f"[{host}]" if isinstance(host, IPv6Address) else str(host)
        return cls(
            f"{parts.scheme}://{name}{'' if number == default else f':{number}'}{parts.path.rstrip('/')}", host, number
        )


def _host(text: str) -> str | Address:
    """Returns an address or a host name in lower case; raises ValueError for what is nearly an address.

    Resolvers take 0x7f.1 or 2130706433 for addresses, so that a name may not end in a number (as in the URL standard).
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


# The list -------------------------------------------------------------------------------------------------------------

_ANY_PORT = range(65536)


class AllowList:
    """Names, addresses and networks, each with the ports that may be asked there; without ports it is every port."""

    def __init__(self) -> None:
        self._names: defaultdict[str, list[range]] = defaultdict(list)
        self._patterns: list[tuple[re.Pattern[str], range]] = []
        self._networks: defaultdict[Network, list[range]] = defaultdict(list)
        self._special: set[Network] = set()

    def add(self, entry: str) -> None:
        """Allows what the entry names; raises ValueError when it names nothing."""
        place, ports = _place_and_ports(entry)
        network = _network(place)
        if network is not None:
            self._networks[network].append(ports)
            if any(_within(network, special) for special in SPECIAL):
                self._special.add(network)
        elif not re.fullmatch(r"[\w*-][\w.*-]*", place, re.ASCII):
            raise ValueError
        elif "*" in place:
            name = place.lower().removesuffix(".")
            self._patterns.append(
                (re.compile("[^.]*".join(map(re.escape, name.split("*"))) if name != "*" else ".*"), ports)
            )
        else:
            self._names[str(_host(place))].append(ports)

    def networks(self, place: Place) -> tuple[Networks, Networks]:
        """Returns which networks the address of this place must be in, none for any, and which it may not be in.

        Raises NotAllowed. An address is checked here. A name that only networks can allow passes, since its address is
        known only when it is connected to; one that the list has may have any address but the special ones.
        """
        if not isinstance(place.host, str):
            self._need(place.host, place.port)
            return (), ()  # nothing is looked up: what was checked is what is connected to
        networks = self._networks_for(place.port)
        named = [network for network in networks if network in self._special] if self._special else []
        refused = tuple(rest for special in SPECIAL for rest in _without(special, named)) if named else SPECIAL
        if self._has_name(place.host, place.port):
            return (), refused
        if not networks:
            raise NotAllowed(f"target {place.host}:{place.port} is not among the targets of this module")
        return tuple(networks), refused

    def _networks_for(self, port: int) -> list[Network]:
        return [network for network, ports in self._networks.items() if any(port in some for some in ports)]

    def _has_name(self, name: str, port: int) -> bool:
        return any(port in ports for ports in self._names.get(name, ())) or any(
            port in ports and pattern.fullmatch(name) for pattern, ports in self._patterns
        )

    def _need(self, address: Address, port: int) -> None:
        """Raises NotAllowed for an address that no network allows; one of the special ones needs a special network."""
        if any(port in ports for ports in self._networks.get(ip_network(address), ())):
            return
        shown = f"[{address}]:{port}" if address.version == 6 else f"{address}:{port}"
        found = [network for network in self._networks_for(port) if address in network]
        if not found:
            raise NotAllowed(f"target {shown} is not among the targets of this module")
        if any(address in special for special in SPECIAL) and not self._special.intersection(found):
            raise NotAllowed(
                f"target {shown} is a link-local or metadata address, "
                "which the targets of this module must name as an address or as a network of its own"
            )


def _place_and_ports(entry: str) -> tuple[str, range]:
    if _network(entry) is not None:  # ::1 is no host with a port
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


def _network(text: str) -> Network | None:
    try:
        return ip_network(text)
    except ValueError:
        return None


def _within(network: Network, other: Network) -> bool:
    return network.version == other.version and network.subnet_of(other)  # type: ignore[arg-type]


def _without(network: Network, holes: list[Network]) -> list[Network]:
    rest = [network]
    for hole in holes:
        rest = [
            part
            for whole in rest
            if not _within(whole, hole)
            for part in (whole.address_exclude(hole) if _within(hole, whole) else (whole,))  # type: ignore[arg-type]
        ]
    return rest
