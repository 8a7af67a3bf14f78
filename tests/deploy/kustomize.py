"""What kustomize builds of deploy/kubernetes, and the manifests in docs/kubernetes.md."""

import functools
import importlib
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.live.processes import ROOT

FOLDER = ROOT / "deploy" / "kubernetes"
NAME = "patroni-staytus-exporter"

Manifest = dict[str, Any]


def _kustomizes() -> bool:
    if shutil.which("kubectl") is None:
        return False
    output = subprocess.run(["kubectl", "version", "--client"], capture_output=True, text=True).stdout
    return re.search(r"Kustomize Version: v[4-9]", output) is not None


#: Debian has it since version 13, in the package kubectl.
needs_kustomize = pytest.mark.skipif(
    not _kustomizes() and "CI" not in os.environ, reason="kubectl 1.24 or later is not installed"
)


class Manifests:
    """The objects of a kustomization, without the hash in the name of the modules file."""

    def __init__(self, folder: Path) -> None:
        command = ["kubectl", "kustomize", str(folder)]
        built = subprocess.run(command, capture_output=True, text=True, check=True)
        assert built.stderr == ""  # no deprecated field
        self.text = re.sub(rf"({NAME}-modules)-[a-z0-9]{{10}}\b", r"\1", built.stdout)
        self.objects: list[Manifest] = list(yaml.safe_load_all(self.text))

    def one(self, kind: str, name: str = "") -> Manifest:
        """The only object of this kind, or with this name too."""
        (found,) = (
            manifest
            for manifest in self.objects
            if manifest["kind"] == kind and name in ("", manifest["metadata"]["name"])
        )
        return found

    @property
    def pod(self) -> Manifest:
        template: Manifest = self.one("Deployment")["spec"]["template"]
        return template

    @property
    def container(self) -> Manifest:
        (container,) = self.pod["spec"]["containers"]
        found: Manifest = container
        return found

    def modules(self) -> str:
        """The modules file that the pods have at the path of their setting."""
        (variable,) = (one for one in self.container["env"] if one["name"] == "EXPORTER_CONFIG_FILE")
        folder, _, file = variable["value"].rpartition("/")
        (mount,) = (one for one in self.container["volumeMounts"] if one["mountPath"] == folder)
        (volume,) = (one for one in self.pod["spec"]["volumes"] if one["name"] == mount["name"])
        text: str = self.one("ConfigMap", volume["configMap"]["name"])["data"][file]
        return text


@functools.cache
def build(name: str) -> Manifests:
    return Manifests(FOLDER / name)


def overlay(folder: Path, **fields: object) -> Manifests:
    """A kustomization of a user, beside a link to this checkout."""
    (folder / NAME).symlink_to(ROOT)
    (folder / "kustomization.yaml").write_text(yaml.safe_dump(fields))
    return Manifests(folder)


def read_by_operator(manifest: Manifest) -> Manifest:
    """The object as the models of the Prometheus Operator read it; they drop unknown fields."""
    version = manifest["apiVersion"].removeprefix("monitoring.coreos.com/")
    models = importlib.import_module(f"cloudcoil.models.prometheus_operator.{version}")
    read: Manifest = (
        getattr(models, manifest["kind"])
        .model_validate(manifest)
        .model_dump(mode="json", by_alias=True, exclude_unset=True)
    )
    return read


def validate(manifest: Manifest, version: str = "") -> None:
    """Validates with the schemas of this version of Kubernetes, or of the latest one."""
    import kubernetes_validate  # type: ignore[import-untyped]  # takes two seconds

    kubernetes_validate.validate(manifest, version or kubernetes_validate.latest_version(), strict=True)


def examples() -> list[Manifest]:
    """The manifests in docs/kubernetes.md."""
    blocks = re.findall(
        r"^( *)```yaml\n(.*?)```", (ROOT / "docs" / "kubernetes.md").read_text(), re.DOTALL | re.MULTILINE
    )
    return [one for indent, block in blocks for one in yaml.safe_load_all(re.sub(f"(?m)^{indent}", "", block))]
