"""The clusters that the keys of Patroni describe, in the form of its `/cluster`."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from exporter.collectors.document import Fields, ParseError
from exporter.collectors.patroni_cluster import Member, read_member
from exporter.collectors.patroni_config import standby_cluster, synchronous_mode
from exporter.discovery.clusters import FoundCluster

#: Bytes of the values of all members.
SIZE_LIMIT = 64 * 1024 * 1024

#: A key below the prefix. `optime/leader`, which Patroni had until 2.1, is not that of a cluster.
_KEY = re.compile(
    r"(?P<path>.+?)(?<!/optime)/(?:members/(?P<member>[^/]+)|(?P<name>config|initialize|leader|sync))", re.DOTALL
)

#: What Patroni copies from the value of a member (patroni/utils.py, cluster_as_json).
_COPIED = ("api_url", "timeline", "pending_restart", "pending_restart_reason", "scheduled_restart", "tags")


class Keys:
    """The keys below a prefix. `skipped` are the reasons why members are left out."""

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix
        self._clusters: dict[str, _Cluster] = {}
        self._size = 0
        self.skipped: list[str] = []

    def add(self, key: bytes, value: bytes) -> None:
        """Adds a key, which is ignored if it is not one of those that are needed; raises ParseError."""
        try:
            match = _KEY.fullmatch(key.decode().removeprefix(self._prefix))
        except UnicodeDecodeError:
            return
        if match is None:
            return
        cluster = self._clusters.setdefault(match["path"], _Cluster())
        if match["member"] is not None:
            self._size += len(value)
            if self._size > SIZE_LIMIT:
                raise ParseError(f"the members take more than {SIZE_LIMIT // 1024 // 1024} MiB")
            cluster.members[match["member"]] = value
        else:
            cluster.set(match["name"], value)

    def clusters(self) -> list[FoundCluster]:
        """Returns the clusters that have members or are initialized, without a view."""
        return [
            FoundCluster(_scope(path), tuple(self._members(path, cluster)), "", self._prefix + path)
            for path, cluster in self._clusters.items()
            if cluster.members or cluster.is_initialized
        ]

    def _members(self, path: str, cluster: "_Cluster") -> Iterator[Member]:
        for name, value in cluster.members.items():
            try:
                yield cluster.member(name, _object(value))
            except ParseError as error:
                self.skipped.append(f"{self._prefix}{path}/members/{name}: {error}")


@dataclass
class _Cluster:
    """The values of the keys of one cluster; `sync_standbys` are names in lower case."""

    members: dict[str, bytes] = field(default_factory=dict)
    leader: str = ""
    is_initialized: bool = False
    is_standby_cluster: bool = False
    sync_role: str = ""
    sync_standbys: tuple[str, ...] = ()

    def set(self, name: str, value: bytes) -> None:
        """Sets what a key other than that of a member says. As in Patroni, a value that is not valid says nothing."""
        if name == "leader":
            self.leader = value.decode(errors="replace")
        elif name == "initialize":
            self.is_initialized = True
        else:
            try:
                content = _object(value)
            except ParseError:
                return
            self._set_config(content) if name == "config" else self._set_sync(content)

    def _set_config(self, config: dict[str, Any]) -> None:
        """Reads the modes as Patroni does (patroni/global_config.py)."""
        mode = synchronous_mode(config.get("synchronous_mode"))
        self.is_standby_cluster = standby_cluster(config.get("standby_cluster")) or False
        if mode in ("on", "quorum") and not self.is_standby_cluster:
            self.sync_role = "quorum_standby" if mode == "quorum" else "sync_standby"

    def _set_sync(self, sync: dict[str, Any]) -> None:
        names = sync.get("sync_standby")
        if sync.get("leader") and isinstance(names, str):
            self.sync_standbys = tuple(name.strip().lower() for name in names.split(","))

    def member(self, name: str, data: dict[str, Any]) -> Member:
        """Returns a member from its value; raises ParseError."""
        role = self._role(name)
        host, port = _address(data.get("conn_url"))
        replication_state = data.get("replication_state") if role != "leader" else None
        row = {key: data.get(key) for key in _COPIED}
        row |= {"name": name, "role": role, "state": replication_state or data.get("state"), "host": host, "port": port}
        return read_member(Fields(row, ""))

    def _role(self, name: str) -> str:
        if name == self.leader:
            return "standby_leader" if self.is_standby_cluster else "leader"
        return self.sync_role if self.sync_role and name.lower() in self.sync_standbys else "replica"


def _scope(path: str) -> str:
    """Returns the last part of a path, without the number of a group of Citus; others before it are a namespace."""
    return path.split("/")[-2 if re.search(r"/(0|[1-9]\d*)$", path, re.ASCII) else -1]


def _object(value: bytes) -> dict[str, Any]:
    try:
        content = json.loads(value)
    except (ValueError, RecursionError):
        content = None
    if not isinstance(content, dict):
        raise ParseError("expected a JSON object")
    return content


def _address(conn_url: object) -> tuple[str | None, int | None]:
    """Returns the host and port of PostgreSQL."""
    try:
        url = urlsplit(conn_url if isinstance(conn_url, str) else "")
        return url.hostname, (url.port or 5432) if url.hostname else None
    except ValueError:
        return None, None
