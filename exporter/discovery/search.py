"""How one cluster is found: which nodes are requested, one after the other. `run.py` sends the requests."""

from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from operator import itemgetter
from typing import Any

from exporter.collectors import patroni_cluster, patroni_node
from exporter.collectors.base import AnyCollector
from exporter.collectors.patroni_cluster import Member
from exporter.discovery.clusters import FoundCluster, KnownCluster, listed


@dataclass(frozen=True)
class Ask:
    """Requests a document from some nodes at once; the first response that can be used counts.

    `share` is the part of the remaining time that it may take.
    """

    urls: Sequence[str]
    collector: AnyCollector = patroni_cluster.COLLECTOR
    share: float = 1.0


@dataclass(frozen=True)
class Reply:
    """The document of the node that responded first, with the URL that was requested."""

    url: str
    model: Any


class SearchError(Exception):
    """The cluster of the node at `url` was not found although it responded; the message is a sentence."""

    def __init__(self, url: str, reason: str) -> None:
        super().__init__(reason)
        self.url = url


#: Yields what to request, receives the reply or None, and returns the cluster or None.
Search = Generator[Ask, Reply | None, FoundCluster | None]


def search_seeds(urls: Sequence[str]) -> Search:
    """Finds the cluster of some nodes; raises SearchError."""
    reply = yield Ask(urls)
    return (yield from _found(reply, "")) if reply else None


def search_known(known: KnownCluster) -> Search:
    """Finds a known cluster again: requests its view, or if that one is down or has left, the others and the seeds."""
    view = known.members.get(known.view)
    reply = (yield Ask([view.url], share=0.5)) if view else None
    if reply is None or reply.model.scope not in (None, known.scope):
        others = {member.url for member in known.members.values()} | known.seeds.keys()
        reply = (yield Ask([*others - {view.url if view else ""}], share=0.7)) or reply
    return (yield from _found(reply, known.scope)) if reply else None


def search_view(cluster: FoundCluster) -> Search:
    """Finds the view of a cluster: the first replica that responds, its leader if no replica does."""
    names = _names(cluster.members)
    for urls in _in_order(cluster.members):
        if reply := (yield Ask(urls, patroni_node.COLLECTOR, share=0.5)):
            return replace(cluster, view=names[reply.url])
    return replace(cluster, view=representative(cluster.members))


def _found(reply: Reply, scope: str) -> Search:
    """Returns the cluster as its view describes it, or as the node does that has responded, which can be a seed."""
    for urls in _in_order(reply.model.members):
        if reply.url in urls:
            break
        if better := (yield Ask(urls, share=0.5)):
            reply = better
            break
    scope = reply.model.scope or scope  # /cluster has it since Patroni 3.2
    if not scope:
        node = yield Ask([reply.url], patroni_node.COLLECTOR)
        if node is None:
            raise SearchError(reply.url, "the scope of its cluster is not known")
        scope = node.model.scope
    members = reply.model.members
    return FoundCluster(scope, members, _names(members).get(reply.url) or representative(members))


def _in_order(members: Sequence[Member]) -> Iterator[list[str]]:
    """Returns the members that can be the view, the best ones first: one replica, all others, the leader.

    A view that does not lead stays while its cluster fails over, and sees whether the leader was shut down. Several
    exporters must agree on it, so it is always the same replica.
    """
    replicas = sorted(_names(member for member in members if not member.is_leader).items(), key=itemgetter(1))
    leader = _names(member for member in members if member.is_leader)
    for urls in (replicas[:1], replicas[1:], leader.items()):
        if urls:
            yield [url for url, _ in urls]


def _names(members: Iterable[Member]) -> dict[str, str]:
    """Returns the names of the members that can be requested, by the URLs of their REST API."""
    return {member.url: member.labels["name"] for member in listed(members)}


def representative(members: Sequence[Member]) -> str:
    """Returns the name of the member that is the view of a cluster in which none responds."""
    names = _names(members)
    return next((names[urls[0]] for urls in _in_order(members)), "")
