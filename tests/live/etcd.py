"""A real etcd that can be lost, and Patroni clusters that use it instead of raft."""

import base64
import contextlib
import json
import ssl
import subprocess
import sys
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from demo.cluster import Cluster
from demo.install import Programs
from demo.node import HOST, Config, Node
from tests.certificates import Files
from tests.live.installed import path_of
from tests.live.processes import free_port, serving, until

#: What Patroni needs to talk to etcd.
CLIENT = ("python-etcd==0.4.5", "dnspython>=2,<3")


class Etcd:
    """One member on a fixed port, with TLS if it has a certificate; `start` after `stop` finds the same data."""

    def __init__(self, folder: Path, port: int, peer_port: int, tls: Files | None) -> None:
        self.port, self._folder, self._peer_port, self._tls = port, folder, peer_port, tls
        self.url = f"http{'s' if tls else ''}://{HOST}:{port}"
        self._running = contextlib.ExitStack()

    def start(self) -> None:
        client, peer = self.url, f"http://{HOST}:{self._peer_port}"
        command = [
            *(path_of("etcd"), "--name=drill", f"--data-dir={self._folder / 'etcd'}", "--unsafe-no-fsync"),
            *(f"--listen-client-urls={client}", f"--advertise-client-urls={client}"),
            *(f"--listen-peer-urls={peer}", f"--initial-advertise-peer-urls={peer}", f"--initial-cluster=drill={peer}"),
        ]
        if self._tls:
            command += [f"--cert-file={self._tls.cert}", f"--key-file={self._tls.key}"]
        self._running.enter_context(serving(self._folder, self.port, command))
        until(self._is_healthy)

    def _is_healthy(self) -> bool:
        try:
            with self._open("/health"):
                return True
        except OSError:
            return False

    def call(self, method: str, body: Mapping[str, Any], token: str = "") -> Any:
        """Returns the response of the gateway; raises OSError for an error."""
        headers = {"Content-Type": "application/json"} | ({"Authorization": token} if token else {})
        with self._open(f"/v3{method}", json.dumps(body).encode(), headers) as response:
            return json.load(response)

    def _open(self, path: str, body: bytes | None = None, headers: Mapping[str, str] = {}) -> Any:
        request = urllib.request.Request(self.url + path, body, dict(headers))
        return urllib.request.urlopen(request, context=ssl._create_unverified_context(), timeout=10)

    def put(self, keys: Mapping[str, bytes], token: str = "") -> None:
        """Sets keys, 100 in each request."""
        puts = [{"request_put": {"key": encode(key.encode()), "value": encode(keys[key])}} for key in keys]
        for start in range(0, len(puts), 100):
            self.call("/kv/txn", {"success": puts[start : start + 100]}, token)

    def delete(self, key: str, *, prefix: bool = False) -> None:
        """Deletes a key, or all keys with this prefix, which ends with a slash; at least one must exist."""
        end = {"range_end": encode(key[:-1].encode() + b"0")} if prefix else {}
        assert int(self.call("/kv/deleterange", {"key": encode(key.encode()), **end})["deleted"]) > 0

    def stop(self) -> None:
        """Ends it as a crash of its host does."""
        self._running.close()


def encode(text: bytes) -> str:
    """The text in base64."""
    return base64.b64encode(text).decode()


@contextlib.contextmanager
def etcd(folder: Path, tls: Files | None = None) -> Iterator[Etcd]:
    """A running etcd."""
    with free_port() as port, free_port() as peer_port:
        server = Etcd(folder, port, peer_port, tls)
        server.start()
        try:
            yield server
        finally:
            server.stop()


class EtcdCluster(Cluster):
    """A cluster whose DCS is etcd; clusters of one scope differ in their namespace."""

    def __init__(
        self, server: Etcd, namespace: str, nodes: int, scope: str, dynamic: Config, **node_config: Config
    ) -> None:
        super().__init__("4.1.5", nodes, scope=scope, dynamic=dynamic, node_config=node_config)
        self.namespace, self._server = namespace, server

    @property
    def programs(self) -> Programs:
        programs = super().programs
        found = subprocess.run([str(programs.python), "-I", "-c", "import etcd, dns"], check=False, capture_output=True)
        if found.returncode:
            pip = [sys.executable, "-m", "pip", "--python", str(programs.python), "install", "-q", *CLIENT]
            subprocess.run(pip, check=True)
        return programs

    def _config(self, node: Node) -> Config:
        config: dict[str, Any] = super()._config(node)
        del config["raft"]
        return {**config, "namespace": f"/{self.namespace}/", "etcd3": {"host": f"{HOST}:{self._server.port}"}}

    def _ctl_config(self) -> Config:
        config = self._config(self.nodes[0])
        return {key: config[key] for key in ("scope", "namespace", "restapi", "etcd3", "postgresql")}

    def _wait_for_raft(self, node: Node, seconds: float = 10) -> None:
        """There is none."""
