"""Which text names a target, and which target a list of names, addresses and networks allows."""

from ipaddress import ip_network

import pytest

from exporter.config.allow_list import SPECIAL, AllowList, NotAllowed, Place, TargetError
from exporter.upstream.target import Networks


def place(text: str) -> Place:
    """The place of a target of Patroni."""
    return Place.of(text, "http", 8008)


def allows(*entries: str) -> AllowList:
    allowed = AllowList()
    for entry in entries:
        allowed.add(entry)
    return allowed


def nets(*texts: str) -> Networks:
    return tuple(map(ip_network, texts))


def asked(target: str, *entries: str) -> tuple[Networks, Networks] | str:
    """The networks that are admitted and refused, or why the target may not be asked."""
    try:
        return allows(*entries).networks(place(target))
    except NotAllowed as error:
        return str(error)


def absent(shown: str) -> str:
    return f"target {shown} is not among the targets of this module"


def special(shown: str) -> str:
    return (
        f"target {shown} is a link-local or metadata address, which the targets of this module must name as an address "
        "or as a network of its own"
    )


ANY: tuple[Networks, Networks] = ((), SPECIAL)
CHECKED: tuple[Networks, Networks] = ((), ())


# The text that names a target -----------------------------------------------------------------------------------------


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
def test_host_with_or_without_a_port_and_url_name_a_target(text: str, url: str) -> None:
    assert place(text).url == url


def test_scheme_and_port_of_the_module_are_those_of_a_host_alone() -> None:
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
def test_anything_else_names_none(text: str) -> None:
    with pytest.raises(TargetError) as raised:
        place(text)
    assert str(raised.value) == (
        f"target {text!a} cannot be used: expected HOST, HOST:PORT or a URL such as http://db1:8008, with IPv6 in "
        "brackets and without user, query or fragment"
    )


def test_path_without_a_scheme_is_refused() -> None:
    with pytest.raises(TargetError, match=r"^target 'db1/patroni' has a path and no http:// before it: expected HOST"):
        place("db1/patroni")


@pytest.mark.parametrize("text", ["user:hush@db1", "http://user:hush@db1", "http://user:hu@sh@db1", "hush@db1:x"])
def test_user_is_refused_and_not_shown(text: str) -> None:
    with pytest.raises(TargetError) as raised:
        place(text)
    assert "hu" not in str(raised.value)


# The list -------------------------------------------------------------------------------------------------------------


def test_name_is_allowed_with_any_address_but_the_special_ones() -> None:
    assert asked("DB1.example.org", "x", "db1.Example.org.") == ANY
    assert asked("db2.example.org", "db1.example.org") == absent("db2.example.org:8008")
    assert asked("db1.example.org.evil", "db1.example.org") == absent("db1.example.org.evil:8008")


def test_asterisk_stands_for_any_characters_but_a_dot_and_alone_for_any_name() -> None:
    assert asked("db1", "db*") == ANY
    assert asked("db1.evil", "db*") == absent("db1.evil:8008")
    assert asked("a-db1-b.example.org", "*db*.example.org") == ANY
    assert asked("a.b.example.org", "*.example.org") == absent("a.b.example.org:8008")
    assert asked("axexample.org", "*.example.org") == absent("axexample.org:8008")
    assert asked("a.b.c", "*") == ANY
    assert asked("10.0.0.1", "*") == absent("10.0.0.1:8008")


def test_address_is_allowed_by_itself_or_by_its_network_and_nothing_else_is_connected_to() -> None:
    assert asked("10.0.0.1", "10.0.0.1") == CHECKED
    assert asked("10.0.0.1", "11.0.0.0/8", "10.0.0.0/8") == CHECKED
    assert asked("[::ffff:10.0.0.1]", "10.0.0.0/8") == CHECKED
    assert asked("[fd00::1]", "fd00::/16") == CHECKED
    assert asked("11.0.0.1", "10.0.0.0/8", "fd00::/8") == absent("11.0.0.1:8008")
    assert asked("[fe00::1]", "fd00::/8") == absent("[fe00::1]:8008")


@pytest.mark.parametrize("entry", ["db1", "db*", "10.0.0.1", "10.0.0.0/8", "[fd00::1]", "[fd00::/8]"])
def test_ports_of_an_entry_bound_it(entry: str) -> None:
    host = {"d": "db1", "1": "10.0.0.1", "[": "[fd00::1]"}[entry[0]]
    for ports, port, allowed in [
        (":8008", 8008, True), (":8008", 8009, False),
        (":8000-8009", 8000, True), (":8000-8009", 8009, True),
        (":8000-8009", 8010, False), (":8000-8009", 7999, False),
        ("", 1, True), ("", 65535, True),
    ]:  # fmt: skip
        assert (asked(f"{host}:{port}", entry + ports) != absent(f"{host}:{port}")) == allowed, (ports, port)


def test_name_that_only_networks_can_allow_must_have_an_address_in_them() -> None:
    assert asked("db1", "10.0.0.0/8", "fd00::1", "11.0.0.0/8:9", "db2") == (nets("10.0.0.0/8", "fd00::1"), SPECIAL)
    assert asked("db1", "11.0.0.0/8:9") == absent("db1:8008")


@pytest.mark.parametrize(
    "address",
    [
        "169.254.169.254", "169.254.0.1", "[fe80::1]", "[fd00:ec2::254]", "[fd20:ce::254]", "100.100.100.200",
        "168.63.129.16", "192.0.0.192", "[64:ff9b::169.254.169.254]", "[::ffff:169.254.169.254]",
    ],
)  # fmt: skip
def test_special_address_is_allowed_only_where_it_or_a_special_network_is_named(address: str) -> None:
    found = place(address).host
    shown = f"[{found}]" if ":" in str(found) else str(found)
    assert asked(address, "0.0.0.0/0", "::/0", "*") == special(f"{shown}:8008")
    assert asked(address, "0.0.0.0/0", "::/0", str(found)) == CHECKED
    assert asked(address, f"{shown}:8009", "0.0.0.0/0", "::/0") == special(f"{shown}:8008")


def test_network_within_the_link_local_ones_names_them() -> None:
    assert asked("169.254.1.2", "169.254.1.0/24") == CHECKED
    assert asked("169.254.2.2", "169.254.1.0/24", "169.0.0.0/8") == special("169.254.2.2:8008")


def test_name_may_have_a_special_address_that_is_named_and_no_other() -> None:
    admitted, refused = allows("db1", "169.254.169.254").networks(place("db1"))
    assert admitted == ()
    assert [n for n in SPECIAL if n not in refused] == list(nets("169.254.0.0/16"))
    (hole,) = nets("169.254.169.254")
    assert not any(hole.overlaps(n) for n in refused if n.version == 4)
    assert sum(n.num_addresses for n in refused if n.version == 4) == 2**16 - 1 + 3


@pytest.mark.parametrize(
    "entry",
    [
        "", "a b", ":8008", "http://db1", "db1/x", "10.0.0.1/8", "300.1.1.1", "0x7f.1", "db1:0", "db1:65536", "db1:9-8",
        "db1:x", "db1:1-", "[db1]:1", "[10.0.0.1]:1", "[::1", "fd00::/8:1", "user@db1", "dä1", "10.0.0.*/8",
    ],
)  # fmt: skip
def test_entry_that_names_nothing_is_refused(entry: str) -> None:
    with pytest.raises(ValueError, match=r"^"):
        AllowList().add(entry)
