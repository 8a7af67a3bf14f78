"""A real Patroni whose PostgreSQL hangs: the reason for one request in flight."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from demo.cluster import Cluster
from tests.limits.scrapes import application, fetching, scrape
from tests.live.processes import until


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    # A node without PostgreSQL stays a member for ttl seconds, longer than these tests take.
    with Cluster("4.1.5", nodes=1, dynamic={"ttl": 300}) as running:
        yield running


def connections(port: int) -> int:
    """The number of established connections to this port of 127.0.0.1, all from this process."""
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return sum(row[2] == f"0100007F:{port:04X}" and row[3] == "01" for row in rows)


def test_one_request_waits_for_frozen_postgresql(cluster: Cluster) -> None:
    (node,) = cluster.nodes
    app = application(node.url, PATRONI_EXPORTER_TIMEOUT="10")
    assert scrape(app).samples["patroni_up"] == {(): 1.0}
    cluster.freeze_postgres(node)
    try:
        with ThreadPoolExecutor(10) as prometheus:
            first = list(prometheus.map(lambda _: scrape(app, 3), range(10)))
        for scraped in [*first, *(scrape(app, 3) for _ in range(3))]:
            assert scraped.samples["patroni_up"] == {(): 0.0}
            assert scraped.successes == {"node": 0.0, "cluster": 1.0, "history": 1.0, "config": 1.0, "failsafe": 1.0}
            assert scraped.samples["patroni_member_role"][("n1", "leader", "demo")] == 1.0
            assert scraped.samples["patroni_cluster_members"] == {("demo",): 1.0}
        assert fetching() == connections(node.rest_port) == 1
        assert [cluster.get(node, "/liveness")[0] for _ in range(3)] == [200] * 3
    finally:
        cluster.thaw_postgres(node)
    until(lambda: scrape(app).samples["patroni_up"] == {(): 1.0})
