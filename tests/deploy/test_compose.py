"""compose.yaml: the published schema accepts it, and it fits its files and the exporter."""

import os
import re
import sys
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import yaml

from exporter.__main__ import into_environment
from exporter.config.modules import read_modules
from exporter.config.settings import Settings
from tests.live.installed import needs, path_of
from tests.live.processes import ROOT, run

FOLDER = ROOT / "deploy" / "compose"

Service = dict[str, Any]


@pytest.fixture
def services() -> dict[str, Service]:
    found: dict[str, Service] = yaml.safe_load((ROOT / "compose.yaml").read_text())["services"]
    return found


def mounts(service: Service) -> dict[str, str]:
    """The mounted files by the path in the container; all are read-only."""
    mounted = {}
    for volume in service.get("volumes", []):
        source, target, mode = volume.split(":")
        assert mode == "ro"
        mounted[target] = source
    return mounted


def test_schema() -> None:
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec", "compose.yaml"]
    assert run(command, cwd=ROOT) == (0, "ok -- validation done\n")


def test_files_exist(services: dict[str, Service]) -> None:
    sources = {source for service in services.values() for source in mounts(service).values()}
    assert {source for source in sources if not (ROOT / source).exists()} == set()
    assert (ROOT / services["exporter"]["build"] / "Dockerfile").exists()
    for name in ("db1", "db2", "db3"):
        build = services[name]["build"]
        dockerfile = ROOT / build["context"] / build["dockerfile"]
        (copied,) = re.findall(r"^COPY (\S+) ", dockerfile.read_text(), re.MULTILINE)
        assert (dockerfile.parent / copied).exists()


def test_ports_are_local(services: dict[str, Service]) -> None:
    assert {name: service["ports"] for name, service in services.items() if "ports" in service} == {
        "exporter": ["127.0.0.1:9547:9547"],
        "prometheus": ["127.0.0.1:9090:9090"],
        "grafana": ["127.0.0.1:3000:3000"],
    }


def test_port_of_the_exporter(services: dict[str, Service], monkeypatch: pytest.MonkeyPatch) -> None:
    exporter = services["exporter"]
    assert mounts(exporter).keys() == {exporter["environment"]["EXPORTER_CONFIG_FILE"]}
    monkeypatch.setattr(os, "environ", {})
    assert into_environment(exporter["command"]).words == []
    port = Settings.load({**os.environ, "EXPORTER_ENV_FILE": os.devnull}).listen().rpartition(":")[2]
    text = (FOLDER / "prometheus.yml").read_text()
    assert set(re.findall(r"exporter:(\d+)", text)) == {port}


def test_names_of_the_nodes(services: dict[str, Service]) -> None:
    for name in ("db1", "db2", "db3"):
        assert set(re.findall(r"db\d", str(services[name]["environment"]))) == {name}


@needs("promtool")
def test_promtool_accepts_the_configuration(services: dict[str, Service], tmp_path: Path) -> None:
    mounted = mounts(services["prometheus"])
    configuration = yaml.safe_load((ROOT / mounted["/etc/prometheus/prometheus.yml"]).read_text())
    (rules,) = configuration["rule_files"]
    configuration["rule_files"] = [f"{ROOT / mounted['/etc/prometheus/rules']}/{rules.removeprefix('rules/')}"]
    (tmp_path / "prometheus.yml").write_text(yaml.safe_dump(configuration))
    status, output = run([path_of("promtool"), "check", "config", "--lint-fatal", "prometheus.yml"], cwd=tmp_path)
    assert status == 0, output


def test_grafana(services: dict[str, Service]) -> None:
    mounted = mounts(services["grafana"])
    (provider,) = yaml.safe_load((FOLDER / "grafana-dashboards.yml").read_text())["providers"]
    assert mounted[provider["options"]["path"]] == "./monitoring/grafana"
    (source,) = yaml.safe_load((FOLDER / "grafana-datasources.yml").read_text())["datasources"]
    assert (source["type"], source["url"]) == ("prometheus", "http://prometheus:9090")


def test_modules_allow_the_nodes(services: dict[str, Service]) -> None:
    path = ROOT / mounts(services["exporter"])["/etc/exporter/modules.yml"]
    modules = read_modules(path.read_text(), "modules.yml")
    configuration = yaml.safe_load((FOLDER / "prometheus.yml").read_text())
    query = parse_qs(urlsplit(configuration["scrape_configs"][0]["http_sd_configs"][0]["url"]).query)
    urls = [modules[query["module"][0]].at(target).target.url for target in query["target"]]
    assert urls == ["http://db1:8008", "http://db2:8008", "http://db3:8008"]
