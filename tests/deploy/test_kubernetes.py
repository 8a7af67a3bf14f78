"""deploy/kubernetes: the published schemas accept it, and it fits the exporter."""

import base64
import importlib
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import kubernetes_validate  # type: ignore[import-untyped]
import pytest
import yaml

from exporter.__main__ import into_environment
from exporter.config.modules import read_modules
from exporter.config.settings import Settings
from exporter.version import __version__
from tests.live.processes import ROOT

pytestmark = pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is not installed")

PORT = 9547

Manifest = dict[str, Any]


class Manifests:
    """The objects of a kustomization, without the hashes in generated names."""

    def __init__(self, name: str) -> None:
        folder = ROOT / "deploy" / "kubernetes" / name
        built = subprocess.run(["kubectl", "kustomize", folder], capture_output=True, text=True, check=True).stdout
        text = re.sub(r"(patroni-staytus-exporter-(?:modules|secrets))-[a-z0-9]{10}\b", r"\1", built)
        self.objects: list[Manifest] = list(yaml.safe_load_all(text))
        self.pod: Manifest = self.one("Deployment")["spec"]["template"]
        self.container: Manifest
        (self.container,) = self.pod["spec"]["containers"]

    def one(self, kind: str) -> Manifest:
        """The only object of this kind."""
        (found,) = (manifest for manifest in self.objects if manifest["kind"] == kind)
        return found

    def files(self) -> dict[str, str]:
        """The texts of the files that are mounted from ConfigMaps and Secrets, by their paths."""
        config_map, secret = self.one("ConfigMap"), self.one("Secret")
        decoded = {name: base64.b64decode(text).decode() for name, text in secret["data"].items()}
        texts = {config_map["metadata"]["name"]: config_map["data"], secret["metadata"]["name"]: decoded}
        volumes = {
            volume["name"]: volume["configMap"]["name"] if "configMap" in volume else volume["secret"]["secretName"]
            for volume in self.pod["spec"]["volumes"]
        }
        mounts = {mount["name"]: mount["mountPath"] for mount in self.container["volumeMounts"]}
        assert mounts.keys() == volumes.keys()
        return {
            f"{mounts[name]}/{file}": text for name, source in volumes.items() for file, text in texts[source].items()
        }


@pytest.fixture(scope="module")
def base() -> Manifests:
    return Manifests("base")


@pytest.fixture(scope="module")
def operator() -> Manifests:
    return Manifests("operator")


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("version", ["1.27", kubernetes_validate.latest_version()])
def test_schemas_of_kubernetes(base: Manifests, version: str) -> None:
    for manifest in base.objects:
        kubernetes_validate.validate(manifest, version, strict=True)


@pytest.mark.parametrize("kind", ["Probe", "ScrapeConfig", "ServiceMonitor"])
def test_schemas_of_the_prometheus_operator(operator: Manifests, kind: str) -> None:
    manifest = operator.one(kind)
    group, _, version = manifest["apiVersion"].partition("/")
    assert group == "monitoring.coreos.com"
    models = importlib.import_module(f"cloudcoil.models.prometheus_operator.{version}")
    read = getattr(models, kind).model_validate(manifest)
    assert read.model_dump(mode="json", by_alias=True, exclude_unset=True) == manifest  # it drops unknown fields


def test_selectors(base: Manifests) -> None:
    labels = {"app.kubernetes.io/name": "patroni-staytus-exporter"}
    assert base.pod["metadata"]["labels"] == labels
    selectors: dict[str, Any] = {
        "Deployment": base.one("Deployment")["spec"]["selector"]["matchLabels"],
        "Service": base.one("Service")["spec"]["selector"],
        "PodDisruptionBudget": base.one("PodDisruptionBudget")["spec"]["selector"]["matchLabels"],
        "NetworkPolicy": base.one("NetworkPolicy")["spec"]["podSelector"]["matchLabels"],
        "spread": base.pod["spec"]["topologySpreadConstraints"][0]["labelSelector"]["matchLabels"],
    }
    assert selectors == dict.fromkeys(selectors, labels)
    deployment = base.one("Deployment")
    assert base.one("HorizontalPodAutoscaler")["spec"]["scaleTargetRef"] == {
        "apiVersion": deployment["apiVersion"],
        "kind": deployment["kind"],
        "name": deployment["metadata"]["name"],
    }
    assert "replicas" not in deployment["spec"]  # `kubectl apply` would undo the autoscaler


def test_ports_and_paths(base: Manifests, monkeypatch: pytest.MonkeyPatch) -> None:
    container = base.container
    files = base.files()
    variables = {one["name"]: one["value"] for one in container["env"] if one["value"] not in files}
    monkeypatch.setattr(os, "environ", {})
    assert into_environment(container["args"]) == []
    settings = Settings.load({**variables, **os.environ, "EXPORTER_ENV_FILE": os.devnull})
    assert settings.listen().rpartition(":")[2] == str(PORT)
    assert container["ports"] == [{"name": "http", "containerPort": PORT}]
    (service_port,) = base.one("Service")["spec"]["ports"]
    assert (service_port["name"], service_port["port"], service_port["targetPort"]) == ("http", PORT, "http")
    assert base.one("NetworkPolicy")["spec"]["ingress"][0]["ports"] == [{"port": "http"}]
    probes = {name: container[f"{name}Probe"]["httpGet"] for name in ("startup", "readiness", "liveness")}
    assert probes == {
        "startup": {"path": "/-/ready", "port": "http"},
        "readiness": {"path": "/-/ready", "port": "http"},
        "liveness": {"path": "/-/healthy", "port": "http"},
    }
    assert base.pod["spec"]["enableServiceLinks"] is False  # its variables would be read as settings


def test_modules_file_and_its_secrets(operator: Manifests, tmp_path: Path) -> None:
    """They are mounted, and the modules allow the targets of Prometheus."""
    files = operator.files()
    (variable,) = operator.container["env"]
    assert variable["name"] == "EXPORTER_CONFIG_FILE"
    text = files.pop(variable["value"])
    assert files.keys() == set(re.findall(r"_file: (\S+)", text))
    for path, secret in files.items():
        (tmp_path / Path(path).name).write_text(secret)
        text = text.replace(path, str(tmp_path / Path(path).name))
    modules = read_modules(text, "modules.yml")
    probe, scrape = operator.one("Probe")["spec"], operator.one("ScrapeConfig")["spec"]
    requested = [(probe["module"], target) for target in probe["targets"]["staticConfig"]["static"]]
    for discovery in scrape["httpSDConfigs"]:
        query = parse_qs(urlsplit(discovery["url"]).query)
        requested += [(query["module"][0], target) for target in query["target"]]
    assert len(requested) == 5
    urls = [modules[name].at(target).target.url for name, target in requested]
    assert urls == [f"http://{target}" for _, target in requested]


def test_security_context(base: Manifests) -> None:
    (user,) = re.findall(r"^USER (\d+):\1$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    assert base.pod["spec"]["automountServiceAccountToken"] is False
    assert base.pod["spec"]["securityContext"] == {
        "runAsNonRoot": True,
        "runAsUser": int(user),
        "runAsGroup": int(user),
        "fsGroup": int(user),
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    assert base.container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert base.container["resources"].keys() == {"requests", "limits"}
    assert base.container["image"] == f"patroni-staytus-exporter:{__version__}"


def test_network_policy_allows_the_ports_of_the_modules(base: Manifests) -> None:
    dns, upstreams = base.one("NetworkPolicy")["spec"]["egress"]
    assert [(port["port"], port["protocol"]) for port in dns["ports"]] == [(53, "UDP"), (53, "TCP")]
    modules = yaml.safe_load(base.one("ConfigMap")["data"]["modules.yml"])["modules"]
    targets = [target for module in modules.values() for target in module["targets"]]
    assert {int(target.rpartition(":")[2]) for target in targets} == {port["port"] for port in upstreams["ports"]}


def test_prometheus_requests_this_service(operator: Manifests) -> None:
    service = operator.one("Service")["metadata"]
    address = f"{service['name']}.{service['namespace']}.svc:{PORT}"
    modules = yaml.safe_load(operator.one("ConfigMap")["data"]["modules.yml"])["modules"]
    probe = operator.one("Probe")["spec"]
    assert probe["prober"] == {"url": address, "path": "/probe"}
    assert probe["module"] in modules
    scrape = operator.one("ScrapeConfig")["spec"]
    assert scrape["relabelings"][-1] == {"targetLabel": "__address__", "replacement": address}
    assert [module in modules for module in scrape["params"]["module"]] == [True]
    (discovery,) = scrape["httpSDConfigs"]
    assert discovery["url"].startswith(f"http://{address}/sd?module={scrape['params']['module'][0]}&target=")
    monitor = operator.one("ServiceMonitor")["spec"]
    assert monitor["selector"]["matchLabels"] == service["labels"]
    assert [endpoint["port"] for endpoint in monitor["endpoints"]] == ["http"]
