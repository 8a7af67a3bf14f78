"""The configuration in the README: Prometheus discovers a cluster through /sd and scrapes it through /probe."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import pytest
import yaml

from demo.cluster import Cluster
from demo.node import HOST, Node
from tests.live.cluster import eventually
from tests.live.installed import needs
from tests.live.processes import MODULE, ROOT, Served, free_port, serving
from tests.live.prometheus import Prometheus, prometheus

pytestmark = [needs("prometheus"), pytest.mark.timeout(600)]

MODULES = ROOT / "deploy" / "modules.yml"
HTTP_SD = ROOT / "deploy" / "prometheus" / "http_sd.yml"

#: Seconds until a member without Patroni leaves the cluster: its ttl and some loops.
GONE = 40


def test_readme_shows_the_files() -> None:
    readme = (ROOT / "README.md").read_text()
    for file in (MODULES, HTTP_SD):
        assert f"```yaml\n{file.read_text()}```\n" in readme


@dataclass(frozen=True)
class Fleet:
    """A cluster, one exporter for it, and a Prometheus."""

    cluster: Cluster
    exporter: Served
    prometheus: Prometheus

    def active(self) -> list[dict[str, Any]]:
        """The current targets."""
        targets: list[dict[str, Any]] = self.prometheus.api("targets", state="active")["activeTargets"]
        return targets

    def targets(self) -> dict[str, tuple[str, str]]:
        """The health and the address of each member that is a target."""
        return {
            target["labels"]["member"]: (target["health"], target["labels"]["instance"]) for target in self.active()
        }

    def values(self, query: str, label: str = "member") -> dict[str, float]:
        """The values of an expression by a label."""
        return {labels.get(label, ""): value for labels, value in self.prometheus.query(query)}

    def up(self, *nodes: Node) -> dict[str, tuple[str, str]]:
        """`targets` when the probes of these nodes succeed."""
        return {node.name: ("up", f"{HOST}:{node.rest_port}") for node in nodes}


def replaced(text: str, *changes: tuple[str, object]) -> str:
    """The text with replacements, each of which must match."""
    for old, new in changes:
        assert old in text
        text = text.replace(old, str(new))
    return text


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    folder = tmp_path_factory.mktemp("fleet")
    with Cluster("4.1.5", 3) as cluster, free_port() as port:
        modules = folder / "modules.yml"
        modules.write_text(replaced(MODULES.read_text(), ('"db*.example.org:8008"', HOST)))
        first, second, _ = cluster.nodes
        changes = (
            ("exporter.example.org:9547", f"127.0.0.1:{port}"),
            ("db1.example.org", f"{HOST}:{first.rest_port}"),
            ("db2.example.org", f"{HOST}:{second.rest_port}"),
            ("30s", "1s"),
        )
        configuration = yaml.safe_load(replaced(HTTP_SD.read_text(), *changes))
        quick = {"scrape_interval": "1s", "scrape_timeout": "1s"}
        exporter = (*MODULE, "--port", str(port), "--config.file", str(modules), "--workers", "2")
        with (
            serving(folder, port, exporter, environ=cluster.environ) as served,
            prometheus(folder, {"global": quick, **configuration}, cluster.environ) as watching,
        ):
            yield Fleet(cluster, served, watching)


@pytest.fixture
def healthy(fleet: Fleet) -> Fleet:
    """The fleet, repaired after the previous test."""
    for node in fleet.cluster.nodes:
        if not fleet.cluster.runs(node):
            fleet.cluster.start_node(node)
    fleet.cluster.wait_healthy(60, fleet.cluster.nodes)
    eventually(fleet.targets, fleet.up(*fleet.cluster.nodes), 30)
    return fleet


def test_members_are_discovered_and_scraped(healthy: Fleet) -> None:
    leader = healthy.cluster.leader()
    assert leader is not None
    roles = {node.name: float(node == leader) for node in healthy.cluster.nodes}
    eventually(lambda: healthy.values("patroni_primary", "name"), roles)
    eventually(lambda: healthy.values("patroni_up"), dict.fromkeys(roles, 1.0))
    assert healthy.values('patroni_up{cluster="demo"}') == dict.fromkeys(roles, 1.0)
    urls = {target["labels"]["member"]: target["scrapeUrl"] for target in healthy.active()}
    assert urls == {
        node.name: f"http://127.0.0.1:{healthy.exporter.port}/probe?module=patroni&target={quote(node.url, safe='')}"
        for node in healthy.cluster.nodes
    }
    discovered = healthy.active()[0]["discoveredLabels"]
    assert {name for name in discovered if name.startswith("__meta_patroni_")} == {
        f"__meta_patroni_{name}" for name in ("scope", "name", "role", "state", "timeline", "host", "port", "scheme")
    }


def test_member_leaves_and_joins(healthy: Fleet) -> None:
    (_, gone) = healthy.cluster.replicas()
    others = [node for node in healthy.cluster.nodes if node != gone]
    healthy.cluster.kill_node(gone)
    eventually(lambda: healthy.values("patroni_up").get(gone.name), 0.0)  # still a member
    eventually(healthy.targets, healthy.up(*others), GONE)
    healthy.cluster.start_node(gone)
    eventually(healthy.targets, healthy.up(*healthy.cluster.nodes), 60)
    eventually(lambda: healthy.values("patroni_up").get(gone.name), 1.0)


def test_targets_stay_while_discovery_fails(healthy: Fleet) -> None:
    """/sd requests the first two nodes, which are down."""
    for node in healthy.cluster.nodes[:2]:
        healthy.cluster.kill_patroni(node)
    path = f"/sd?module=patroni&{'&'.join(f'target={HOST}:{node.rest_port}' for node in healthy.cluster.nodes[:2])}"
    status, text = healthy.exporter.get(path)
    assert (status, re.findall(r"^[^:]*", text)) == (503, ["no target returned its cluster"])

    def failed() -> float:
        _, text = healthy.prometheus.served.get("/metrics")
        return float(re.findall(r"^prometheus_sd_http_failures_total (\S+)$", text, re.MULTILINE)[0])

    before = failed()
    eventually(lambda: failed() >= before + 2, True)
    assert healthy.targets() == healthy.up(*healthy.cluster.nodes)
    assert healthy.values("patroni_up") == {"n1": 0.0, "n2": 0.0, "n3": 1.0}
    assert "Traceback" not in healthy.exporter.log.read_text()
