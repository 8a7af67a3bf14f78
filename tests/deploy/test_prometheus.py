"""deploy/prometheus: as promtool and a real Prometheus read it."""

import json
import subprocess
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.conftest import Upstream
from tests.limits.scrapes import RECORDED
from tests.live.installed import needs, path_of
from tests.live.processes import MODULE, ROOT, free_port, recorded, serving, until
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
def test_promtool_has_nothing_to_say(name: str) -> None:
    command = [path_of("promtool"), "check", "config", "--lint-fatal", str(FOLDER / name)]
    checked = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (checked.returncode, checked.stderr) == (0, "")
    assert f"SUCCESS: {FOLDER / name} is valid prometheus config file syntax" in checked.stdout


def shares(folder: Path, shard: int, nodes: list[str]) -> dict[str, str]:
    """Which exporter the Prometheus of this shard asks for which node, as promtool says."""
    configuration = load("shards.yml")
    patroni = job(configuration, "patroni")
    patroni["static_configs"] = [{"targets": nodes}]
    (keep,) = (rule for rule in patroni["relabel_configs"] if rule.get("action") == "keep")
    assert keep["regex"] == "0"
    keep["regex"] = str(shard)
    file = folder / f"shard-{shard}.yml"
    file.write_text(yaml.safe_dump(configuration))
    command = [path_of("promtool"), "check", "service-discovery", "--timeout=1s", str(file), "patroni"]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    kept = [found["labels"] for found in json.loads(said) if found["labels"]]
    assert all(labels["instance"] == labels["__param_target"] for labels in kept)
    return {labels["__param_target"]: labels["__address__"] for labels in kept}


@needs("promtool")
def test_each_node_has_one_prometheus_and_one_exporter_and_all_of_them_have_work(tmp_path: Path) -> None:
    nodes = [f"db{number}.example.org:8008" for number in range(60)]
    shards = [shares(tmp_path, shard, nodes) for shard in (0, 1)]
    assert sorted([*shards[0], *shards[1]]) == sorted(nodes)
    exporters = {f"exporter-{number}.example.org:9547" for number in range(3)}
    for shard in shards:
        work = Counter(shard.values())
        assert work.keys() == exporters
        assert min(work.values()) > 3


def quickened(configuration: Configuration) -> Configuration:
    """The configuration with a scrape every second."""
    configuration["global"].update(scrape_interval="1s", scrape_timeout="1s")
    return configuration


def values(prometheus: Prometheus, expression: str) -> dict[str, list[float]]:
    """The values of an expression now, sorted, by job."""
    found = defaultdict(list)
    for labels, value in prometheus.query(expression):
        found[labels["job"]].append(value)
    return {name: sorted(values) for name, values in found.items()}


@needs("prometheus")
def test_prometheus_scrapes_the_exporters_beside_the_nodes(tmp_path: Path, upstream: Upstream) -> None:
    upstream.serve(RECORDED)
    environ = {"STAYTUS_API_URL": upstream.url, "STAYTUS_API_TOKEN": "t", "STAYTUS_API_SECRET": "s"}
    with free_port() as port:
        command = (*MODULE, "--port", str(port), "--patroni-url", upstream.url + "/patroni")
        configuration = load("static.yml")
        for name in ("patroni", "staytus"):
            job(configuration, name)["static_configs"] = [{"targets": [f"127.0.0.1:{port}"]}]
        with (
            serving(tmp_path, port, command, environ=environ),
            prometheus(tmp_path, quickened(configuration)) as watching,
        ):
            until(lambda: values(watching, "patroni_up + staytus_up") == {"patroni": [2.0], "staytus": [2.0]})


@needs("prometheus")
def test_prometheus_scrapes_nodes_through_one_exporter(tmp_path: Path, upstream: Upstream) -> None:
    recorded(upstream)
    node = f"127.0.0.1:{upstream.server_port}"
    modules = {"modules": {"patroni": {"collector": "patroni", "targets": [node]}}}
    (tmp_path / "modules.yml").write_text(yaml.safe_dump(modules))
    with free_port() as port:
        configuration = load("probe.yml")
        patroni, exporter = job(configuration, "patroni"), job(configuration, "exporter")
        patroni["static_configs"] = [{"targets": [node]}]
        patroni["relabel_configs"][-1]["replacement"] = f"127.0.0.1:{port}"
        exporter["static_configs"] = [{"targets": [f"127.0.0.1:{port}"]}]
        environ = {"EXPORTER_CONFIG_FILE": str(tmp_path / "modules.yml")}
        command = (*MODULE, "--port", str(port))
        with (
            serving(tmp_path, port, command, environ=environ),
            prometheus(tmp_path, quickened(configuration)) as watching,
        ):
            until(lambda: values(watching, f'patroni_up{{instance="{node}"}}') == {"patroni": [1.0]})
            until(lambda: values(watching, "exporter_build_info") == {"exporter": [1.0]})
            assert values(watching, "patroni_up") == {"patroni": [1.0]}
