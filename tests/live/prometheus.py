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
        """The firing alerts, each with its label `name` if it has one."""
        return {_alert(labels) for labels, _ in self.query('ALERTS{alertstate="firing"}')}

    def fired(self, since: float, until: float) -> set[str]:
        """The alerts that fired between two times in Unix seconds."""
        found = self.api("query_range", query='ALERTS{alertstate="firing"}', start=since, end=until, step=1)
        return {_alert(series["metric"]) for series in found["result"]}


def _alert(labels: Mapping[str, str]) -> str:
    return " ".join([labels["alertname"], *filter(None, [labels.get("name")])])


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
