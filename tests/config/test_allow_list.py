"""Targets and the allow-list: which texts are targets, and which of them a list allows."""

from ipaddress import ip_address

import pytest

from exporter.config.allow_list import AllowList, NotAllowed, Place, TargetError

EXPECTED = (
    "expected HOST, HOST:PORT or a URL such as http://db1:8008, with IPv6 in brackets and without user, query or "
    "fragment"
)


def place(text: str) -> Place:
    """The place of a target of Patroni."""
    return Place.of(text, "http", 8008)


def allow_list(*entries: str) -> AllowList:
    allowed = AllowList()
    for entry in entries:
        allowed.add(entry)
    return allowed


def refused(target: str, *entries: str) -> str:
    """Why the list does not allow the target, empty if it does."""
    try:
        allow_list(*entries).check(place(target))
    except NotAllowed as error:
        return str(error)
    return ""


def target_error(text: str) -> str:
    with pytest.raises(TargetError) as raised:
        place(text)
    return str(raised.value)


def absent(shown: str) -> str:
    return f"target {shown} is not among the targets of this module"


def special(shown: str) -> str:
    return (
        f"target {shown} is a link-local or metadata address, which is allowed only if the targets of this module have "
        "it as an address or as a network of its own"
    )


# Targets


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("db1", "http://db1:8008"),
        ("db1:", "http://db1:8008"),  # RFC 3986, section 3.2.3
        ("DB1.example.org.", "http://db1.example.org:8008"),
        ("db1:80", "http://db1"),
        ("db_1:8009", "http://db_1:8009"),
        ("10.0.0.1", "http://10.0.0.1:8008"),
        ("[FD00::0:1]", "http://[fd00::1]:8008"),
        ("[fd00::1]:8009", "http://[fd00::1]:8009"),
        ("[::ffff:10.0.0.1]", "http://10.0.0.1:8008"),
        ("http://db1", "http://db1"),
        ("https://db1", "https://db1"),
        ("https://db1:443/", "https://db1"),
        ("https://db1:8008/a/b/", "https://db1:8008/a/b"),
    ],
)
def test_target(text: str, url: str) -> None:
    assert place(text).url == url


def test_default_scheme_and_port() -> None:
    assert Place.of("db1", "https", 8008).url == "https://db1:8008"
    assert Place.of("status", "https", None).url == "https://status"
    assert Place.of("http://db1", "https", 8008).url == "http://db1"


@pytest.mark.parametrize(
    "text",
    [
        "::1", "fd00::1", ":8008", "db1:0", "db1:65536", "db1:x", "db 1", "db1\n", "dä1", "*", "",
        "http://", "ftp://db1", "http:///patroni", "http://db1?x=1", "http://db1#x", "http://db1/a b",
        "[db1]", "[fe80::1%eth0]", "[fe80::1%25eth0]",
        "0x7f.1", "127.1", "2130706433", "0177.0.0.1", "10.0.0.256", "db1.0x1f",
    ],
)  # fmt: skip
def test_target_error(text: str) -> None:
    assert target_error(text) == f"target {text!a} is not valid: {EXPECTED}"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("user:hush@db1", "a target with a user is not valid"),
        ("http://user:hu@sh@db1", "a target with a user is not valid"),
        ("hush@db1:x", "target '***@db1:x' is not valid"),
        ("hu\nsh@db1", "target '***@db1' is not valid"),
        ("db1/patroni", "target 'db1/patroni' has a path but no http:// before it"),
        (f"db1/{'x' * 120}", f"target 'db1/{'x' * 115} has a path but no http:// before it"),
        (f"db 1{'x' * 120}", f"target 'db 1{'x' * 115} is not valid"),
    ],
)
def test_shown_target(text: str, message: str) -> None:
    """Without the user, and at most 120 characters."""
    assert target_error(text) == f"{message}: {EXPECTED}"


# The list


def test_names() -> None:
    assert refused("DB1.example.org", "x", "db1.Example.org.") == ""
    assert refused("db2.example.org", "db1.example.org") == absent("db2.example.org:8008")
    assert refused("db1.example.org.evil", "db1.example.org") == absent("db1.example.org.evil:8008")


def test_patterns() -> None:
    assert refused("db1", "db*") == ""
    assert refused("db1.evil", "db*") == absent("db1.evil:8008")
    assert refused("a-db1-b.example.org", "*db*.example.org") == ""
    assert refused("a.b.example.org", "*.example.org") == absent("a.b.example.org:8008")
    assert refused("axexample.org", "*.example.org") == absent("axexample.org:8008")
    assert refused("a.example.org", "*.example.org.") == ""
    assert refused("a.b.c", "*") == ""
    assert refused("10.0.0.1", "*") == absent("10.0.0.1:8008")


def test_addresses_and_networks() -> None:
    assert refused("10.0.0.1", "10.0.0.1") == ""
    assert refused("10.0.0.1", "11.0.0.0/8", "10.0.0.0/8") == ""
    assert refused("[::ffff:10.0.0.1]", "10.0.0.0/8") == ""
    assert refused("[fd00::1]", "fd00::/16") == ""
    assert refused("11.0.0.1", "10.0.0.0/8", "fd00::/8") == absent("11.0.0.1:8008")
    assert refused("[fe00::1]", "fd00::/8") == absent("[fe00::1]:8008")


@pytest.mark.parametrize("entry", ["db1", "db*", "10.0.0.1", "10.0.0.0/8", "[fd00::1]", "[fd00::/8]"])
def test_ports(entry: str) -> None:
    host = {"d": "db1", "1": "10.0.0.1", "[": "[fd00::1]"}[entry[0]]
    for ports, port, allowed in [
        (":8008", 8008, True), (":8008", 8009, False),
        (":8000-8009", 8000, True), (":8000-8009", 8009, True),
        (":8000-8009", 8010, False), (":8000-8009", 7999, False),
        ("", 1, True), ("", 65535, True), (":1-65535", 1, True), (":1-65535", 65535, True),
    ]:  # fmt: skip
        assert refused(f"{host}:{port}", entry + ports) == ("" if allowed else absent(f"{host}:{port}")), (ports, port)


def test_name_passes_where_only_networks_can_allow_it() -> None:
    assert refused("db1", "10.0.0.0/8", "fd00::1", "11.0.0.0/8:9", "db2") == ""
    assert refused("db1", "11.0.0.0/8:9") == absent("db1:8008")


@pytest.mark.parametrize(
    ("host", "address", "allowed"),
    [
        ("db1", "192.0.2.1", True),  # the name is in the list
        ("db1", "2001:db8::1", True),
        ("db1", "169.254.169.254", False),
        ("db1", "fe80::1", False),
        ("db1", "169.254.0.1", True),  # so is the address
        ("db2", "10.0.0.1", True),
        ("db2", "192.0.2.1", False),
        ("db2", "169.254.0.1", True),
        ("db2", "169.254.0.2", False),
        ("db2", "11.0.0.1", False),  # another port
    ],
)
def test_addresses_of_names(host: str, address: str, allowed: bool) -> None:
    listed = allow_list("db1", "10.0.0.0/8", "11.0.0.0/8:9", "169.254.0.1")
    assert listed.allows(host, 8008, ip_address(address)) == allowed


SPECIAL = [
    "169.254.169.254", "169.254.0.1", "fe80::1", "fd00:ec2::254", "fd20:ce::254", "100.100.100.200",
    "168.63.129.16", "192.0.0.192",
    "64:ff9b::169.254.169.254",  # NAT64
    "2002:a9fe:a9fe::1",  # 6to4
    "64:ff9b:1:a9fe:a9:fe00::",  # NAT64 with a prefix of 48 bits
    "64:ff9b:1:11a9:fe:a9fe::",  # 56
    "64:ff9b:1:1111:a9:fea9:fe00:0",  # 64
    "64:ff9b:1:1111::169.254.169.254",  # 96
]  # fmt: skip


@pytest.mark.parametrize("address", SPECIAL)
def test_special_address_must_be_listed(address: str) -> None:
    shown = f"[{ip_address(address)}]" if ":" in address else address
    assert refused(shown, "0.0.0.0/0", "::/0", "*") == special(f"{shown}:8008")
    assert refused(shown, "0.0.0.0/0", "::/0", address) == ""
    assert refused(shown, f"{shown}:8009", "0.0.0.0/0", "::/0") == special(f"{shown}:8008")
    assert not allow_list("db1", "0.0.0.0/0", "::/0").allows("db1", 8008, ip_address(address))
    assert allow_list("db1", address).allows("db1", 8008, ip_address(address))


def test_mapped_special_address() -> None:
    assert refused("[::ffff:169.254.169.254]", "0.0.0.0/0") == special("169.254.169.254:8008")
    assert not allow_list("db1", "::/0").allows("db1", 8008, ip_address("::ffff:169.254.169.254"))


@pytest.mark.parametrize("address", ["2002:a00:1::1", "64:ff9b::10.0.0.1", "64:ff9b:1::10.0.0.1"])
def test_ipv6_forms_of_other_addresses(address: str) -> None:
    assert refused(f"[{address}]", "::/0") == ""
    assert allow_list("db1").allows("db1", 8008, ip_address(address))


@pytest.mark.parametrize(
    ("network", "inside", "outside"),
    [
        ("169.254.1.0/24", "169.254.1.2", "169.254.2.2"),
        ("2002:a9fe::/32", "[2002:a9fe:a9fe::1]", "[2002:6464:64c8::1]"),
        ("64:ff9b:1::a9fe:0/112", "[64:ff9b:1::a9fe:a9fe]", "[64:ff9b:1:1::a9fe:a9fe]"),
        ("169.254.0.0/15", "169.255.0.1", "169.254.0.1"),  # only the first half is special
        ("192.0.0.192/31", "192.0.0.193", "192.0.0.192"),
    ],
)
def test_special_network(network: str, inside: str, outside: str) -> None:
    assert refused(inside, network) == ""
    assert refused(outside, network, "0.0.0.0/0", "::/0") == special(f"{outside}:8008")


@pytest.mark.parametrize(
    "entry",
    [
        "", "a b", ":8008", "http://db1", "db1/x", "10.0.0.1/8", "300.1.1.1", "0x7f.1", "db1:0", "db1:65536", "db1:9-8",
        "db1:x", "db1:1-", "db1:８", "[db1]:1", "[10.0.0.1]:1", "[::1", "fd00::/8:1", "user@db1", "dä1", "10.0.0.*/8",
    ],
)  # fmt: skip
def test_entry_error(entry: str) -> None:
    with pytest.raises(ValueError, match=r"^"):
        AllowList().add(entry)
