"""deploy/prometheus with promtool and a real Prometheus."""

import json
import subprocess
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
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


def found_by_consul(configuration: Configuration, services: Mapping[str, str]) -> Configuration:
    """The configuration with the targets that Consul would discover: the ids of services, and their addresses.

    The Prometheus of Debian is built without Consul.
    """
    patroni = job(configuration, "patroni-clusters")
    assert patroni.pop("consul_sd_configs") == [{"server": "consul.example.org:8500", "tags": ["patroni"]}]
    patroni["static_configs"] = [
        {"targets": [address], "labels": {"__meta_consul_service_id": service}} for service, address in services.items()
    ]
    return configuration


@needs("promtool")
@pytest.mark.parametrize("name", FILES)
def test_promtool_accepts_it(tmp_path: Path, name: str) -> None:
    file = FOLDER / name
    if name == "consul_sd.yml":
        file = tmp_path / name
        file.write_text(yaml.safe_dump(found_by_consul(load(name), {"main/db1": "10.20.0.1:5432"})))
    status, output = run([path_of("promtool"), "check", "config", "--lint-fatal", name], cwd=file.parent)
    assert status == 0, output
    assert f"SUCCESS: {name} is valid prometheus config file syntax" in output


def targets(folder: Path, configuration: Configuration) -> list[dict[str, str]]:
    """The labels of the targets that Prometheus would scrape, by promtool, sorted by instance."""
    file = folder / "prometheus.yml"
    file.write_text(yaml.safe_dump(configuration))
    command = [path_of("promtool"), "check", "service-discovery", "--timeout=1s", str(file), "patroni-clusters"]
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    found = [target["labels"] for target in json.loads(output) if target["labels"]]
    return sorted(found, key=lambda labels: str(labels["instance"]))


def discovered(upstream: Upstream, name: str, groups: list[dict[str, Any]]) -> Configuration:
    """The configuration with an exporter that returns these groups from /sd."""

    def send(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Type", "application/json")
        handler.end_headers()
        handler.wfile.write(json.dumps(groups).encode())

    upstream.answers["/sd?module=patroni"] = send
    configuration = load(name)
    (sd,) = job(configuration, "patroni-clusters")["http_sd_configs"]
    sd["url"] = sd["url"].replace("http://exporter.example.org:9547", upstream.url)
    return configuration


def member(scope: str, name: str, address: str, *, view: bool) -> dict[str, Any]:
    """A member in the response of /sd."""
    labels = {"scope": scope, "name": name, "scheme": "https", "cluster_view": "true" if view else "false"}
    return {"targets": [address], "labels": {f"__meta_patroni_{label}": value for label, value in labels.items()}}


@needs("promtool")
def test_http_sd(tmp_path: Path, upstream: Upstream) -> None:
    """A view, a member that is none, and a seed that leads to no cluster."""
    groups = [
        member("main", "n1", "db1.example.org:8008", view=True),
        member("main", "n2", "[2001:db8::2]:8008", view=False),
        {"targets": ["db9.example.org:8008"], "labels": {"__meta_patroni_scheme": "http"}},
    ]
    fixed = {
        "__address__": "exporter.example.org:9547",
        "__metrics_path__": "/probe",
        "__param_module": "patroni",
        "__scheme__": "http",
        "__scrape_interval__": "15s",
        "__scrape_timeout__": "10s",
        "job": "patroni-clusters",
    }
    main = {**fixed, "cluster": "main"}
    first, second, seed = "db1.example.org:8008", "[2001:db8::2]:8008", "db9.example.org:8008"
    assert targets(tmp_path, discovered(upstream, "http_sd.yml", groups)) == [
        {**main, "member": "n2", "instance": second, "__param_target": f"https://{second}", "__param_collect": "node"},
        {**main, "member": "n1", "instance": first, "__param_target": f"https://{first}"},
        {**fixed, "instance": seed, "__param_target": f"http://{seed}"},
    ]


@needs("promtool")
def test_consul_sd(tmp_path: Path) -> None:
    """Services as Patroni 4.1 registers them (_update_service, dcs/consul.py)."""
    services = {"main/db1": "10.20.0.1:5432", "main/db2": "[2001:db8::2]:5432"}
    found = targets(tmp_path, found_by_consul(load("consul_sd.yml"), services))
    assert [(each["cluster"], each["member"], each["instance"], each["__param_target"]) for each in found] == [
        ("main", "db1", "10.20.0.1:8008", "10.20.0.1:8008"),
        ("main", "db2", "[2001:db8::2]:8008", "[2001:db8::2]:8008"),
    ]
    assert {each["__address__"] for each in found} == {"exporter.example.org:9547"}


def shares(folder: Path, configuration: Configuration, shard: int) -> dict[tuple[str, str], str]:
    """The exporter of each member that this shard of Prometheus scrapes."""
    (keep,) = (rule for rule in job(configuration, "patroni-clusters")["relabel_configs"] if rule.get("regex") == "0")
    assert keep["action"] == "keep"
    keep["regex"] = str(shard)
    kept = targets(folder, configuration)
    keep["regex"] = "0"
    return {(labels["cluster"], labels["member"]): labels["__address__"] for labels in kept}


@needs("promtool")
def test_shards(tmp_path: Path, upstream: Upstream) -> None:
    """Each cluster has one Prometheus, and each member one exporter."""
    nodes = [(f"c{number // 3}", f"n{number % 3}") for number in range(90)]
    groups = [member(scope, name, f"{scope}{name}.example.org:8008", view=name == "n0") for scope, name in nodes]
    configuration = discovered(upstream, "shards.yml", groups)
    shards = [shares(tmp_path, configuration, shard) for shard in (0, 1)]
    assert sorted([*shards[0], *shards[1]]) == sorted(nodes)
    assert {scope for scope, _ in shards[0]} & {scope for scope, _ in shards[1]} == set()
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
