"""The configuration in the README: Prometheus finds clusters in a real etcd while they come, fail and go.

Run it with `-s` to see the targets of Prometheus whenever they change.
"""

import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from urllib.parse import parse_qs, urlsplit

import pytest
import yaml

from demo.node import HOST, Node
from tests.live.cluster import leader_of
from tests.live.etcd import Etcd, EtcdCluster, etcd
from tests.live.installed import needs
from tests.live.processes import MODULE, ROOT, Served, free_port, serving
from tests.live.prometheus import Prometheus, prometheus

pytestmark = [needs("prometheus", "etcd"), pytest.mark.timeout(600)]

MODULES = ROOT / "deploy" / "modules.yml"
HTTP_SD = ROOT / "deploy" / "prometheus" / "http_sd.yml"

#: Seconds for which a member stays listed after it has vanished. Patroni's `ttl` is 20 seconds here.
KEEP_MISSING = 30


def test_readme_shows_the_files() -> None:
    readme = (ROOT / "README.md").read_text()
    for file in (MODULES, HTTP_SD):
        assert f"```yaml\n{file.read_text()}```\n" in readme


@dataclass(frozen=True)
class Row:
    """A target of Prometheus: the documents that it is asked for, and whether its node answers."""

    cluster: str
    member: str
    address: str
    documents: str
    answers: bool | None
    listed: str = ""

    def __str__(self) -> str:
        state = {True: "up", False: "down", None: "-"}[self.answers]
        return f"{self.cluster:8} {self.member:4} {self.address:16} {self.documents:5} {state:5} {self.listed}".rstrip()


@dataclass
class Fleet:
    """Clusters in one etcd, one exporter, and a Prometheus."""

    dcs: Etcd
    exporter: Served
    prometheus: Prometheus
    started: float = field(default_factory=time.monotonic)
    shown: list[Row] = field(default_factory=list)

    def look(self) -> list[Row]:
        """The targets; shows them when they have changed. Each cluster has one view at any time."""
        answers = {labels["instance"]: value == 1 for labels, value in self.prometheus.query("patroni_up")}
        targets = self.prometheus.api("targets", state="active")["activeTargets"]
        rows, views = [], Counter[str]()
        for target in targets:
            labels, found = target["labels"], target["discoveredLabels"]
            if target["scrapePool"] != "patroni-clusters":
                continue
            documents = parse_qs(urlsplit(target["scrapeUrl"]).query).get("collect", ["all"])[0]
            views[labels["cluster"]] += documents == "all"
            listed = [name for name in ("missing", "stale") if f"__meta_patroni_{name}" in found]
            address = labels["instance"]
            rows.append(
                Row(labels["cluster"], labels["member"], address, documents, answers.get(address), " ".join(listed))
            )
        assert set(views.values()) <= {1}, views
        rows.sort(key=lambda row: (row.cluster, row.member))
        if rows != self.shown:
            self.say(*rows)
            self.shown = rows
        return rows

    def say(self, *lines: object) -> None:
        """Prints the lines with the seconds since the beginning."""
        texts = (f"    {line}\n" for line in lines)
        sys.stdout.write("".join([f"[{time.monotonic() - self.started:5.1f} s]\n", *texts]))

    def wait(self, what: str, expected: Callable[[list[Row]], bool], seconds: float = 60) -> None:
        """Looks until the targets are as expected."""
        deadline = time.monotonic() + seconds
        while not expected(rows := self.look()):
            assert time.monotonic() < deadline, f"{what}:\n" + "\n".join(map(str, rows))
            time.sleep(0.25)


def all_up(*clusters: EtcdCluster) -> Callable[[list[Row]], bool]:
    """Whether the targets are all nodes of these clusters, and all of them answer."""
    expected = {(cluster.scope, node.name) for cluster in clusters for node in cluster.nodes}
    return lambda rows: (
        {(row.cluster, row.member) for row in rows if row.answers} == expected and len(rows) == len(expected)
    )


def documents(rows: list[Row], cluster: EtcdCluster, node: Node) -> str:
    """The documents that a node is asked for."""
    (found,) = (row.documents for row in rows if (row.cluster, row.member) == (cluster.scope, node.name))
    return found


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Fleet, list[EtcdCluster]]]:
    """Two of three clusters run, and Prometheus with the configuration of the README, but faster."""
    folder = tmp_path_factory.mktemp("fleet")
    with ExitStack() as stack:
        dcs = stack.enter_context(etcd(folder))
        clusters = [
            EtcdCluster(dcs, "service", nodes, scope, {"loop_wait": 1})
            for scope, nodes in (("orders", 3), ("users", 2), ("billing", 1))
        ]
        for cluster in clusters:
            stack.callback(cluster.stop)
        with ThreadPoolExecutor() as pool:
            list(pool.map(lambda cluster: cluster.start(), clusters[:2]))
        modules = yaml.safe_load(MODULES.read_text())
        modules["modules"]["patroni"].update(
            targets=[HOST],
            discovery={"etcd": {"endpoints": [f"http://{HOST}:{dcs.port}"]}, "keep_missing": f"{KEEP_MISSING}s"},
        )
        file = folder / "modules.yml"
        file.write_text(yaml.safe_dump(modules))
        port = stack.enter_context(free_port())
        command = (*MODULE, "--bind", HOST, "--port", str(port), "--config.file", str(file), "--workers", "2")
        exporter = stack.enter_context(serving(folder, port, command))
        configuration = yaml.safe_load(HTTP_SD.read_text().replace("exporter.example.org:9547", f"{HOST}:{port}"))
        configuration["global"] = {"scrape_interval": "2s", "scrape_timeout": "2s"}
        configuration["scrape_configs"][0]["http_sd_configs"][0]["refresh_interval"] = "2s"
        yield Fleet(dcs, exporter, stack.enter_context(prometheus(folder, configuration))), clusters


def test_clusters_come_fail_and_go(running: tuple[Fleet, list[EtcdCluster]]) -> None:
    fleet, (orders, users, billing) = running
    fleet.say("orders and users run")
    fleet.wait("two clusters", all_up(orders, users))
    # One target of each cluster returns the cluster, every target its node.
    assert {labels["cluster"]: value for labels, value in fleet.prometheus.query("patroni_cluster_members")} == {
        "orders": 3.0,
        "users": 2.0,
    }
    assert fleet.prometheus.query("sort_desc(count by (cluster) (patroni_version))") == [
        ({"cluster": "orders"}, 3.0),
        ({"cluster": "users"}, 2.0),
    ]

    fleet.say("billing starts")
    billing.start()
    fleet.wait("a third cluster", all_up(orders, users, billing))

    (view,) = (node for node in orders.nodes if documents(fleet.look(), orders, node) == "all")
    former, successor = leader_of(users), users.replicas()[0]
    fleet.say(f"the hosts of {view.name} of orders, the view, and of {former.name} of users, the leader, are lost")
    orders.kill_node(view)
    users.kill_node(former)

    def moved(rows: list[Row]) -> bool:
        """Nodes that answer are the views."""
        return (documents(rows, orders, view), documents(rows, users, successor)) == ("node", "all")

    fleet.wait("other views", moved, 30)

    fleet.say("billing is shut down and removed from etcd")
    for node in billing.nodes:
        billing.kill_node(node)
    fleet.dcs.delete(f"/{billing.namespace}/{billing.scope}/", prefix=True)  # as `patronictl remove` does

    def missing(rows: list[Row]) -> bool:
        """Both lost members are listed as missing and do not answer; the others answer."""
        lost = {row for row in rows if row.cluster != "billing" and (row.listed or not row.answers)}
        return {(row.cluster, row.member, row.answers, row.listed) for row in lost} == {
            ("orders", view.name, False, "missing"),
            ("users", former.name, False, "missing"),
        }

    fleet.wait("missing members", missing)
    fleet.wait("no billing", lambda rows: all(row.cluster != "billing" for row in rows), KEEP_MISSING + 30)
    left = {(orders.scope, node.name) for node in orders.nodes if node != view} | {(users.scope, successor.name)}
    fleet.wait("no missing members", lambda rows: {(row.cluster, row.member) for row in rows} == left, KEEP_MISSING)
    assert {labels["cluster"]: value for labels, value in fleet.prometheus.query("patroni_cluster_members")} == {
        "orders": 2.0,
        "users": 1.0,
    }
    assert "Traceback" not in fleet.exporter.log.read_text()
