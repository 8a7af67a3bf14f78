"""What `kubectl apply -k` would send: a kustomization of deploy/kubernetes, built without kubectl."""

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

    def kinds(self) -> list[str]:
        return sorted(manifest["kind"] for manifest in self.objects)

    @property
    def pod(self) -> Manifest:
        """What the Deployment makes pods of."""
        pod: Manifest = self.one("Deployment")["spec"]["template"]
        return pod

    @property
    def container(self) -> Manifest:
        (container,) = self.pod["spec"]["containers"]
        found: Manifest = container
        return found

    def files(self) -> dict[str, str]:
        """The files that the container finds where ConfigMaps and Secrets are mounted, with their text."""
        volumes = {volume["name"]: volume for volume in self.pod["spec"]["volumes"]}
        files = {}
        for mount in self.container["volumeMounts"]:
            volume = volumes.pop(mount["name"])
            for name, text in self._data(volume).items():
                files[f"{mount['mountPath']}/{name}"] = text
        assert not volumes, "mounted nowhere"
        return files

    def _data(self, volume: Manifest) -> dict[str, str]:
        if "configMap" in volume:
            held: dict[str, str] = self._named("ConfigMap", volume["configMap"]["name"])["data"]
            return held
        data = self._named("Secret", volume["secret"]["secretName"])["data"]
        return {name: base64.b64decode(text).decode() for name, text in data.items()}

    def _named(self, kind: str, name: str) -> Manifest:
        found = self.one(kind)
        assert found["metadata"]["name"] == name
        return found


def build(name: str) -> Manifests:
    """Builds a kustomization; names of generated objects get no hash. A field that is not known here is an error."""
    folder = KUBERNETES / name
    objects: list[Manifest] = []
    namespace, images = None, {}
    for field, value in _load(folder / "kustomization.yaml")[0].items():
        match field:
            case "apiVersion" | "kind":
                pass
            case "namespace":
                namespace = value
            case "images":
                images = {image["name"]: f"{image['name']}:{image['newTag']}" for image in value}
            case "resources":
                for resource in value:
                    path = (folder / resource).resolve()
                    objects += build(path.name).objects if path.is_dir() else _load(path)
            case "configMapGenerator":
                objects += [_config_map(folder, generator) for generator in value]
            case "secretGenerator":
                objects += [_secret(generator) for generator in value]
            case _:
                raise AssertionError(f"no test knows {field}")
    for manifest in objects:
        manifest["metadata"]["namespace"] = namespace
    manifests = Manifests(objects)
    manifests.container["image"] = images.get(manifests.container["image"], manifests.container["image"])
    return manifests


def _load(path: Path) -> list[Manifest]:
    return list(yaml.safe_load_all(path.read_text()))


def _config_map(folder: Path, generator: Manifest) -> Manifest:
    assert generator.keys() == {"name", "files"}
    data = {name: (folder / name).read_text() for name in generator["files"]}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": generator["name"]}, "data": data}


def _secret(generator: Manifest) -> Manifest:
    assert generator.keys() == {"name", "literals"}
    literals = dict(literal.split("=", 1) for literal in generator["literals"])
    data = {name: base64.b64encode(text.encode()).decode() for name, text in literals.items()}
    metadata = {"name": generator["name"]}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "type": "Opaque", "data": data}
