"""A real Patroni that requires client certificates."""

import http.client
import json
import re
import ssl
import tempfile
from pathlib import Path

from demo.cluster import Cluster
from demo.node import HOST, Config, Node
from demo.processes import Account
from tests.certificates import Files, authority, issue
from tests.live.processes import Served, running_exporter

#: Patroni closes without waiting for the client, so that its alert can be lost.
CLOSED = "the connection was closed without a response; does the server"
MISSING = {"TLS: the server requires a client certificate", f"{CLOSED} require a client certificate?"}
UNTRUSTED = {
    "TLS: the server does not trust the authority of the client certificate",
    f"{CLOSED} accept the client certificate?",
}


class TLSCluster(Cluster):
    """A cluster of one node whose REST API requires a client certificate."""

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


def reason(served: Served) -> str | None:
    """Why Patroni is down, by /health; None if it is up."""
    found: str | None = json.loads(served.get("/health")[1])["modules"]["patroni"]["reason"]
    return found


def test_client_certificate(tmp_path: Path) -> None:
    with tempfile.TemporaryDirectory(prefix="patroni-keys-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        ca = authority(folder / "ca.pem")
        server, client = issue(ca, folder, "server", HOST), issue(ca, tmp_path, "client")
        Account.current().own(server.key)
        with TLSCluster(folder / "ca.pem", server, issue(ca, folder, "own")) as cluster:
            environ = {
                **cluster.environ,
                "PATRONI_EXPORTER_URL": cluster.nodes[0].url.replace("http:", "https:"),
                "PATRONI_EXPORTER_REQUEST_VERIFY": str(folder / "ca.pem"),
            }
            with running_exporter(tmp_path, environ=environ) as served:
                assert served.up() == "0.0"
                assert reason(served) in MISSING
            environ |= {"PATRONI_EXPORTER_CERT_FILE": str(client.cert), "PATRONI_EXPORTER_KEY_FILE": str(client.key)}
            with running_exporter(tmp_path, environ=environ) as served:
                success = re.findall(r"(?m)^patroni_scrape_collector_success\{.*\} (.*)$", served.get()[1])
                assert success == ["1.0"] * 5
                issue(authority(tmp_path / "other.pem"), tmp_path, "client")
                assert reason(served) in UNTRUSTED
                issue(ca, tmp_path, "client")
                assert reason(served) is None
