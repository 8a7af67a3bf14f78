"""deploy/prometheus with promtool and a real Prometheus."""

import json
import subprocess
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.conftest import Upstream
from tests.limits.scrapes import RECORDED
from tests.live.installed import needs, path_of
from tests.live.processes import MODULE, ROOT, recorded, run, serving, until
from tests.live.prometheus import Prometheus, prometheus

FOLDER = ROOT / "deploy" / "prometheus"
FILES = sorted(path.name for path in FOLDER.glob("*.yml"))

Configuration = dict[str, Any]


def load(name: str) -> Configuration:
    configuration: Configuration = yaml.safe_load((FOLDER / name).read_text())
    return configuration


def job(configuration: Configuration, name: str) -> Configuration:
    (found,) = (one for one in configuration["scrape_configs"] if one["job_name"] == name)
    scrape: Configuration = found
    return scrape


@needs("promtool")
@pytest.mark.parametrize("name", FILES)
def test_promtool_accepts_it(name: str) -> None:
    status, output = run([path_of("promtool"), "check", "config", "--lint-fatal", name], cwd=FOLDER)
    assert status == 0, output
    assert f"SUCCESS: {name} is valid prometheus config file syntax" in output


def shares(folder: Path, shard: int, nodes: list[str]) -> dict[str, str]:
    """The exporter of each node that this shard of Prometheus scrapes, by promtool."""
    configuration = load("shards.yml")
    patroni = job(configuration, "patroni")
    patroni["static_configs"] = [{"targets": nodes}]
    (keep,) = (rule for rule in patroni["relabel_configs"] if rule.get("action") == "keep")
    assert keep["regex"] == "0"
    keep["regex"] = str(shard)
    file = folder / f"shard-{shard}.yml"
    file.write_text(yaml.safe_dump(configuration))
    command = [path_of("promtool"), "check", "service-discovery", "--timeout=1s", str(file), "patroni"]
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    kept = [found["labels"] for found in json.loads(output) if found["labels"]]
    assert all(labels["instance"] == labels["__param_target"] for labels in kept)
    return {labels["__param_target"]: labels["__address__"] for labels in kept}


@needs("promtool")
def test_shards(tmp_path: Path) -> None:
    nodes = [f"db{number}.example.org:8008" for number in range(60)]
    shards = [shares(tmp_path, shard, nodes) for shard in (0, 1)]
    assert sorted([*shards[0], *shards[1]]) == sorted(nodes)
    exporters = {f"exporter-{number}.example.org:9547" for number in range(3)}
    for shard in shards:
        counts = Counter(shard.values())
        assert counts.keys() == exporters
        assert min(counts.values()) > 3


def values(prometheus: Prometheus, expression: str) -> dict[str, list[float]]:
    """The values of an expression by job, sorted."""
    found = defaultdict(list)
    for labels, value in prometheus.query(expression):
        found[labels["job"]].append(value)
    return {name: sorted(values) for name, values in found.items()}


@contextmanager
def scraping(
    folder: Path, port: int, name: str, targets: dict[str, str], environ: dict[str, str], *arguments: str
) -> Iterator[Prometheus]:
    """An exporter on this port, and a Prometheus that scrapes it every second with these targets of its jobs."""
    configuration = load(name)
    configuration["global"].update(scrape_interval="1s", scrape_timeout="1s")
    for job_name, target in targets.items():
        job(configuration, job_name)["static_configs"] = [{"targets": [target]}]
    for rule in job(configuration, "patroni").get("relabel_configs", []):
        if rule.get("target_label") == "__address__":
            rule["replacement"] = f"127.0.0.1:{port}"
    with (
        serving(folder, port, (*MODULE, "--port", str(port), *arguments), environ=environ),
        prometheus(folder, configuration) as running,
    ):
        yield running


@needs("prometheus")
def test_static(tmp_path: Path, upstream: Upstream, port: int) -> None:
    upstream.serve(RECORDED)
    environ = {"STAYTUS_API_URL": upstream.url, "STAYTUS_API_TOKEN": "t", "STAYTUS_API_SECRET": "s"}
    address = f"127.0.0.1:{port}"
    targets = {"patroni": address, "staytus": address}
    with scraping(tmp_path, port, "static.yml", targets, environ, "--patroni-url", upstream.url) as running:
        until(lambda: values(running, "patroni_up + staytus_up") == {"patroni": [2.0], "staytus": [2.0]})


@needs("prometheus")
def test_probe(tmp_path: Path, upstream: Upstream, port: int) -> None:
    node = f"127.0.0.1:{recorded(upstream).server_port}"
    modules = {"modules": {"patroni": {"collector": "patroni", "targets": [node]}}}
    (tmp_path / "modules.yml").write_text(yaml.safe_dump(modules))
    environ = {"EXPORTER_CONFIG_FILE": str(tmp_path / "modules.yml")}
    targets = {"patroni": node, "exporter": f"127.0.0.1:{port}"}
    with scraping(tmp_path, port, "probe.yml", targets, environ) as running:
        until(lambda: values(running, f'patroni_up{{instance="{node}"}}') == {"patroni": [1.0]})
        until(lambda: values(running, "exporter_build_info") == {"exporter": [1.0]})
        assert values(running, "patroni_up") == {"patroni": [1.0]}
