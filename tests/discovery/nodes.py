"""Clusters of HTTP servers that respond as the nodes of Patroni do."""

import json
import socket
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager

from exporter.collectors.document import Answer
from tests.conftest import Upstream


class Cluster:
    """A cluster with a node for each name, the last of which is the leader."""

    def __init__(self, scope: str, nodes: Mapping[str, Upstream], ports: ExitStack, *, scope_in_cluster: bool) -> None:
        self.scope = scope
        self.nodes = dict(nodes)
        self._ports = ports
        self.more = {"scope": scope} if scope_in_cluster else {}
        self.serve(*self.nodes)

    def serve(self, *names: str, leader: str = "") -> None:
        """Lists these members from now on, by default with the last one as the leader."""
        members = [
            {
                "name": name,
                "role": "leader" if name == (leader or names[-1]) else "replica",
                "state": "running",
                "api_url": f"{self.nodes[name].url}/patroni",
            }
            for name in names
        ]
        document = Answer(200, json.dumps({"members": members, **self.more}).encode())
        patroni = {"state": "running", "role": "replica", "patroni": {"version": "4.1.5", "scope": self.scope}}
        for node in self.nodes.values():
            node.serve({"/cluster": document, "/patroni": Answer(200, json.dumps(patroni).encode())})

    def host(self, name: str) -> str:
        """The host and port of a node."""
        return self.nodes[name].url.removeprefix("http://")

    def stop(self, name: str) -> None:
        """Ends the server of a node: connections are refused, and no other test can bind its port."""
        node = self.nodes[name]
        _stop(node)
        reserved = self._ports.enter_context(socket.socket())
        reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        reserved.bind(("127.0.0.1", node.server_port))

    @property
    def paths(self) -> dict[str, list[str]]:
        """The paths that each node was requested for since the last call."""
        paths = {name: node.paths for name, node in self.nodes.items()}
        for node in self.nodes.values():
            node.requests.clear()
        return {name: found for name, found in paths.items() if found}


def _stop(node: Upstream) -> None:
    if node.socket.fileno() != -1:
        node.__exit__()


@contextmanager
def cluster(scope: str, *names: str, scope_in_cluster: bool = True) -> Iterator[Cluster]:
    """A cluster whose nodes are stopped at the end, if they were not before."""
    with ExitStack() as servers:
        nodes = {name: Upstream() for name in names}
        for node in nodes.values():
            node.__enter__()
            servers.callback(_stop, node)
        yield Cluster(scope, nodes, servers, scope_in_cluster=scope_in_cluster)
