"""A real Prometheus that scrapes exporters and evaluates rules every second."""

import json
import urllib.parse
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.request import ProxyHandler, build_opener

import yaml

from tests.live.installed import path_of
from tests.live.processes import free_port, serving, until

#: The labels of one series, and its value.
Told = list[tuple[dict[str, str], float]]


@dataclass(frozen=True)
class Prometheus:
    """One that runs; its API is at `url`."""

    url: str

    def query(self, expression: str) -> Told:
        """What the expression gives now."""
        found = self._get("/api/v1/query", query=expression)["result"]
        return [(series["metric"], float(series["value"][1])) for series in found]

    def firing(self) -> set[str]:
        """The alerts that fire now, each with the member that it names, if any."""
        return {_alert(labels) for labels, _ in self.query('ALERTS{alertstate="firing"}')}

    def fired(self, since: float, until: float) -> set[str]:
        """The alerts that fired at any time between these two, in Unix seconds."""
        found = self._get("/api/v1/query_range", query='ALERTS{alertstate="firing"}', start=since, end=until, step=1)[
            "result"
        ]
        return {_alert(series["metric"]) for series in found}

    def ready(self) -> bool:
        """Tells whether it answers queries."""
        with suppress(OSError):
            return self.query("vector(1)") == [({}, 1.0)]
        return False

    def _get(self, path: str, **parameters: object) -> Any:
        address = f"{self.url}{path}?{urllib.parse.urlencode(parameters)}"
        with build_opener(ProxyHandler({})).open(address, timeout=10) as answer:
            return json.load(answer)["data"]


def _alert(labels: Mapping[str, str]) -> str:
    return " ".join([labels["alertname"], *filter(None, [labels.get("name")])])


@contextmanager
def prometheus(folder: Path, targets: Mapping[str, Sequence[str]], rules: Sequence[Path] = ()) -> Iterator[Prometheus]:
    """Starts it with these targets by job and these rule files, and ends it; all that it writes is in the folder."""
    config = {
        "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
        "rule_files": [str(file) for file in rules],
        "scrape_configs": [
            {"job_name": job, "static_configs": [{"targets": list(addresses)}]} for job, addresses in targets.items()
        ],
    }
    file = folder / "prometheus.yml"
    file.write_text(yaml.safe_dump(config))
    with free_port() as port:
        command = [
            path_of("prometheus"),
            f"--config.file={file}",
            f"--storage.tsdb.path={folder / 'prometheus'}",
            f"--web.listen-address=127.0.0.1:{port}",
            "--log.level=warn",
        ]
        with serving(folder, port, command):
            running = Prometheus(f"http://127.0.0.1:{port}")
            until(running.ready)
            yield running
