"""Pods, and the jobs that the Prometheus Operator makes of ScrapeConfigs and PodMonitors.

The Prometheus of Debian is built without kubernetes_sd. `discovered` returns what kubernetes_sd discovers with the role
`pod`, with the labels of discovery/kubernetes/pod.go in Prometheus. The relabelling is that of a real Prometheus.
"""

import ipaddress
import re
from collections.abc import Iterable
from typing import Any

Object = dict[str, Any]

META = "__meta_kubernetes_"


def pod(namespace: str, name: str, address: str, labels: dict[str, str], **containers: list[Object]) -> Object:
    """A pod that runs, with the ports of its containers; `_` in the name of a container is `-`."""
    return {
        "metadata": {"namespace": namespace, "name": name, "labels": labels},
        "spec": {
            "containers": [
                {"name": container.replace("_", "-"), "ports": ports} for container, ports in containers.items()
            ],
        },
        "status": {"phase": "Running", "podIP": address},
    }


def discovered(pods: Iterable[Object], selector: str) -> list[Object]:
    """The targets in the pods with these labels: each port of a container, and each container without ports."""
    wanted = dict(one.split("=") for one in selector.split(","))
    groups = []
    for one in pods:
        metadata, status = one["metadata"], one["status"]
        if not wanted.items() <= metadata["labels"].items():
            continue
        labels = {
            "namespace": metadata["namespace"],
            "pod_name": metadata["name"],
            "pod_ip": status["podIP"],
            "pod_phase": status["phase"],
            **{f"pod_label_{re.sub(r'[^a-zA-Z0-9_]', '_', name)}": text for name, text in metadata["labels"].items()},
        }
        host = f"[{status['podIP']}]" if ipaddress.ip_address(status["podIP"]).version == 6 else status["podIP"]
        for container in one["spec"]["containers"]:
            named = {**labels, "pod_container_name": container["name"]}
            for port in container["ports"]:
                found = {
                    "number": str(port["containerPort"]),
                    "name": port.get("name", ""),
                    "protocol": port["protocol"],
                }
                more = {f"pod_container_port_{key}": text for key, text in found.items()}
                groups.append(_group(f"{host}:{port['containerPort']}", {**named, **more}))
            if not container["ports"]:
                groups.append(_group(host, named))
    return groups


def _group(address: str, labels: dict[str, str]) -> Object:
    return {"targets": [address], "labels": {f"{META}{name}": text for name, text in labels.items()}}


def job_of(manifest: Object, pods: Iterable[Object]) -> Object:
    """The job of a ScrapeConfig or PodMonitor, with its targets in these pods."""
    spec = manifest["spec"]
    if manifest["kind"] == "PodMonitor":
        (endpoint,) = spec["podMetricsEndpoints"]
        selector = ",".join(f"{name}={value}" for name, value in spec["selector"]["matchLabels"].items())
        rules = [  # of the operator
            {"sourceLabels": [f"{META}pod_container_port_name"], "regex": endpoint["port"], "action": "keep"},
            {"sourceLabels": [f"{META}pod_phase"], "regex": "(Failed|Succeeded)", "action": "drop"},
            {"sourceLabels": [f"{META}namespace"], "targetLabel": "namespace"},
            *endpoint["relabelings"],
        ]
        spec = {"jobName": "podMonitor"}
    else:
        (discovery,) = spec["kubernetesSDConfigs"]
        (one,) = discovery["selectors"]
        assert (discovery["role"], one["role"]) == ("Pod", "Pod")
        selector, rules = one["label"], spec["relabelings"]
        spec = {name: value for name, value in spec.items() if name not in ("kubernetesSDConfigs", "relabelings")}
    return {
        **{_snake(name): value for name, value in spec.items()},
        "relabel_configs": [{_snake(name): value for name, value in rule.items()} for rule in rules],
        "static_configs": discovered(pods, selector),
    }


def _snake(name: str) -> str:
    """The name of a field as Prometheus has it."""
    return re.sub("[A-Z]", lambda letter: f"_{letter[0].lower()}", name)
