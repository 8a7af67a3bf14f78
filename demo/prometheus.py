"""Prometheus for the demo's exporters, with the rules in monitoring/rules, if it is installed."""

from __future__ import annotations

import contextlib
import json
import math
import os
import shutil
import subprocess
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml

from demo.cluster import Cluster
from demo.node import HOST, Ports
from demo.processes import end, first_response
from exporter.config.readers import duration

RULES = Path(__file__).parents[1] / "monitoring" / "rules"
PORT = 9090

#: The log, in the folder of the cluster.
LOG = "prometheus/prometheus.log"

#: The path of the alerts page; Debian's package has only the classic UI.
ALERTS = ("/alerts", "/classic/alerts")


@contextlib.contextmanager
def prometheus(cluster: Cluster, targets: Sequence[str]) -> Iterator[str | None]:
    """Run Prometheus with these targets and yield the URL of its alerts; None if `prometheus` is not on PATH.

    It listens on port 9090 if that is free, else on another free port. Its files are in the cluster's folder, and the
    end of the cluster ends it too. Raises DemoError if it does not start.
    """
    program = shutil.which("prometheus")
    if program is None:
        yield None
        return
    folder = cluster.folder / "prometheus"
    folder.mkdir()
    file, log = folder / "prometheus.yml", cluster.folder / LOG
    file.write_text(json.dumps(_config(targets)))  # JSON is YAML
    ports = Ports()
    port = ports.prefer(PORT, cluster.programs.cache)
    argv = [
        program, f"--config.file={file}", f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address={HOST}:{port}", "--log.level=warn",
    ]  # fmt: skip
    with log.open("wb") as out:
        process = subprocess.Popen(
            argv, cwd=folder, env={**os.environ, **cluster.environ}, stdin=subprocess.DEVNULL, stdout=out,
            stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
    url = f"http://{HOST}:{port}"
    try:
        first_response("Prometheus", process, log, lambda: _get(f"{url}/-/ready"))
        yield next((url + path for path in ALERTS if _exists(url + path)), url)
    finally:
        process.terminate()
        end(process)
        ports.release()


def alert_after(name: str, seconds: float = 0) -> str:
    """The alert and the minutes until it fires, if its expression is true after so many seconds."""
    rules = [rule for file in RULES.glob("*.yml") for group in yaml.safe_load(file.read_text())["groups"]
        for rule in group["rules"]]  # fmt: skip
    (rule,) = (rule for rule in rules if rule.get("alert") == name)
    return f"{name} in about {math.ceil((seconds + duration(rule['for'])) / 30) / 2:g} min"


def _config(targets: Sequence[str]) -> dict[str, Any]:
    """Scrape and evaluate every 2 seconds; alerts keep their `for` of minutes."""
    return {
        "global": {"scrape_interval": "2s", "scrape_timeout": "2s", "evaluation_interval": "2s"},
        "rule_files": [str(file) for file in sorted(RULES.glob("*.yml"))],
        "scrape_configs": [{"job_name": "patroni", "static_configs": [{"targets": list(targets)}]}],
    }


def _get(url: str) -> None:
    """Raise OSError unless the status is 200."""
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(url, timeout=10):
        pass


def _exists(url: str) -> bool:
    try:
        _get(url)
    except OSError:
        return False
    return True
