"""What the last discovery of each module found, shared by the workers of a server."""

import json
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from operator import attrgetter

from exporter.config.reloadable import SharedText
from exporter.discovery.clusters import KnownCluster, KnownClusters, ListedMember

#: Bytes of the clusters of a module. A cluster of three has about 1,000.
SIZE_LIMIT = 32 * 1024 * 1024


@dataclass(frozen=True)
class Summary:
    """The clusters of a module, those that the last discovery did not find, and the members that are not allowed."""

    clusters: int
    stale: int
    refused: int


class DiscoveryState:
    """The clusters by module, those of /sd without a target apart from those with one.

    Processes forked after it was made share it.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._clusters = SharedText("{}")
        self._summaries = SharedText("{}")

    @classmethod
    @cache
    def load(cls, file: str) -> "DiscoveryState":  # noqa: ARG003
        """Returns the state for a modules file: always the same object, also in a forked process."""
        return cls()

    def clusters(self, module: str, *, of_targets: bool = False) -> KnownClusters:
        """Returns the known clusters of a module."""
        with self._lock:
            text = self._clusters.read()
        return _clusters(text, _of_targets(module) if of_targets else module)

    def summaries(self) -> Mapping[str, Summary]:
        """Returns the summaries of all modules by their names."""
        with self._lock:
            text = self._summaries.read()
        return {module: Summary(*row) for module, row in json.loads(text).items()}

    def write(self, module: str, clusters: KnownClusters) -> None:
        """Replaces the clusters of a module."""
        rows = _rows(clusters)
        with self._lock:
            self._clusters.update(lambda text: json.dumps({**json.loads(text), module: rows}))

    def update_of_targets(self, module: str, change: Callable[[KnownClusters], None]) -> KnownClusters:
        """Changes the clusters that were found from targets, and returns them. Other requests that do so wait."""
        clusters = KnownClusters()

        def changed(text: str) -> str:
            nonlocal clusters
            clusters = _clusters(text, _of_targets(module))
            change(clusters)
            return json.dumps({**json.loads(text), _of_targets(module): _rows(clusters)})

        with self._lock:
            self._clusters.update(changed)
        return clusters

    def summarize(self, module: str, clusters: KnownClusters, refused: int) -> None:
        """Replaces the summary of a module."""
        summary = (sum(1 for _ in clusters), sum(cluster.stale for cluster in clusters), refused)
        with self._lock:
            self._summaries.update(lambda text: json.dumps({**json.loads(text), module: summary}))


def _of_targets(module: str) -> str:
    return f"{module}?target"


def _clusters(text: str, key: str) -> KnownClusters:
    return KnownClusters(_cluster(*row) for row in json.loads(json.loads(text).get(key, "[]")))


def _rows(clusters: KnownClusters) -> str:
    """Returns the clusters as JSON, as far as they fit. A node can list any number of members, and others each time."""
    rows, size = [], 0
    for each in sorted(clusters, key=attrgetter("requested"), reverse=True):
        members = {name: (member.address, member.labels, member.seen) for name, member in each.members.items()}
        row = json.dumps(
            [each.scope, members, each.view, each.found, each.requested, each.stale, each.seeds, each.path]
        )
        if size + len(row) <= SIZE_LIMIT:
            size += len(row)
            rows.append(row)
    return f"[{','.join(rows)}]"


def _cluster(scope: str, members: Mapping[str, tuple[str, Mapping[str, str], float]], *others: object) -> KnownCluster:
    return KnownCluster(scope, {name: ListedMember(*row) for name, row in members.items()}, *others)  # type: ignore[arg-type]
