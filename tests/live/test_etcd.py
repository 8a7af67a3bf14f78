"""The members of a real Patroni in its etcd, compared with its `/cluster`."""

from pathlib import Path

from exporter.collectors import patroni_cluster
from exporter.collectors.document import Answer
from exporter.collectors.patroni_cluster import Member
from exporter.config.discovery import Etcd
from exporter.discovery.clusters import FoundCluster
from exporter.discovery.etcd import clusters
from exporter.upstream.target import RequestOptions
from tests.live.cluster import eventually
from tests.live.etcd import EtcdCluster, etcd
from tests.live.installed import needs


@needs("etcd")
def test_members_are_those_of_cluster(tmp_path: Path) -> None:
    tags = {"tags": {"nofailover": False, "clonefrom": True, "zone": "b", "weights": [1, 2]}}
    with etcd(tmp_path) as server, EtcdCluster(server, "team/a", 1, "main", {"loop_wait": 1}, n1=tags) as cluster:

        def found() -> list[FoundCluster]:
            return clusters(Etcd((server.url,), "/team/", RequestOptions(5.0)), 5)

        def listed() -> tuple[Member, ...]:
            return patroni_cluster.parse(Answer(*cluster.get(cluster.nodes[0], "/cluster"))).members

        def same() -> bool:
            return found() == [FoundCluster("main", listed(), "", "/team/a/main")]

        eventually(same, True)
        assert listed()[0].tags == (("clonefrom", "true"), ("zone", "b"), ("weights", "[1, 2]"))
        cluster.patch_config({"postgresql": {"parameters": {"max_connections": 120}}})
        eventually(lambda: listed()[0].pending_restart_parameters, ("max_connections",))
        eventually(same, True)
