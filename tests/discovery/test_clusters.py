"""The clusters of a module as they were last found."""

import time

from exporter.discovery.clusters import FoundCluster, KnownCluster, KnownClusters, ListedMember


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


def test_expired_members() -> None:
    now = time.monotonic()
    recent, old = (ListedMember("n1:8008", {"name": "n1"}, seen) for seen in (now, now - 100))
    clusters = KnownClusters([KnownCluster("a", {"n1": recent, "n2": old}), KnownCluster("b", {"n1": old})])
    clusters.remove_expired(90)
    assert list(clusters) == [KnownCluster("a", {"n1": recent})]


def test_clusters_without_a_seed() -> None:
    kept, removed = (KnownCluster("a", seeds={url: 0.0}) for url in ("http://n1", "http://n2"))
    clusters = KnownClusters([kept, removed])
    clusters.remove_without_seed(["http://n1", "http://n3"])
    assert list(clusters) == [kept]
