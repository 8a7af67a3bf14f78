"""Targets of /probe whose names resolve to addresses that are not allowed: no connection is made to them."""

import contextlib
import re
from collections.abc import Iterator

import pytest

from tests.limits.resolver import resolver
from tests.limits.servers import Odd, saying, whole
from tests.live.installed import needs
from tests.live.processes import Served, running_exporter
from tests.recorded import moment

pytestmark = needs("gcc")

#: One name resolves to the metadata service of a cloud, and one to another address the next time.
NAMES = """
    static int turns = 0;
    if (node && !strcmp(node, "metadata.example")) node = "169.254.169.254";
    if (node && !strcmp(node, "inside.example")) node = "127.0.0.1";
    if (node && !strcmp(node, "turning.example")) node = turns++ ? "127.0.0.1" : "127.0.0.2";
"""

MODULES = """\
modules:
  names:
    collector: patroni
    collect: [node]
    basic_auth: {username: u, password: hush-hush}
    targets: ["*.example"]
  network:
    collector: patroni
    collect: [node]
    targets: [127.0.0.1/32, 169.254.0.0/24]
  elsewhere:
    collector: patroni
    collect: [node]
    targets: [127.0.0.2]
"""


@pytest.fixture(scope="module")
def exporter(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("targets")
    file = folder / "modules.yml"
    file.write_text(MODULES)
    with running_exporter(folder, "--config.file", str(file), environ=resolver(folder, NAMES)) as served:
        yield served


@contextlib.contextmanager
def patroni() -> Iterator[tuple[Odd, str]]:
    """A Patroni on 127.0.0.1, and its port."""
    with Odd(saying(whole(moment("4.1.5", "failsafe-enabled", "n1").answers["/patroni"].body))) as server:
        yield server, server.url.rpartition(":")[2]


def probe(exporter: Served, module: str, target: str) -> tuple[bool, str]:
    """Whether the target is up, and the reason if not."""
    status, text = exporter.get(f"/probe?module={module}&target={target}&debug=true")
    assert status == 200
    failures = re.findall('^WARNING scrape failed .* reason="(.*)"$', text, re.MULTILINE)
    return "\npatroni_up 1.0\n" in text, ", ".join(failures)


def not_allowed(address: str) -> tuple[bool, str]:
    return False, f"the address {address} is not allowed"


def test_allowed_name(exporter: Served) -> None:
    with patroni() as (server, port):
        assert probe(exporter, "names", f"inside.example:{port}") == (True, "")
        assert server.connections == 1


def test_allowed_name_of_the_metadata_service(exporter: Served) -> None:
    assert probe(exporter, "names", "metadata.example:8008") == not_allowed("169.254.169.254")


def test_name_in_an_allowed_network(exporter: Served) -> None:
    with patroni() as (server, port):
        target = f"inside.example:{port}"
        assert probe(exporter, "network", target) == (True, "")
        assert server.connections == 1
        assert probe(exporter, "elsewhere", target) == not_allowed("127.0.0.1")
        assert server.connections == 1


def test_name_that_changes_its_address(exporter: Served) -> None:
    """The address that was checked is used; a second lookup would return one that is not allowed."""
    with patroni() as (server, port):
        refused = probe(exporter, "elsewhere", f"turning.example:{port}")
        assert refused == (False, "no connection: connection refused")
        assert server.connections == 0


def test_connection_of_another_module_is_not_used(exporter: Served) -> None:
    with patroni() as (server, port):
        target = f"inside.example:{port}"
        for module in ("names", "network", "names"):
            assert probe(exporter, module, target) == (True, "")
        before = server.connections
        assert probe(exporter, "elsewhere", target) == not_allowed("127.0.0.1")
        assert server.connections == before
