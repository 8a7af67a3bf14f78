"""Prometheus before the demo's exporters, with the rules of monitoring/rules, where it is installed."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from demo.cluster import Cluster
from demo.node import HOST, Ports
from demo.processes import end, first_answer

RULES = Path(__file__).parents[1] / "monitoring" / "rules"
PORT = 9090

#: Where its page of alerts is, and where Debian's package has it, which comes without the newer pages.
ALERTS = ("/alerts", "/classic/alerts")


@contextlib.contextmanager
def prometheus(cluster: Cluster, targets: Sequence[str]) -> Iterator[str | None]:
    """Start it with these targets and give the URL of its alerts, None where no `prometheus` is on PATH.

    It listens on its usual port where that is free, else on any. All that it writes is in the cluster's folder, with
    which it ends at the latest. Raises DemoError where it does not come up.
    """
    program = shutil.which("prometheus")
    if program is None:
        yield None
        return
    folder = cluster.folder / "prometheus"
    folder.mkdir()
    file, log = folder / "prometheus.yml", folder / "prometheus.log"
    file.write_text(json.dumps(_config(targets)))  # JSON is YAML
    ports = Ports()
    port = ports.prefer(PORT, cluster.programs.cache)
    argv = [
        program, f"--config.file={file}", f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address={HOST}:{port}", "--log.level=warn",
    ]  # fmt: skip
    with log.open("wb") as out:
        process = subprocess.Popen(
            argv, cwd=folder, env={**os.environ, **cluster.marked}, stdin=subprocess.DEVNULL, stdout=out,
            stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
    url = f"http://{HOST}:{port}"
    try:
        first_answer("Prometheus", process, log, lambda: _get(f"{url}/-/ready"))
        yield next((url + path for path in ALERTS if _is_there(url + path)), url)
    finally:
        process.terminate()
        end(process)
        ports.release()


def _config(targets: Sequence[str]) -> dict[str, Any]:
    """Alerts that wait for minutes wait in the demo too; what they see is some seconds old."""
    return {
        "global": {"scrape_interval": "2s", "scrape_timeout": "2s", "evaluation_interval": "2s"},
        "rule_files": [str(file) for file in sorted(RULES.glob("*.yml"))],
        "scrape_configs": [{"job_name": "patroni", "static_configs": [{"targets": list(targets)}]}],
    }


def _get(url: str) -> None:
    """Raises OSError unless the answer is 200."""
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(url, timeout=10):
        pass


def _is_there(url: str) -> bool:
    try:
        _get(url)
    except OSError:
        return False
    return True
