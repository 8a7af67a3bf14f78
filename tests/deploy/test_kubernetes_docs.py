"""The manifests in docs/kubernetes.md."""

import functools
import operator
import os
from pathlib import Path
from typing import Any

import pytest
import yaml

from exporter.config.settings import Settings
from exporter.version import __version__
from tests.certificates import authority
from tests.deploy.kustomize import FOLDER, Manifest, examples, needs_kustomize, overlay, validate


def example(kind: str) -> Manifest:
    (found,) = (one for one in examples() if one["kind"] == kind)
    return found


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("kind", ["Role", "RoleBinding", "Secret"])
def test_schemas_of_kubernetes(kind: str) -> None:
    validate(example(kind))


@needs_kustomize
def test_kustomization(tmp_path: Path) -> None:
    fields = example("Kustomization")
    manifests = overlay(tmp_path, **fields)
    assert manifests.container["image"] == f"{fields['images'][0]['newName']}:{__version__}"
    labels = fields["labels"][0]["pairs"]
    for manifest in manifests.objects:
        assert manifest["metadata"]["labels"].items() >= labels.items()
    kinds = {manifest["kind"] for manifest in manifests.objects}
    assert kinds >= {"ScrapeConfig", "ServiceMonitor", "PrometheusRule", "HorizontalPodAutoscaler"}


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize(
    ("kind", "path", "monitor", "prefix", "url"),
    [
        ("postgresql", ("sidecars",), "zalando.yaml", "", "http://localhost:8008"),
        ("PostgresCluster", ("instances", 0, "containers"), "crunchy.yaml", "", "https://localhost:8008"),
        ("SGCluster", ("pods", "customContainers"), "stackgres.yaml", "custom-", "http://localhost:8009"),
    ],
)
def test_sidecars(kind: str, path: tuple[Any, ...], monitor: str, prefix: str, url: str, tmp_path: Path) -> None:
    """Their variables are settings, and the PodMonitor selects their port."""
    manifest = example(kind)
    (container,) = functools.reduce(operator.getitem, path, manifest["spec"])
    (port,) = container["ports"]
    assert port["containerPort"] == 9547
    assert len(prefix + port["name"]) <= 15
    (endpoint,) = yaml.safe_load((FOLDER / "sidecar" / monitor).read_text())["spec"]["podMetricsEndpoints"]
    assert endpoint["port"] == prefix + port["name"]
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "pod"}, "spec": {"containers": [container]}}
    validate(pod)
    authority(tmp_path / "ca.crt")
    environ = {one["name"]: one["value"] for one in container["env"] if "value" in one}
    for mount in container.get("volumeMounts", []):
        assert environ["PATRONI_EXPORTER_REQUEST_VERIFY"] == mount["mountPath"]
        environ["PATRONI_EXPORTER_REQUEST_VERIFY"] = str(tmp_path / "ca.crt")
        assert environ["PATRONI_EXPORTER_SERVER_NAME"] == f"$(POD_NAME).{manifest['metadata']['name']}-pods"
        environ["PATRONI_EXPORTER_SERVER_NAME"] = "hippo-instance1-abcd-0.hippo-pods"
    loaded = Settings.load({**environ, "EXPORTER_ENV_FILE": os.devnull})
    assert loaded.listen().rpartition(":")[2] == "9547"
    assert [module.target.url for module in loaded.modules] == [url]
