"""deploy/kubernetes: kustomize builds it, the published schemas accept it, and it fits the exporter."""

import json
import os
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from exporter.__main__ import into_environment
from exporter.config.modules import read_modules
from exporter.config.settings import Settings
from exporter.version import __version__
from tests.certificates import authority
from tests.deploy.kustomize import (
    NAME,
    Manifests,
    build,
    examples,
    needs_kustomize,
    overlay,
    read_by_operator,
    validate,
)
from tests.live.processes import ROOT

LABELS = {"app.kubernetes.io/name": NAME}
PORT = 9547

#: The folders that `kubectl apply -k` accepts, with the kinds of their objects.
EXPORTER = ["ConfigMap", "Deployment", "NetworkPolicy", "PodDisruptionBudget", "Service"]
FOLDERS = {
    "base": EXPORTER,
    "operator": ["ConfigMap", "ConfigMap", "ConfigMap", "PrometheusRule", "ServiceMonitor"],
    "crunchy": [*EXPORTER, "ScrapeConfig"],
    "stackgres": ["ScrapeConfig"],
    "zalando": ["ScrapeConfig"],
    "sidecar": ["PodMonitor", "PodMonitor", "PodMonitor"],
}


pytestmark = needs_kustomize


@pytest.fixture
def components(tmp_path: Path) -> Manifests:
    """The base with all components."""
    path = f"{NAME}/deploy/kubernetes"
    return overlay(
        tmp_path, resources=[f"{path}/base"], components=[f"{path}/components/hpa", f"{path}/components/staytus"]
    )


@pytest.mark.parametrize("name", FOLDERS)
def test_kinds(name: str) -> None:
    assert sorted(manifest["kind"] for manifest in build(name).objects) == sorted(FOLDERS[name])


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("version", ["1.27", ""], ids=["1.27", "latest"])
def test_schemas_of_kubernetes(components: Manifests, version: str) -> None:
    documents = [*components.objects, *(one for name in FOLDERS for one in build(name).objects)]
    checked = [one for one in documents if "coreos" not in one["apiVersion"]]
    assert len(checked) == 20
    for manifest in checked:
        validate(manifest, version)


def test_schemas_of_the_prometheus_operator(components: Manifests) -> None:
    documents = [*components.objects, *examples(), *(one for name in FOLDERS for one in build(name).objects)]
    checked = [one for one in documents if "coreos" in one["apiVersion"]]
    assert len(checked) == 10
    for manifest in checked:
        assert read_by_operator(manifest) == manifest


def test_no_placeholders(components: Manifests) -> None:
    for manifests in [components, *(build(name) for name in FOLDERS if name != "operator")]:
        assert re.findall(r"change-?me|example\.(?:org|com)|TODO|<[a-z]+>", manifests.text) == []
        assert [one for one in manifests.objects if one["kind"] == "Secret"] == []


def test_namespaces() -> None:
    for name in FOLDERS:
        namespace = "postgres-operator" if name == "crunchy" else "monitoring"
        assert {manifest["metadata"]["namespace"] for manifest in build(name).objects} == {namespace}


def test_selectors(components: Manifests) -> None:
    base = build("base")
    assert base.pod["metadata"]["labels"] == LABELS
    selectors: dict[str, Any] = {
        "Deployment": base.one("Deployment")["spec"]["selector"]["matchLabels"],
        "Service": base.one("Service")["spec"]["selector"],
        "PodDisruptionBudget": base.one("PodDisruptionBudget")["spec"]["selector"]["matchLabels"],
        "NetworkPolicy": base.one("NetworkPolicy")["spec"]["podSelector"]["matchLabels"],
        "Staytus": components.one("NetworkPolicy", f"{NAME}-staytus")["spec"]["podSelector"]["matchLabels"],
        "spread": base.pod["spec"]["topologySpreadConstraints"][0]["labelSelector"]["matchLabels"],
        "labels of the Service": base.one("Service")["metadata"]["labels"],
        "ServiceMonitor": build("operator").one("ServiceMonitor")["spec"]["selector"]["matchLabels"],
    }
    assert selectors == dict.fromkeys(selectors, LABELS)


def test_replicas(components: Manifests) -> None:
    """A node can be drained, and `kubectl apply` does not undo the autoscaler."""
    base = build("base")
    assert base.one("PodDisruptionBudget")["spec"]["maxUnavailable"] < base.one("Deployment")["spec"]["replicas"]
    deployment, autoscaler = components.one("Deployment"), components.one("HorizontalPodAutoscaler")["spec"]
    assert "replicas" not in deployment["spec"]
    assert autoscaler["minReplicas"] == base.one("Deployment")["spec"]["replicas"]
    assert autoscaler["scaleTargetRef"] == {
        "apiVersion": deployment["apiVersion"],
        "kind": deployment["kind"],
        "name": deployment["metadata"]["name"],
    }


def settings(manifests: Manifests, folder: Path, files: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Settings:
    """The settings of the container; these files and the values of Secrets are in the folder."""
    variables = {}
    for variable in manifests.container["env"]:
        value = variable.get("value") or files[variable["valueFrom"]["secretKeyRef"]["key"]]
        if value in files:
            path = folder / value.replace("/", "_")
            path.write_text(files[value])
            value = str(path)
        variables[variable["name"]] = value
    monkeypatch.setattr(os, "environ", {})
    assert into_environment(manifests.container["args"]).words == []
    return Settings.load({**variables, **os.environ, "EXPORTER_ENV_FILE": os.devnull})


def test_ports_and_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    base = build("base")
    loaded = settings(base, tmp_path, {"/etc/exporter/modules.yml": base.modules()}, monkeypatch)
    assert loaded.listen().rpartition(":")[2] == str(PORT)
    container = base.container
    assert container["ports"] == [{"name": "http", "containerPort": PORT}]
    (service_port,) = base.one("Service")["spec"]["ports"]
    assert (service_port["name"], service_port["port"], service_port["targetPort"]) == ("http", PORT, "http")
    assert [one["port"] for one in build("operator").one("ServiceMonitor")["spec"]["endpoints"]] == ["http"]
    probes = {name: container[f"{name}Probe"]["httpGet"] for name in ("startup", "readiness", "liveness")}
    assert probes == {
        "startup": {"path": "/-/ready", "port": "http"},
        "readiness": {"path": "/-/ready", "port": "http"},
        "liveness": {"path": "/-/healthy", "port": "http"},
    }
    assert base.pod["spec"]["enableServiceLinks"] is False  # its variables would be read as settings


def test_security_context() -> None:
    base = build("base")
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
    assert base.container["image"] == f"{NAME}:{__version__}"


def test_network_policy() -> None:
    policy = build("base").one("NetworkPolicy")["spec"]
    assert policy["policyTypes"] == ["Ingress", "Egress"]
    prometheus = {"podSelector": {"matchLabels": {"app.kubernetes.io/name": "prometheus"}}, "namespaceSelector": {}}
    assert policy["ingress"] == [{"from": [prometheus], "ports": [{"port": "http"}]}]
    dns, patroni = policy["egress"]
    assert "to" not in dns  # any address: NodeLocal DNSCache is not a pod
    assert [(port["port"], port["protocol"]) for port in dns["ports"][:2]] == [(53, "UDP"), (53, "TCP")]
    assert patroni["to"] == [{"namespaceSelector": {}}]
    allowed = {one["port"] for one in patroni["ports"]}
    listed = re.findall(r":(\d+)(?:-(\d+))?\"?$", build("base").modules(), re.MULTILINE)
    assert allowed == {port for first, last in listed for port in range(int(first), int(last or first) + 1)}


@pytest.mark.parametrize(
    ("target", "refused"),
    [
        ("10.244.1.7:8008", False),  # a pod of Zalando's operator
        ("100.64.3.1:8009", False),  # a pod of StackGres
        ("[fd12::7]:8008", False),
        ("10.244.1.7:5432", True),
        ("169.254.169.254:8008", True),  # the metadata service of a cloud
        ("203.0.113.7:8008", True),
    ],
)
def test_allowed_targets(target: str, refused: bool) -> None:
    module = read_modules(build("base").modules(), "modules.yml")["patroni"]
    if refused:
        with pytest.raises(Exception, match="target"):
            module.at(target)
    else:
        assert module.at(target).target.url == f"http://{target}"


def test_crunchy(tmp_path: Path) -> None:
    """The modules file trusts the certificate that is mounted, which comes without the private key."""
    crunchy = build("crunchy")
    (path,) = re.findall(r"_file: (\S+)", crunchy.modules())
    (mount,) = (one for one in crunchy.container["volumeMounts"] if one["mountPath"] == str(Path(path).parent))
    (volume,) = (one for one in crunchy.pod["spec"]["volumes"] if one["name"] == mount["name"])
    assert volume["secret"]["secretName"] == "pgo-root-cacert"
    assert volume["secret"]["items"] == [{"key": "root.crt", "path": Path(path).name}]
    authority(tmp_path / "root.crt")
    module = read_modules(crunchy.modules().replace(path, str(tmp_path / "root.crt")), "modules.yml")["patroni"]
    target = "https://hippo-instance1-abcd-0.hippo-pods.databases.svc:8008"
    assert module.at(target).target.url == target
    assert module.options.verify == str(tmp_path / "root.crt")


def test_staytus(components: Manifests, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The component adds Staytus to /metrics, with a Secret that has the three keys."""
    (mount,) = (one for one in components.container["volumeMounts"] if one["name"] == "staytus-api")
    (volume,) = (one for one in components.pod["spec"]["volumes"] if one["name"] == "staytus-api")
    files = {f"{mount['mountPath']}/{item['path']}": item["key"] for item in volume["secret"]["items"]}
    files |= {"url": "https://status.example.org", "/etc/exporter/modules.yml": components.modules()}
    loaded = settings(components, tmp_path, files, monkeypatch)
    (module,) = loaded.modules
    assert (module.service, module.target.url) == ("staytus", "https://status.example.org")
    (target,) = components.one("ScrapeConfig")["spec"]["staticConfigs"][0]["targets"]
    service = components.one("Service")
    assert target == f"{service['metadata']['name']}.{service['metadata']['namespace']}.svc:{PORT}"
    (egress,) = components.one("NetworkPolicy", f"{NAME}-staytus")["spec"]["egress"]
    assert [port["port"] for port in egress["ports"]] == [443, 8787]


def test_rules_and_dashboards() -> None:
    """They are those of the mixin, with the label that Grafana's sidecar selects."""
    built = build("operator")
    monitoring = ROOT / "monitoring"
    rule = yaml.safe_load((monitoring / "operator" / "prometheusrule.yaml").read_text())
    assert built.one("PrometheusRule") == {**rule, "metadata": {**rule["metadata"], "namespace": "monitoring"}}
    maps = [one for one in built.objects if one["kind"] == "ConfigMap"]
    dashboards = {file.name: file.read_text() for file in (monitoring / "grafana").glob("*.json")}
    assert {file: text for one in maps for file, text in one["data"].items()} == dashboards
    assert [one["metadata"]["labels"] for one in maps] == [{**LABELS, "grafana_dashboard": "1"}] * 3
    # `kubectl apply` copies an object into an annotation, which has at most 256 KiB.
    assert max(len(json.dumps(one)) for one in built.objects) < 262_144
