"""The clusters in an etcd, read through its JSON gateway."""

from dataclasses import dataclass

from exporter.collectors.patroni_cluster import Member
from exporter.config.discovery import Etcd


class EtcdError(Exception):
    """The clusters cannot be read; the text is one line without secrets."""


@dataclass(frozen=True)
class EtcdCluster:
    """A cluster; `leader` is the name of its leader, empty if there is none."""

    scope: str
    leader: str
    members: tuple[Member, ...]


def clusters(etcd: Etcd, seconds: float) -> list[EtcdCluster]:
    """Returns the clusters below the prefix, within `seconds`; raises EtcdError."""
    raise NotImplementedError
