"""The clusters of a module as they were last found, with the members that have vanished since."""

import re
import time
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import chain

from exporter.collectors.patroni_cluster import Member

#: The URL of a member's REST API, as far as a Prometheus target can represent it.
URL = re.compile(r"(?P<scheme>https?)://(?P<address>(\[[0-9a-fA-F:.]+\]|[\w.-]+)(:\d+)?)(/.*)?")


@dataclass(frozen=True)
class ListedMember:
    """A member: the host and port of its REST API, its labels, and when its cluster listed it last.

    `seen` is in monotonic seconds, which all processes of a machine share.
    """

    address: str
    labels: Mapping[str, str]
    seen: float = 0.0

    @property
    def url(self) -> str:
        """The base URL of its REST API."""
        return f"{self.labels['scheme']}://{self.address}"


def listed(members: Iterable[Member], seen: float = 0.0) -> Iterator[ListedMember]:
    """Returns the members whose REST API can be the target of a scrape."""
    for member in members:
        if member.name and (url := URL.fullmatch(member.api_url)):
            labels = {
                "name": member.name,
                "role": member.role,
                "state": member.state,
                "timeline": None if member.timeline is None else str(member.timeline),
                "host": member.host,
                "port": member.port,
                "scheme": url["scheme"],
            }
            for tag, value in member.tags:
                labels.setdefault(f"tag_{re.sub(r'[^a-zA-Z0-9_]', '_', tag)}", value)
            yield ListedMember(url["address"], {name: value for name, value in labels.items() if value}, seen)


@dataclass(frozen=True)
class FoundCluster:
    """A cluster as it is now. `view` is the name of the member that represents it, empty when no member can.

    `path` is that of its keys in the DCS, such as /service/demo, if it was found there. Unlike the scope it is unique:
    clusters in several namespaces, and the groups of a Citus cluster, can have the same scope.
    """

    scope: str
    members: tuple[Member, ...]
    view: str
    path: str = ""

    @property
    def urls(self) -> set[str]:
        """The base URLs of its members."""
        return {member.url for member in listed(self.members)}


@dataclass(frozen=True)
class KnownCluster:
    """A cluster as it was when it was last `found`, with its members by their names.

    `stale` is whether the last attempt to find it failed, `requested` when that was. `seeds` are the URLs of the seeds
    that led to it, with the time when each was last requested. All times are in monotonic seconds.
    """

    scope: str
    members: Mapping[str, ListedMember] = field(default_factory=dict)
    view: str = ""
    found: float = 0.0
    requested: float = 0.0
    stale: bool = False
    seeds: Mapping[str, float] = field(default_factory=dict)
    path: str = ""

    def is_missing(self, name: str) -> bool:
        """Whether the cluster did not list this member when it was last found."""
        return self.members[name].seen < self.found

    def has_seed(self, urls: Collection[str]) -> bool:
        """Whether one of these seeds led to this cluster."""
        return any(url in urls for url in self.seeds)

    def covered(self, due: float) -> Iterator[str]:
        """Returns the URLs of its present members, and of the seeds that were requested since `due`."""
        if not self.stale:
            yield from (member.url for member in self.members.values() if member.seen >= self.found)
        yield from (url for url, requested in self.seeds.items() if requested > due)

    def updated(self, found: FoundCluster, now: float, seeds: Iterable[str] = ()) -> "KnownCluster":
        """Returns the cluster with its present members, and with those that it does not list any more."""
        present = {member.labels["name"]: member for member in listed(found.members, now)}
        return KnownCluster(
            found.scope,
            {**self.members, **present},
            found.view or self.view,
            now,
            now,
            seeds={**self.seeds, **dict.fromkeys(seeds, now)},
            path=found.path or self.path,
        )


class KnownClusters:
    """The clusters of a module. Two clusters can have the same scope."""

    def __init__(self, clusters: Iterable[KnownCluster] = ()) -> None:
        self._by_key: defaultdict[str, list[KnownCluster]] = defaultdict(list)
        for cluster in clusters:
            self._by_key[cluster.path or cluster.scope].append(cluster)

    def __iter__(self) -> Iterator[KnownCluster]:
        return chain.from_iterable(self._by_key.values())

    def at(self, path: str) -> KnownCluster | None:
        """Returns the cluster at this path of the DCS."""
        return next(iter(self._by_key[path]), None)

    def update(self, known: KnownCluster | None, found: FoundCluster | None, seeds: Collection[str] = ()) -> None:
        """Updates the known cluster, or the one that was found, which can be new.

        A known cluster is stale when it was not found. The seeds are those that led to the cluster.
        """
        now = time.monotonic()
        if known and known not in self._by_key[known.path or known.scope]:
            known = None  # updated since the caller saw it
        if known and not (found and found.scope == known.scope):
            self._replace(known, replace(known, stale=True, requested=now))
            known = None
        if found:
            known = known or self._same(found, seeds)
            self._replace(known, (known or KnownCluster(found.scope)).updated(found, now, seeds))

    def remove_expired(self, keep_missing: float) -> None:
        """Removes the members that were last listed longer ago than so many seconds, and clusters without members."""
        now = time.monotonic()
        for known in tuple(self):
            members = {name: each for name, each in known.members.items() if now - each.seen <= keep_missing}
            if not members or members != known.members:
                self._replace(known, replace(known, members=members) if members else None)

    def remove_without_seed(self, urls: Collection[str]) -> None:
        """Removes the clusters that none of these seeds led to."""
        for known in [known for known in self if not known.has_seed(urls)]:
            self._replace(known, None)

    def remove_seeds(self, urls: Collection[str]) -> None:
        """Forgets which clusters these seeds led to."""
        for known in [known for known in self if known.has_seed(urls)]:
            seeds = {url: requested for url, requested in known.seeds.items() if url not in urls}
            self._replace(known, replace(known, seeds=seeds))

    def _same(self, found: FoundCluster, seeds: Collection[str]) -> KnownCluster | None:
        """Returns the known cluster with this scope and a seed or the REST API of a member in common."""
        urls = found.urls
        for known in self._by_key[found.scope]:
            if known.has_seed(seeds) or any(member.url in urls for member in known.members.values()):
                return known
        return None

    def _replace(self, known: KnownCluster | None, new: KnownCluster | None) -> None:
        if known:
            self._by_key[known.path or known.scope].remove(known)
        if new:
            self._by_key[new.path or new.scope].append(new)
