"""/sd?module=NAME with clusters in a real etcd: their views, and what happens when clusters or etcd are gone."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.discovery.nodes import Cluster, cluster
from tests.discovery.test_seeds import MODULES, names, sd
from tests.live import etcd as live
from tests.live.installed import needs
from tests.web.test_probe import client_of

needs_etcd = needs("etcd")


@pytest.fixture
def server(tmp_path: Path) -> Iterator[live.Etcd]:
    with live.etcd(tmp_path) as running:
        yield running


def keys(namespace: str, nodes: Cluster, leader: str) -> dict[str, bytes]:
    """Returns the keys that Patroni sets."""
    path = f"/{namespace}/{nodes.scope}"
    members = {
        f"{path}/members/{name}": json.dumps({"api_url": f"{node.url}/patroni", "state": "running"}).encode()
        for name, node in nodes.nodes.items()
    }
    return {**members, f"{path}/leader": leader.encode()}


@needs_etcd
def test_clusters_in_etcd(server: live.Etcd, tmp_path: Path) -> None:
    with cluster("main", "n1", "n2") as one, cluster("main", "m1", "m2") as other:
        server.put(keys("service", one, "n1") | keys("service/tenant", other, "m2"))
        found = json.dumps({"etcd": {"endpoints": [server.url]}, "keep_missing": "1h"})
        client = client_of(tmp_path, MODULES.format(targets="127.0.0.1", discovery=found))
        assert names(sd(client)) == {"n1": "", "n2": "view", "m1": "view", "m2": ""}
        assert (one.paths, other.paths) == ({"n2": ["/patroni"]}, {"m1": ["/patroni"]})

        one.stop("n2")
        assert names(sd(client)) == {"n1": "view", "n2": "", "m1": "view", "m2": ""}

        server.delete("/service/main/members/n2")
        server.delete("/service/main/leader")
        assert names(sd(client)) == {"n1": "view", "n2": "missing", "m1": "view", "m2": ""}

        server.delete("/service/tenant/main/", prefix=True)
        assert names(sd(client)) == {"n1": "view", "n2": "missing", "m1": "view missing", "m2": "missing"}

        server.stop()
        other.stop("m1")
        one.serve("n1")
        other.serve("m2")
        # The members are requested instead.
        assert names(sd(client)) == {"n1": "view", "n2": "missing", "m1": "missing", "m2": "view"}


@needs_etcd
def test_etcd_is_not_reachable(server: live.Etcd, tmp_path: Path) -> None:
    server.stop()
    found = json.dumps({"etcd": {"endpoints": [server.url]}})
    client = client_of(tmp_path, MODULES.format(targets="127.0.0.1", discovery=found))
    response = client.get("/sd?module=patroni")
    reason = f"no cluster was found: etcd: {server.url}: no connection: connection refused\n"
    assert (response.status_code, response.text) == (503, reason)
