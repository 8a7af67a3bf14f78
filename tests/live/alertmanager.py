"""A real Alertmanager with the example configuration, and the notifications that it sends."""

import json
import urllib.request
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import yaml

from tests.live.installed import path_of
from tests.live.processes import ROOT, Served, free_port, serving, until

EXAMPLE = ROOT / "monitoring" / "alertmanager" / "alertmanager.yml"

Labels = dict[str, str]


@dataclass(frozen=True)
class Alertmanager:
    """One that runs; `notified` are the alerts that its receivers got, by the path of the receiver."""

    served: Served
    notified: dict[str, list[Labels]]

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.served.port}"

    def post(self, alerts: Iterable[Mapping[str, str]]) -> None:
        """Sends firing alerts as Prometheus does."""
        body = json.dumps([{"labels": dict(labels)} for labels in alerts]).encode()
        headers = {"Content-Type": "application/json"}
        request = urllib.request.Request(f"http://{self.address}/api/v2/alerts", body, headers)
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=10):
            pass

    def alerts(self) -> dict[bool, list[Labels]]:
        """The alerts that it has, by whether they are inhibited."""
        status, text = self.served.get("/api/v2/alerts")
        assert status == 200, text
        found: dict[bool, list[Labels]] = {True: [], False: []}
        for alert in json.loads(text):
            found[bool(alert["status"]["inhibitedBy"])].append(alert["labels"])
        return found


@contextmanager
def alertmanager(folder: Path, **route: str) -> Iterator[Alertmanager]:
    """Starts it with the example, but its receivers are here and `route` replaces times of all routes."""
    notified: dict[str, list[Labels]] = {}

    class Receiver(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            sent = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            firing = [alert["labels"] for alert in sent["alerts"] if alert["status"] == "firing"]
            notified.setdefault(self.path.removeprefix("/"), []).extend(firing)
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    receivers = ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
    Thread(target=receivers.serve_forever, daemon=True).start()
    config = yaml.safe_load(EXAMPLE.read_text())
    for receiver in config["receivers"]:
        for webhook in receiver["webhook_configs"]:
            webhook["url"] = f"http://127.0.0.1:{receivers.server_port}/{receiver['name']}"
    for each in (config["route"], *config["route"]["routes"]):
        each.update(route)
    file = folder / "alertmanager.yml"
    file.write_text(yaml.safe_dump(config))
    with free_port() as port:
        command = [
            path_of("prometheus-alertmanager"),
            f"--config.file={file}",
            f"--storage.path={folder / 'alertmanager'}",
            f"--web.listen-address=127.0.0.1:{port}",
            "--cluster.listen-address=",
            "--log.level=warn",
        ]
        with serving(folder, port, command) as served:
            until(lambda: served.get("/-/ready")[0] == 200)
            yield Alertmanager(served, notified)
    receivers.shutdown()
    receivers.server_close()
