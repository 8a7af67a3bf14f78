"""A real Patroni that asks for client certificates, and an exporter before it whose certificates change on disk."""

import http.client
import json
import ssl
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest
import trustme

from demo.cluster import Cluster
from demo.node import HOST, Config, Node
from demo.processes import Account
from tests.certificates import Files, authority, issue
from tests.collectors.test_patroni_node import read_samples
from tests.live.cluster import Told, family
from tests.live.processes import MODULE, Served, free_port, serving

ALL = {("node",): 1.0, ("cluster",): 1.0, ("history",): 1.0, ("config",): 1.0, ("failsafe",): 1.0}

#: Patroni does not wait until its refusal was read, so that this comes through, or the connection is just gone.
WITHOUT = {
    "TLS: the server asks for a client certificate",
    "the connection was closed without an answer; does the server ask for a client certificate?",
}
UNTRUSTED = {
    "TLS: the server does not trust the authority of the client certificate",
    "the connection was closed without an answer; does the server accept the client certificate?",
}


class Locked(Cluster):
    """A cluster whose REST API shows `server` and asks for a client certificate of the authority in `ca_file`."""

    def __init__(self, ca_file: Path, server: Files, own: Files) -> None:
        restapi: Config = {
            "certfile": str(server.cert),
            "keyfile": str(server.key),
            "cafile": str(ca_file),
            "verify_client": "required",
        }
        ctl: Config = {"cacert": str(ca_file), "certfile": str(own.cert), "keyfile": str(own.key)}
        super().__init__("4.1.5", 1, node_config={"*": {"restapi": restapi, "ctl": ctl}})
        self._tls = ssl.create_default_context(cafile=str(ca_file))
        self._tls.load_cert_chain(*own.pair)

    def _connection(self, node: Node, seconds: float) -> http.client.HTTPConnection:
        return http.client.HTTPSConnection(HOST, node.rest_port, timeout=seconds, context=self._tls)


@dataclass
class Scene:
    """The cluster, and what vouches for whom in a folder that Patroni can read."""

    cluster: Locked
    folder: Path
    ca: trustme.CA

    @property
    def url(self) -> str:
        return self.cluster.nodes[0].url.replace("http:", "https:")

    @property
    def environ(self) -> dict[str, str]:
        """What lets an exporter verify this Patroni; it has basic authentication too, which a GET need not have."""
        return {
            **self.cluster.marked,
            "PATRONI_EXPORTER_URL": f"{self.url}/patroni",
            "PATRONI_EXPORTER_REQUEST_VERIFY": str(self.folder / "ca.pem"),
            "PATRONI_EXPORTER_USERNAME": "somebody",
            "PATRONI_EXPORTER_PASSWORD": "anything",
        }


@pytest.fixture(scope="module")
def scene() -> Iterator[Scene]:
    with tempfile.TemporaryDirectory(prefix="patroni-keys-") as name, ExitStack() as stack:
        folder = Path(name)
        folder.chmod(0o755)
        ca = authority(folder / "ca.pem")
        server = issue(ca, folder, "server", HOST)
        Account.current().own(server.key)
        cluster = stack.enter_context(Locked(folder / "ca.pem", server, issue(ca, folder, "own")))
        yield Scene(cluster, folder, ca)


def successes(served: Served) -> Told:
    """Which documents were read in one scrape."""
    return family(read_samples(served.get()[1]), "patroni_scrape_collector_success", "collector")


def reason(served: Served) -> str | None:
    """Why Patroni is down, by /health; None when it is up."""
    found: str | None = json.loads(served.get("/health")[1])["modules"]["patroni"]["reason"]
    return found


def test_patroni_that_asks_for_a_client_certificate_refuses_without_one(scene: Scene, tmp_path: Path) -> None:
    with free_port() as port, serving(tmp_path, port, [*MODULE, "--port", str(port)], environ=scene.environ) as served:
        assert successes(served) == dict.fromkeys(ALL, 0.0)
        assert reason(served) in WITHOUT


def test_certificate_that_is_replaced_on_disk_is_shown_from_then_on(scene: Scene, tmp_path: Path) -> None:
    client = issue(scene.ca, tmp_path, "client")
    environ = {
        **scene.environ,
        "PATRONI_EXPORTER_CERT_FILE": str(client.cert),
        "PATRONI_EXPORTER_KEY_FILE": str(client.key),
    }
    with free_port() as port, serving(tmp_path, port, [*MODULE, "--port", str(port)], environ=environ) as served:
        assert successes(served) == ALL
        issue(scene.ca, tmp_path, "client")
        assert successes(served) == ALL
        stranger = authority(tmp_path / "stranger.pem")
        issue(stranger, tmp_path, "client")
        assert successes(served) == dict.fromkeys(ALL, 0.0)
        assert reason(served) in UNTRUSTED
        issue(scene.ca, tmp_path, "client", expired=True)
        assert successes(served) == dict.fromkeys(ALL, 0.0)
        client.key.unlink()
        assert reason(served) == f"{client.key}: no such file or directory"
        issue(scene.ca, tmp_path, "client")
        assert successes(served) == ALL
        assert reason(served) is None
