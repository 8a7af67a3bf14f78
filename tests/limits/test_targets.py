"""Names of /probe whose addresses are not what their allow-list means: only the address that was checked is asked."""

import contextlib
from collections.abc import Iterator

import pytest

from tests.limits.resolver import resolver
from tests.limits.servers import Odd, saying, whole
from tests.live.installed import needs
from tests.live.processes import MODULE, Served, free_port, serving
from tests.recorded import moment

pytestmark = needs("gcc")

#: One name leads to the keys of a machine in a cloud, and another elsewhere the next time.
NAMES = """
    static int turns = 0;
    if (node && !strcmp(node, "metadata.example")) node = "169.254.169.254";
    if (node && !strcmp(node, "inside.example")) node = "127.0.0.1";
    if (node && !strcmp(node, "turning.example")) {
        if (hints && hints->ai_family == AF_INET6) return EAI_NONAME;  /* libcurl asks for each family */
        node = turns++ ? "127.0.0.1" : "127.0.0.2";
    }
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
    with free_port() as port:
        line = (*MODULE, "--port", str(port), "--config.file", str(file))
        with serving(folder, port, line, environ=resolver(folder, NAMES)) as served:
            yield served


@contextlib.contextmanager
def patroni() -> Iterator[tuple[Odd, str]]:
    """A Patroni on 127.0.0.1, and its port."""
    with Odd(saying(whole(moment("4.1.5", "failsafe-enabled", "n1").answers["/patroni"].body))) as server:
        yield server, server.url.rpartition(":")[2]


def probe(exporter: Served, module: str, target: str) -> tuple[bool, list[str]]:
    """Whether the target is up, and what the log of the probe says."""
    status, text = exporter.get(f"/probe?module={module}&target={target}&debug=true")
    assert status == 200
    return "\npatroni_up 1.0\n" in text, [line for line in text.splitlines() if line.startswith("WARNING ")]


def refused(module: str, target: str, address: str) -> tuple[bool, list[str]]:
    return False, [f"WARNING {module} node: http://{target}/patroni: the address {address} is not allowed"]


def test_name_in_the_list_is_asked_at_its_address(exporter: Served) -> None:
    with patroni() as (server, port):
        assert probe(exporter, "names", f"inside.example:{port}") == (True, [])
        assert server.connections == 1


def test_name_in_the_list_that_leads_to_the_metadata_of_a_cloud_is_not_asked(exporter: Served) -> None:
    target = "metadata.example:8008"
    assert probe(exporter, "names", target) == refused("names", target, "169.254.169.254")


def test_name_that_only_a_network_can_allow_is_asked_in_that_network_alone(exporter: Served) -> None:
    with patroni() as (server, port):
        target = f"inside.example:{port}"
        assert probe(exporter, "network", target) == (True, [])
        assert server.connections == 1
        assert probe(exporter, "elsewhere", target) == refused("elsewhere", target, "127.0.0.1")
        assert server.connections == 1


def test_name_that_leads_elsewhere_the_next_time_is_asked_at_the_address_that_was_checked(exporter: Served) -> None:
    """Looked up once more, the name would lead to the server, where this module may not ask."""
    with patroni() as (server, port):
        target = f"turning.example:{port}"
        assert probe(exporter, "elsewhere", target)[1] == [
            f"WARNING elsewhere node: http://{target}/patroni: no connection: connection refused"
        ]
        assert server.connections == 0


def test_connection_that_another_module_may_keep_is_of_no_use_to_one_that_may_not_ask_there(exporter: Served) -> None:
    with patroni() as (server, port):
        target = f"inside.example:{port}"
        for module in ("names", "network", "names"):
            assert probe(exporter, module, target) == (True, [])
        before = server.connections
        assert probe(exporter, "elsewhere", target) == refused("elsewhere", target, "127.0.0.1")
        assert server.connections == before
