"""The clusters of a module as they were last found."""

from exporter.discovery.clusters import FoundCluster, KnownCluster, KnownClusters


def test_cluster_that_is_not_found_again() -> None:
    clusters = KnownClusters()
    clusters.update(None, FoundCluster("a", (), "n1", "/service/a"), ["http://n1"])
    (known,) = clusters
    assert known == KnownCluster(
        "a", {}, "n1", known.found, known.found, seeds={"http://n1": known.found}, path="/service/a"
    )
    clusters.update(known, None)
    (stale,) = clusters
    assert (stale.stale, stale.found, stale.requested > known.requested) == (True, known.found, True)


def test_path_is_kept() -> None:
    """The members do not have it, and are requested when etcd is not reachable."""
    clusters = KnownClusters()
    clusters.update(None, FoundCluster("a", (), "", "/service/a"))
    clusters.update(clusters.at("/service/a"), FoundCluster("a", (), ""))
    assert [(known.scope, known.path) for known in clusters] == [("a", "/service/a")]
