"""A real Prometheus and its API."""

import json
import urllib.parse
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tests.live.installed import path_of
from tests.live.processes import Served, free_port, serving, until

FIRING = 'ALERTS{alertstate="firing",alertname!="Watchdog"}'

#: The labels and the value of each series.
Vector = list[tuple[dict[str, str], float]]


@dataclass(frozen=True)
class Prometheus:
    """A running Prometheus."""

    served: Served

    def api(self, path: str, **parameters: object) -> Any:
        """The data of a response of its API."""
        status, text = self.served.get(f"/api/v1/{path}?{urllib.parse.urlencode(parameters)}")
        assert status == 200, text
        return json.loads(text)["data"]

    def query(self, expression: str) -> Vector:
        """The present value of an expression."""
        found = self.api("query", query=expression)["result"]
        return [(series["metric"], float(series["value"][1])) for series in found]

    def firing(self) -> set[str]:
        """The alerts that fire now but the one that always does, as `namespace alert member`."""
        return self._named(self.api("query", query=FIRING)["result"])

    def fired(self, since: float, until: float) -> set[str]:
        """The alerts that fired at any time between these two, in Unix seconds."""
        return self._named(self.api("query_range", query=FIRING, start=since, end=until, step=1)["result"])

    @staticmethod
    def _named(series: list[dict[str, dict[str, str]]]) -> set[str]:
        labels = ("namespace", "alertname", "name")
        return {" ".join(filter(None, [each["metric"].get(label) for label in labels])) for each in series}


@contextmanager
def prometheus(folder: Path, configuration: Mapping[str, Any], environ: Mapping[str, str] = {}) -> Iterator[Prometheus]:
    """Starts Prometheus with this configuration; its files are in the folder."""
    file = folder / "prometheus.yml"
    file.write_text(yaml.safe_dump(dict(configuration)))
    with free_port() as port:
        command = [
            path_of("prometheus"),
            f"--config.file={file}",
            f"--storage.tsdb.path={folder / 'prometheus'}",
            f"--web.listen-address=127.0.0.1:{port}",
            "--log.level=warn",
        ]
        with serving(folder, port, command, environ=environ) as served:
            until(lambda: served.get("/-/ready")[0] == 200)
            yield Prometheus(served)
