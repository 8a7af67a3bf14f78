"""A real Prometheus, and what it says."""

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

#: The labels of one series, and its value.
Told = list[tuple[dict[str, str], float]]


@dataclass(frozen=True)
class Prometheus:
    """One that runs."""

    served: Served

    def api(self, path: str, **parameters: object) -> Any:
        """What its API answers below /api/v1/."""
        status, text = self.served.get(f"/api/v1/{path}?{urllib.parse.urlencode(parameters)}")
        assert status == 200, text
        return json.loads(text)["data"]

    def query(self, expression: str) -> Told:
        """What the expression gives now."""
        found = self.api("query", query=expression)["result"]
        return [(series["metric"], float(series["value"][1])) for series in found]

    def firing(self) -> set[str]:
        """The alerts that fire now, each with the member that it names, if any."""
        return {_alert(labels) for labels, _ in self.query('ALERTS{alertstate="firing"}')}

    def fired(self, since: float, until: float) -> set[str]:
        """The alerts that fired at any time between these two, in Unix seconds."""
        found = self.api("query_range", query='ALERTS{alertstate="firing"}', start=since, end=until, step=1)
        return {_alert(series["metric"]) for series in found["result"]}


def _alert(labels: Mapping[str, str]) -> str:
    return " ".join([labels["alertname"], *filter(None, [labels.get("name")])])


@contextmanager
def prometheus(folder: Path, configuration: Mapping[str, Any], environ: Mapping[str, str] = {}) -> Iterator[Prometheus]:
    """Starts it with this configuration, and ends it; all that it writes is in the folder."""
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
