"""The key `discovery` of a module: where the clusters of the module are found."""

from dataclasses import dataclass

from exporter.config.yaml_file import Entry
from exporter.upstream.headers import Secret
from exporter.upstream.target import RequestOptions


@dataclass(frozen=True)
class Etcd:
    """An etcd v3 that holds the keys of Patroni.

    `endpoints` are URLs without a slash at the end; `prefix` begins and ends with a slash.
    """

    endpoints: tuple[str, ...]
    prefix: str
    options: RequestOptions
    user: str = ""
    password: Secret | None = None


@dataclass(frozen=True)
class Discovery:
    """The clusters of a module. A member that is gone stays listed for `keep_missing` seconds."""

    seeds: tuple[str, ...] = ()
    etcd: Etcd | None = None
    keep_missing: float = 3600.0


def read_discovery(entry: Entry) -> Discovery:
    """Returns the value of the key; raises ConfigError."""
    raise NotImplementedError
