"""One node of a cluster: its addresses, its files and its Patroni configuration."""

from __future__ import annotations

import contextlib
import copy
import fcntl
import secrets
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

HOST = "127.0.0.1"
Config = dict[str, Any]


@dataclass(frozen=True)
class Node:
    """A member of the cluster."""

    name: str
    folder: Path
    rest_port: int
    pg_port: int
    raft_port: int

    @property
    def url(self) -> str:
        """The base URL of Patroni's REST API."""
        return f"http://{HOST}:{self.rest_port}"

    @property
    def data(self) -> Path:
        """The data directory of PostgreSQL."""
        return self.folder / "data"

    @property
    def log(self) -> Path:
        """The log of Patroni and PostgreSQL."""
        return self.folder / "patroni.log"

    @property
    def file(self) -> Path:
        """Patroni's configuration file."""
        return self.folder / "patroni.yml"

    def log_tail(self, lines: int = 20) -> str:
        """The last lines of the log without the indented lines of tracebacks; empty if there is no log."""
        try:
            found = [line for line in self.log.read_text(errors="replace").splitlines() if not line.startswith(" ")]
        except OSError:
            return ""
        return "\n".join(found[-lines:])


@dataclass(frozen=True)
class Passwords:
    """Random for each cluster, so that other users of the machine cannot log in through loopback."""

    superuser: str = field(default_factory=secrets.token_hex)
    replication: str = field(default_factory=secrets.token_hex)
    rest: str = field(default_factory=secrets.token_hex)
    raft: str = field(default_factory=secrets.token_hex)


class Ports:
    """Free ports on loopback, kept reserved until `release`.

    A socket that is bound with SO_REUSEADDR but does not listen reserves the port: bind() to port 0 does not choose it,
    but a server that binds to it with SO_REUSEADDR can listen. Patroni, PostgreSQL, raft and gunicorn do this.
    """

    def __init__(self) -> None:
        """Start without reserved ports."""
        self._stack = contextlib.ExitStack()

    def reserve(self) -> int:
        """Reserve any free port; SO_REUSEADDR is set after bind(), so that other reservations are not shared."""
        sock = self._stack.enter_context(socket.socket())
        sock.bind((HOST, 0))
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        return int(sock.getsockname()[1])

    def prefer(self, port: int, locks: Path) -> int:
        """Reserve this port if it is free, else any free port.

        Ports in TIME_WAIT count as free. A lock file in the folder `locks` marks the ports that other demos have
        reserved but not opened yet.
        """
        with contextlib.ExitStack() as stack:
            try:
                lock = stack.enter_context((locks / f"port-{port}.lock").open("w"))
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                sock = stack.enter_context(socket.socket())
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                sock.bind((HOST, port))
            except OSError:
                return self.reserve()
            self._stack.enter_context(stack.pop_all())
        return port

    def release(self) -> None:
        """Release all ports."""
        self._stack.close()


def merge(into: Config, other: Mapping[str, Any]) -> Config:
    """Merge `other` into the first deeply, as PATCH /config does; None removes a key."""
    for key, value in other.items():
        if value is None:
            into.pop(key, None)
        elif isinstance(value, Mapping) and isinstance(into.get(key), dict):
            merge(into[key], value)
        else:
            into[key] = copy.deepcopy(value)
    return into


def dynamic_config() -> Config:
    """The initial dynamic configuration, with the shortest intervals that Patroni allows."""
    parameters = {
        "wal_level": "replica", "hot_standby": "on", "wal_log_hints": "on",
        "max_connections": 40, "max_worker_processes": 4, "max_wal_senders": 8, "max_replication_slots": 8,
    }  # fmt: skip
    return {
        "ttl": 20, "loop_wait": 1, "retry_timeout": 3, "maximum_lag_on_failover": 1048576,
        "postgresql": {"use_pg_rewind": True, "use_slots": True, "parameters": parameters},
    }  # fmt: skip


def raft_config(own: Node | None, nodes: Sequence[Node], passwords: Passwords, folder: Path) -> Config:
    """The raft section of a node; patronictl, which is not a node, gets one without `self_addr`."""
    partners = [f"{HOST}:{node.raft_port}" for node in nodes if node != own]
    config = {"data_dir": str(folder / "raft"), "partner_addrs": partners, "password": passwords.raft}
    return config if own is None else {**config, "self_addr": f"{HOST}:{own.raft_port}"}


def node_config(
    own: Node, nodes: Sequence[Node], scope: str, pg_bin: Path, passwords: Passwords, dynamic: Config
) -> Config:
    """The Patroni configuration of one node."""
    rest, postgresql = f"{HOST}:{own.rest_port}", f"{HOST}:{own.pg_port}"
    hba = [f"host {what} all {HOST}/32 scram-sha-256" for what in ("all", "replication")]
    parameters = {
        "unix_socket_directories": "", "shared_buffers": "16MB", "fsync": "off", "wal_retrieve_retry_interval": "200ms",
        "dynamic_shared_memory_type": "mmap", "password_encryption": "scram-sha-256",
        "log_timezone": "UTC", "timezone": "UTC",
    }  # fmt: skip
    return {
        "scope": scope,
        "namespace": "/demo/",
        "name": own.name,
        "restapi": {
            "listen": rest,
            "connect_address": rest,
            "authentication": {"username": "demo", "password": passwords.rest},
        },
        "raft": raft_config(own, nodes, passwords, own.folder),
        "bootstrap": {
            "dcs": dynamic,
            "initdb": [{"encoding": "UTF8"}, {"locale": "C"}, {"auth": "scram-sha-256"}, "data-checksums"],
            "pg_hba": hba,
        },
        "postgresql": {
            "listen": postgresql,
            "connect_address": postgresql,
            "data_dir": str(own.data),
            "bin_dir": str(pg_bin),
            "pgpass": str(own.folder / "pgpass"),
            "pg_hba": hba,
            "authentication": {
                "superuser": {"username": "postgres", "password": passwords.superuser},
                "replication": {"username": "replicator", "password": passwords.replication},
            },
            "parameters": parameters,
        },
    }
