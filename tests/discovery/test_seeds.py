"""/sd?module=NAME with seeds: all clusters, their views, and members and clusters that are gone."""

import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest
from flask.testing import FlaskClient

from exporter.collectors.document import Answer
from exporter.discovery import discovery, run
from exporter.discovery.clusters import FoundCluster, KnownClusters
from exporter.discovery.state import DiscoveryState
from tests.discovery.nodes import Cluster, cluster
from tests.forked import in_a_child
from tests.limits.servers import Odd, silent
from tests.live.processes import until
from tests.web.test_probe import client_of

Targets = dict[str, dict[str, str]]

MODULES = "modules: {{patroni: {{collector: patroni, targets: [{targets}], timeout: 1s, discovery: {discovery}}}}}"


@pytest.fixture
def pair() -> Iterator[tuple[Cluster, Cluster]]:
    with cluster("a", "a1", "a2", "a3") as a, cluster("b", "b1", "b2") as b:
        yield a, b


def client_with(folder: Path, seeds: list[str], keep_missing: str = "1h", targets: str = "127.0.0.1") -> FlaskClient:
    found = json.dumps({"seeds": seeds, "keep_missing": keep_missing})
    return client_of(folder, MODULES.format(targets=targets, discovery=found))


def sd(client: FlaskClient, query: str = "", **headers: str) -> Targets:
    """Returns the labels of each target, without __meta_patroni_ and without what all targets of a test share."""
    response = client.get(f"/sd?module=patroni{query}", headers=headers)
    assert response.status_code == 200, response.text
    found = {}
    for group in response.json or ():
        (target,) = group["targets"]
        assert target not in found
        labels = {name.removeprefix("__meta_patroni_"): value for name, value in group["labels"].items()}
        found[target] = {name: labels[name] for name in ("name", "cluster_view", "missing", "stale") if name in labels}
    return found


def names(targets: Targets) -> dict[str, str]:
    """Returns for each name "view", "missing" and "stale", as far as they are true."""
    marks = {"cluster_view": "view", "missing": "missing", "stale": "stale"}
    return {
        labels.get("name", "?"): " ".join(mark for label, mark in marks.items() if labels.get(label) == "true")
        for labels in targets.values()
    }


def test_all_clusters(pair: tuple[Cluster, Cluster], tmp_path: Path) -> None:
    """Once the clusters are known, each discovery is one request for each: to its view."""
    a, b = pair
    client = client_with(tmp_path, [a.host("a2"), b.host("b1")])
    expected = {
        **{a.host(name): {"name": name, "cluster_view": "true" if name == "a1" else "false"} for name in a.nodes},
        **{b.host(name): {"name": name, "cluster_view": "true" if name == "b1" else "false"} for name in b.nodes},
    }
    assert sd(client) == expected
    assert (a.paths, b.paths) == ({"a1": ["/cluster"], "a2": ["/cluster"]}, {"b1": ["/cluster"]})
    assert sd(client) == expected
    assert (a.paths, b.paths) == ({"a1": ["/cluster"]}, {"b1": ["/cluster"]})


def test_view_is_the_first_replica_that_responds(pair: tuple[Cluster, Cluster], tmp_path: Path) -> None:
    a, _ = pair
    client = client_with(tmp_path, [a.host("a3")])
    assert names(sd(client)) == {"a1": "view", "a2": "", "a3": ""}
    a.serve("a1", "a2", "a3", leader="a1")
    assert names(sd(client)) == {"a1": "", "a2": "view", "a3": ""}
    a.stop("a2")
    assert names(sd(client)) == {"a1": "", "a2": "", "a3": "view"}
    a.stop("a3")
    assert names(sd(client)) == {"a1": "view", "a2": "", "a3": ""}


def test_missing_member(pair: tuple[Cluster, Cluster], tmp_path: Path) -> None:
    a, _ = pair
    client = client_with(tmp_path, [a.host("a1")], keep_missing="1s")
    sd(client)
    a.serve("a2", "a3")
    a.stop("a1")
    assert names(sd(client)) == {"a1": "missing", "a2": "view", "a3": ""}
    until(lambda: names(sd(client)) == {"a2": "view", "a3": ""})
    a.serve("a2", "a3", "a1")
    assert names(sd(client)) == {"a2": "view", "a3": "", "a1": ""}


def test_cluster_that_is_down(pair: tuple[Cluster, Cluster], tmp_path: Path) -> None:
    """Its last known members stay for keep_missing, then its seed."""
    a, b = pair
    client = client_with(tmp_path, [a.host("a1"), b.host("b1")], keep_missing="1s")
    sd(client)
    for name in b.nodes:
        b.stop(name)
    assert names(sd(client)) == {"a1": "view", "a2": "", "a3": "", "b1": "view stale", "b2": "stale"}
    time.sleep(1)
    found = sd(client)
    assert found.pop(b.host("b1")) == {"stale": "true"}
    assert names(found) == {"a1": "view", "a2": "", "a3": ""}


def test_seed_that_never_responded(pair: tuple[Cluster, Cluster], tmp_path: Path) -> None:
    a, b = pair
    b.stop("b1")
    client = client_with(tmp_path, [a.host("a1"), b.host("b1")])
    assert sd(client)[b.host("b1")] == {"stale": "true"}
    client = client_with(tmp_path, [b.host("b1"), b.host("b2")])
    assert sd(client)[b.host("b1")] == {"name": "b1", "cluster_view": "false"}  # b2 lists it


def test_seeds_that_are_members(pair: tuple[Cluster, Cluster], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are not requested again while their cluster is found."""
    monkeypatch.setattr(discovery, "SEED_INTERVAL", 0.0)
    a, _ = pair
    client = client_with(tmp_path, [a.host("a1"), a.host("a2")])
    sd(client)
    assert list(a.paths) == ["a1", "a2"]
    sd(client)
    assert a.paths == {"a1": ["/cluster"]}


def test_two_clusters_of_one_scope(tmp_path: Path) -> None:
    with cluster("same", "n1", "n2") as one, cluster("same", "n1", "n2") as other:
        client = client_with(tmp_path, [one.host("n1"), other.host("n1")])
        for _ in range(2):
            assert sd(client) == {
                each.host(name): {"name": name, "cluster_view": "true" if name == "n1" else "false"}
                for each in (one, other)
                for name in each.nodes
            }


def test_node_of_another_cluster(
    pair: tuple[Cluster, Cluster], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A node that was set up again as a member of another cluster does not take its former one with it."""
    a, _ = pair
    client = client_with(tmp_path, [a.host("a1"), a.host("a2")])
    sd(client)
    with cluster("c", "c1") as c:
        c.nodes["a2"] = a.nodes.pop("a2")
        c.serve("a2", "c1")
        a.serve("a1", "a3")
        assert names(sd(client)) == {"a1": "view", "a2": "missing", "a3": ""}
        monkeypatch.setattr(discovery, "SEED_INTERVAL", 0.0)
        response = client.get("/sd?module=patroni").json or []
        assert sorted(
            (group["labels"]["__meta_patroni_scope"], group["labels"]["__meta_patroni_name"]) for group in response
        ) == [("a", "a1"), ("a", "a2"), ("a", "a3"), ("c", "a2"), ("c", "c1")]


def test_target_that_is_a_node_of_another_cluster(pair: tuple[Cluster, Cluster], tmp_path: Path) -> None:
    a, _ = pair
    client, target = client_with(tmp_path, [a.host("a1")]), f"&target={a.host('a1')}"
    assert names(sd(client, target)) == {"a1": "view", "a2": "", "a3": ""}
    with cluster("c", "c1") as c:
        c.nodes["a1"] = a.nodes.pop("a1")
        c.serve("a1", "c1")
        a.serve("a2", "a3")
        for _ in range(2):
            assert names(sd(client, target)) == {"a1": "view", "c1": ""}
            assert names(sd(client, f"&target={a.host('a3')}")) == {"a2": "view", "a3": "", "a1": "missing"}


def test_targets_at_the_same_time(pair: tuple[Cluster, Cluster], tmp_path: Path) -> None:
    """The members that one request found missing stay known when another one ends later."""
    a, _ = pair
    client = client_with(tmp_path, [a.host("a1")])
    target = f"&target={a.host('a1')}"
    with Odd(silent) as hung, ThreadPoolExecutor() as prometheus:
        slow = prometheus.submit(client.application.test_client().get, f"/sd?module=patroni&target={hung.url}")
        until(lambda: hung.connections)
        assert names(sd(client, target)) == {"a1": "view", "a2": "", "a3": ""}
        assert slow.result().status_code == 503
    a.serve("a1", "a3")
    assert names(sd(client, target)) == {"a1": "view", "a2": "missing", "a3": ""}


def test_member_without_a_name(pair: tuple[Cluster, Cluster], tmp_path: Path) -> None:
    a, b = pair
    client = client_with(tmp_path, [a.host("a1"), b.host("b1")])
    b.nodes[""] = b.nodes["b2"]
    b.serve("b1", "")
    assert names(sd(client)) == {"a1": "view", "a2": "", "a3": "", "b1": "view"}


def test_cluster_without_members(pair: tuple[Cluster, Cluster], tmp_path: Path) -> None:
    """When its seed does not respond any more, the seed is listed itself."""
    a, b = pair
    client = client_with(tmp_path, [a.host("a1"), b.host("b1")])
    b.nodes["b1"].serve({"/cluster": Answer(200, b'{"scope": "b", "members": []}')})
    assert names(sd(client)) == {"a1": "view", "a2": "", "a3": ""}
    b.stop("b1")
    assert sd(client)[b.host("b1")] == {"stale": "true"}


def test_failed_seeds_of_two_modules(
    pair: tuple[Cluster, Cluster], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The seeds of a module that failed are requested last, also after a discovery of another module."""
    monkeypatch.setattr(run, "MOST_IN_FLIGHT", 1)
    a, b = pair

    def slow(handler: BaseHTTPRequestHandler) -> None:
        time.sleep(0.3)
        handler.send_error(503)

    b.nodes["b2"].answers["/cluster"] = slow
    module = "{{collector: patroni, targets: [127.0.0.1], discovery: {{seeds: [{}]}}}}"
    one, two = module.format(f"'{b.host('b2')}', '{a.host('a1')}'"), module.format(f"'{a.host('a1')}'")
    client = client_of(tmp_path, f"modules: {{patroni: {one}, other: {two}}}")
    assert len(sd(client)) == 4
    assert client.get("/sd?module=other").status_code == 200
    assert a.paths
    sd(client, **{"X-Prometheus-Refresh-Interval-Seconds": "0.2"})
    assert a.paths == {"a1": ["/cluster"]}


def test_scope_is_requested_once(tmp_path: Path) -> None:
    """Before Patroni 3.2 /cluster does not have the scope."""
    with cluster("old", "n1", "n2", scope_in_cluster=False) as old:
        client = client_with(tmp_path, [old.host("n1")])
        assert names(sd(client)) == {"n1": "view", "n2": ""}
        assert old.paths == {"n1": ["/cluster", "/patroni"]}
        assert names(sd(client)) == {"n1": "view", "n2": ""}
        assert old.paths == {"n1": ["/cluster"]}


def test_hung_nodes(pair: tuple[Cluster, Cluster], tmp_path: Path) -> None:
    """They delay no other cluster, and the response comes before the deadline."""
    a, _ = pair
    with ExitStack() as stack:
        hung = [stack.enter_context(Odd(silent)) for _ in range(3)]
        client = client_with(tmp_path, [*(server.url for server in hung), a.host("a1")])
        start = time.monotonic()
        found = sd(client, **{"X-Prometheus-Refresh-Interval-Seconds": "1"})
        assert time.monotonic() - start < 1
        assert [found.pop(server.url.removeprefix("http://")) for server in hung] == [{"stale": "true"}] * 3
        assert names(found) == {"a1": "view", "a2": "", "a3": ""}


def test_searches_per_second(pair: tuple[Cluster, Cluster], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    a, b = pair
    monkeypatch.setattr(run, "MOST_PER_SECOND", 20)
    client = client_with(tmp_path, [a.host("a1"), *(f"127.0.0.1:{port}" for port in range(1, 7)), b.host("b1")])
    start = time.monotonic()
    found = sd(client)
    assert time.monotonic() - start >= 7 / 20
    assert len(found) == 11
    assert {name for name, label in names(found).items() if label == "view"} == {"a1", "b1"}


def test_refused_members(pair: tuple[Cluster, Cluster], tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Patroni lists addresses, and the module allows names: each is named once, and counted."""
    a, _ = pair
    port = a.host("a1").partition(":")[2]
    client = client_with(tmp_path, [f"localhost:{port}"], targets="localhost")
    assert names(sd(client)) == {"a1": "view", "a2": "", "a3": ""}
    (refused,) = [record.getMessage() for record in caplog.records if "members refused" in record.getMessage()]
    assert all(a.host(name) in refused for name in a.nodes)
    page = client.get("/metrics").text
    assert 'patroni_staytus_exporter_discovery_targets_refused{module="patroni"} 3.0' in page
    assert 'patroni_staytus_exporter_discovery_clusters{module="patroni"} 1.0' in page
    assert 'patroni_staytus_exporter_discovery_clusters_stale{module="patroni"} 0.0' in page


def test_members_that_are_refused_after_a_reload(pair: tuple[Cluster, Cluster], tmp_path: Path) -> None:
    a, _ = pair
    seeds = json.dumps({"seeds": [a.host("a1").replace("127.0.0.1", "localhost")]})
    client = client_of(
        tmp_path, MODULES.format(targets="localhost", discovery=seeds), EXPORTER_WEB_ENABLE_LIFECYCLE="1"
    )
    refused = 'patroni_staytus_exporter_discovery_targets_refused{module="patroni"} '
    for targets, number in (("localhost, 127.0.0.1", 0), ("localhost", 3), ("localhost, 127.0.0.1", 0)):
        (tmp_path / "modules.yml").write_text(MODULES.format(targets=targets, discovery=seeds))
        assert client.post("/-/reload").status_code == 200
        for _ in range(2):
            assert len(sd(client)) == 3
            assert f"{refused}{number:.1f}\n" in client.get("/metrics").text


def test_targets_and_module_are_apart(pair: tuple[Cluster, Cluster], tmp_path: Path) -> None:
    a, b = pair
    client = client_with(tmp_path, [a.host("a1")])
    assert names(sd(client, f"&target={b.host('b2')}")) == {"b1": "view", "b2": ""}
    assert names(sd(client)) == {"a1": "view", "a2": "", "a3": ""}
    b.serve("b1")
    assert names(sd(client, f"&target={b.host('b2')}")) == {"b1": "view", "b2": "missing"}


def test_forked_processes_share_the_state() -> None:
    """A member that vanished is known to workers which never saw it."""
    state = DiscoveryState()
    clusters = KnownClusters()
    clusters.update(None, FoundCluster("a", (), "n1"), ["http://n1"])

    def discover() -> None:
        state.write("patroni", clusters)
        state.summarize("patroni", clusters, 2)

    in_a_child(discover)
    assert [(each.scope, each.view, list(each.seeds)) for each in state.clusters("patroni")] == [
        ("a", "n1", ["http://n1"])
    ]
    assert state.summaries()["patroni"].refused == 2


def test_member_names_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """A node that lists other members each time does not fill the memory, nor replace other clusters."""
    monkeypatch.setattr("exporter.discovery.state.SIZE_LIMIT", 2000)
    state, clusters = DiscoveryState(), KnownClusters()
    clusters.update(None, FoundCluster("good", (), ""), ["http://n1"])
    clusters.update(None, FoundCluster("x" * 2000, (), ""), ["http://n2"])
    state.write("patroni", clusters)
    assert [each.scope for each in state.clusters("patroni")] == ["good"]
