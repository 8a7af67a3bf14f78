"""A real Patroni cluster on loopback, installed from PyPI: Patroni with its built-in raft, PostgreSQL from a wheel.

with Cluster(nodes=3) as cluster:
    status, body = cluster.get(cluster.nodes[0], "/patroni")
"""

from __future__ import annotations

import base64
import contextlib
import http.client
import json
import signal
import time
from collections.abc import Callable, Sequence
from typing import Any, Self, TypeVar

from demo import DemoError
from demo.install import driver, version_tuple
from demo.node import HOST, Config, Node
from demo.processes import send
from demo.servers import Servers

T = TypeVar("T")

LEADERS = ("leader", "standby_leader")
UP = ("running", "streaming", "in archive recovery")

SQL = """import json, sys, {driver}
connection = {driver}.connect(host="{host}", port={port}, user="postgres", dbname="postgres", connect_timeout=5)
connection.autocommit = True
cursor = connection.cursor()
cursor.execute(sys.argv[1])
print(json.dumps(cursor.fetchall() if cursor.description else [], default=str))
"""


class Cluster(Servers):
    """A cluster that runs from `start` to `stop`, or in a `with` block."""

    def __enter__(self) -> Self:
        """Start the cluster."""
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop the cluster."""
        self.stop()

    def start(self, timeout: float = 120) -> None:
        """Install and start, then wait up to `timeout` seconds until healthy; stops the cluster if that fails."""
        try:
            self.launch()
            self.wait_healthy(timeout, self.nodes)
        except BaseException:
            self.stop()
            raise

    # reads

    def get(self, node: Node, path: str, seconds: float = 5) -> tuple[int, bytes]:
        """GET from Patroni: HTTP status and body; raises OSError if there is no response."""
        return self._request(node, "GET", path, None, seconds)

    def leader(self) -> Node | None:
        """The leader, according to the first node that responds."""
        found = [member["name"] for member in self._members() if member["role"] in LEADERS]
        return next((node for node in self.nodes if node.name in found), None)

    def replicas(self) -> tuple[Node, ...]:
        """The other members whose PostgreSQL is up, according to the first node that responds."""
        found = [
            member["name"] for member in self._members() if member["role"] not in LEADERS and member["state"] in UP
        ]
        return tuple(node for node in self.nodes if node.name in found)

    def wait(self, what: str, test: Callable[[], T], seconds: float) -> T:
        """Call `test` until it returns a true value, and return that; an OSError counts as false."""
        deadline = time.monotonic() + seconds
        while True:
            try:
                if value := test():
                    return value
            except OSError:
                pass
            if time.monotonic() > deadline:
                raise DemoError(f"timed out after {seconds:g} s waiting for {what}")
            time.sleep(0.1)

    def wait_healthy(self, seconds: float = 60, nodes: Sequence[Node] = ()) -> None:
        """Wait until there is a leader, all nodes run on its timeline, and the others replicate from it.

        `nodes` defaults to those whose Patroni runs now. Raises DemoError at once if the Patroni of one of them ends.
        """
        nodes = nodes or self._running()
        found: tuple[str, Node] | None = None

        def settled() -> bool:
            nonlocal found
            found = self._unhealthy(nodes)
            return found is None or not self.runs(found[1])

        with contextlib.suppress(DemoError):
            self.wait("a healthy cluster", settled, seconds)
        if found is not None:
            reason, node = found
            raise DemoError(f"no healthy cluster: {reason}; the end of {node.name}'s log:\n{node.log_tail()}")

    def _unhealthy(self, nodes: Sequence[Node]) -> tuple[str, Node] | None:
        """The reason why these nodes are not a healthy cluster, and the node whose log is relevant."""
        for node in nodes:
            if not self.runs(node):
                return f"Patroni on {node.name} has ended", node
        members = {member["name"]: member for member in self._members()}
        leader = self.leader()
        if leader is None:
            return "there is no leader", nodes[0]
        for node in nodes:
            if reason := self._unhealthy_member(node, members.get(node.name), members[leader.name]):
                return f"{node.name} {reason}", node
        cascades = any("replicatefrom" in member.get("tags", {}) for member in members.values())
        replicas = len(self._document(leader, "/patroni").get("replication", []))
        if replicas < len(nodes) - 1 and not cascades:
            return f"{leader.name} has {replicas} of {len(nodes) - 1} replicas", leader
        return None

    def _unhealthy_member(self, node: Node, member: Config | None, leader: Config) -> str:
        """The reason why a member is not healthy; empty if it is."""
        if member is None:
            return "is not a member yet"
        up = ("running", "streaming") if version_tuple(self.version) < (3, 0, 4) or member == leader else ("streaming",)
        if member["state"] not in up:
            return f"is {member['state']}"
        if member.get("timeline") != leader.get("timeline"):
            return f"is on timeline {member.get('timeline')}"
        state = self._document(node, "/patroni").get("state")
        return "" if state == "running" else f"reports state {state}"

    # changes

    def switchover(self, candidate: Node | None = None, seconds: float = 60) -> Node:
        """Switch over to the candidate, by default one that Patroni chooses, and wait until healthy."""
        leader = self._need_leader()
        body = {"leader": leader.name, **({"candidate": candidate.name} if candidate else {})}
        self._send(leader, "POST", "/switchover", body, seconds)
        self.wait("another leader", lambda: self.leader() not in (None, leader), seconds)
        self.wait_healthy(seconds)
        return self._need_leader()

    def pause(self) -> None:
        """Pause the cluster, and wait until every node reports it."""
        self._pause(True)

    def resume(self) -> None:
        """Resume the cluster, and wait until every node reports it."""
        self._pause(False)

    def patch_config(self, patch: Config) -> None:
        """PATCH /config. Patroni merges the patch, None removes a key; nodes apply it within seconds."""
        self._send(self._running()[0], "PATCH", "/config", patch)

    def sql(self, node: Node, statement: str, seconds: float = 30) -> list[list[Any]]:
        """Run one statement as superuser and return the rows; values without a JSON type are strings."""
        code = SQL.format(driver=driver(self.version), host=HOST, port=node.pg_port)
        argv = [str(self.programs.python), "-c", code, statement]
        status, out, err = self.account.run(argv, seconds, {"PGPASSWORD": self._passwords.superuser})
        if status:
            raise DemoError(f"{statement} on {node.name}: {(err.strip().splitlines() or ['no error message'])[-1]}")
        rows: list[list[Any]] = json.loads(out)
        return rows

    def pause_replay(self, node: Node) -> None:
        """Pause WAL replay on a replica. Pause the cluster first, or Patroni resumes the replay within a second.

        See handle_parameter_change in Patroni's postgresql/__init__.py, for PostgreSQL from 14 on.
        """
        self.sql(node, "SELECT pg_wal_replay_pause()")

    def resume_replay(self, node: Node) -> None:
        """Undo `pause_replay`."""
        self.sql(node, "SELECT pg_wal_replay_resume()")

    def stop_postgres(self, node: Node) -> None:
        """Shut PostgreSQL down (fast) without Patroni, which restarts it unless the cluster is paused."""
        pid = self.postmaster(node)
        if pid is None:
            raise DemoError(f"PostgreSQL is not running on {node.name}")
        send([pid], signal.SIGINT)
        self.wait(f"PostgreSQL to stop on {node.name}", lambda: self.postmaster(node) != pid, 30)

    def patronictl(self, *args: str, seconds: float = 30) -> str:
        """Standard output of the real patronictl on this cluster, e.g. for `"list", "-f", "json"`."""
        program = self.programs.python.parent / "patronictl"
        argv = [str(program), "-c", str(self.folder / "patronictl.yml"), *args]
        status, out, err = self.account.run(argv, seconds, {"LANG": "C.UTF-8", "HOME": str(self.folder)})
        if status:
            raise DemoError(f"patronictl {' '.join(args)} ended with {status}: {err.strip()}")
        return out

    # requests

    def _pause(self, wanted: bool) -> None:
        nodes = self._running()
        self.patch_config({"pause": wanted or None})
        self.wait(f"every node to report pause {wanted}", lambda: all(self._pauses(n) == wanted for n in nodes), 30)

    def _pauses(self, node: Node) -> bool:
        return bool(self._document(node, "/patroni").get("pause"))

    def _running(self) -> list[Node]:
        nodes = [node for node in self.nodes if self.runs(node)]
        if not nodes:
            raise DemoError("no node is running")
        return nodes

    def _need_leader(self) -> Node:
        leader = self.leader()
        if leader is None:
            raise DemoError("there is no leader")
        return leader

    def _members(self) -> list[Config]:
        """The members, according to the first node that responds."""
        for node in self.nodes:
            if self.runs(node) and (members := self._document(node, "/cluster").get("members")):
                return list(members)
        return []

    def _document(self, node: Node, path: str) -> Config:
        """The JSON document of a response with any status; empty if there is none."""
        try:
            document = json.loads(self.get(node, path)[1])
        except (OSError, ValueError):
            return {}
        return document if isinstance(document, dict) else {}

    def _send(self, node: Node, method: str, path: str, body: Config, seconds: float = 30) -> None:
        """Send a request that must succeed; raises DemoError if it does not."""
        try:
            status, content = self._request(node, method, path, json.dumps(body).encode(), seconds)
        except OSError as error:
            raise DemoError(f"{method} {path} on {node.name}: {error}") from None
        if status >= 300:
            raise DemoError(f"{method} {path} on {node.name}: {status} {content.decode(errors='replace').strip()}")

    def _request(self, node: Node, method: str, path: str, body: bytes | None, seconds: float) -> tuple[int, bytes]:
        credentials = base64.b64encode(f"demo:{self._passwords.rest}".encode()).decode()
        headers = {"Connection": "close", "Content-Type": "application/json", "Authorization": f"Basic {credentials}"}
        connection = self._connection(node, seconds)
        try:
            connection.request(method, path, body, headers)
            response = connection.getresponse()
            return response.status, response.read()
        except http.client.HTTPException as error:
            raise OSError(f"{type(error).__name__}: {error}") from None
        finally:
            connection.close()

    def _connection(self, node: Node, seconds: float) -> http.client.HTTPConnection:
        """A connection to Patroni, not open yet. Override this if `node_config` enables TLS."""
        return http.client.HTTPConnection(HOST, node.rest_port, timeout=seconds)
