"""`python -m monitoring.grafana` writes each dashboard as JSON beside this file."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path

from grafana_foundation_sdk.builders.dashboard import Dashboard
from grafana_foundation_sdk.cog.encoder import JSONEncoder

from monitoring.grafana.patroni_cluster import patroni_cluster
from monitoring.grafana.patroni_fleet import patroni_fleet
from monitoring.grafana.staytus import staytus

FOLDER = Path(__file__).parent

DASHBOARDS: Mapping[str, Callable[[], Dashboard]] = {
    "patroni-fleet.json": patroni_fleet,
    "patroni-cluster.json": patroni_cluster,
    "staytus.json": staytus,
}


def text(build: Callable[[], Dashboard]) -> str:
    """Returns the dashboard as Grafana imports it, with its panels numbered in their order."""
    dashboard = build().build()
    for number, panel in enumerate(dashboard.panels or [], start=1):
        panel.id_val = number
    return json.dumps(dashboard, cls=JSONEncoder, indent=2, sort_keys=True, ensure_ascii=False) + "\n"


def main() -> None:
    """Writes all dashboards."""
    for file, build in DASHBOARDS.items():
        (FOLDER / file).write_text(text(build), encoding="utf-8")


if __name__ == "__main__":
    main()
