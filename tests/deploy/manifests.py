"""A kustomization of deploy/kubernetes, built without kubectl."""

import base64
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tests.live.processes import ROOT

KUBERNETES = ROOT / "deploy" / "kubernetes"

Manifest = dict[str, Any]


@dataclass(frozen=True)
class Manifests:
    """The objects of one kustomization."""

    objects: list[Manifest]

    def one(self, kind: str) -> Manifest:
        """The only object of this kind."""
        (found,) = (manifest for manifest in self.objects if manifest["kind"] == kind)
        return found

    @property
    def pod(self) -> Manifest:
        """The pod template of the Deployment."""
        pod: Manifest = self.one("Deployment")["spec"]["template"]
        return pod

    @property
    def container(self) -> Manifest:
        (container,) = self.pod["spec"]["containers"]
        found: Manifest = container
        return found

    def files(self) -> dict[str, str]:
        """The texts of the files that are mounted from ConfigMaps and Secrets, by their paths."""
        volumes = {volume["name"]: volume for volume in self.pod["spec"]["volumes"]}
        files = {}
        for mount in self.container["volumeMounts"]:
            volume = volumes.pop(mount["name"])
            source = self.one("ConfigMap" if "configMap" in volume else "Secret")
            name = volume["configMap"]["name"] if "configMap" in volume else volume["secret"]["secretName"]
            assert source["metadata"]["name"] == name
            for file, text in source["data"].items():
                is_text = source["kind"] == "ConfigMap"
                files[f"{mount['mountPath']}/{file}"] = text if is_text else base64.b64decode(text).decode()
        assert not volumes
        return files


def build(name: str) -> Manifests:
    """Builds a kustomization without hashes in the names; an unknown field is an error."""
    folder = KUBERNETES / name
    (kustomization,) = _load(folder / "kustomization.yaml")
    assert kustomization.pop("apiVersion").startswith("kustomize.config.k8s.io/")
    assert kustomization.pop("kind") == "Kustomization"
    namespace, images = kustomization.pop("namespace"), kustomization.pop("images", [])
    objects: list[Manifest] = []
    for resource in kustomization.pop("resources"):
        path = (folder / resource).resolve()
        objects += build(path.name).objects if path.is_dir() else _load(path)
    for generator in kustomization.pop("configMapGenerator", []):
        data = {file: (folder / file).read_text() for file in generator.pop("files")}
        objects.append(_generated("ConfigMap", generator, data))
    for generator in kustomization.pop("secretGenerator", []):
        pairs = (literal.split("=", 1) for literal in generator.pop("literals"))
        data = {key: base64.b64encode(text.encode()).decode() for key, text in pairs}
        objects.append({**_generated("Secret", generator, data), "type": "Opaque"})
    assert not kustomization
    for manifest in objects:
        manifest["metadata"]["namespace"] = namespace
    manifests = Manifests(objects)
    for image in images:
        if manifests.container["image"] == image["name"]:
            manifests.container["image"] = f"{image['name']}:{image['newTag']}"
    return manifests


def _generated(kind: str, generator: Manifest, data: dict[str, str]) -> Manifest:
    assert generator.keys() == {"name"}
    return {"apiVersion": "v1", "kind": kind, "metadata": generator, "data": data}


def _load(path: Path) -> list[Manifest]:
    return list(yaml.safe_load_all(path.read_text()))
