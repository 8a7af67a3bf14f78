"""The ScrapeConfigs and PodMonitors of deploy/kubernetes find the pods of each operator."""

import json
import os
from contextlib import ExitStack
from pathlib import Path

import pytest
import yaml

from tests.conftest import Upstream
from tests.deploy.kubernetes import Object, job_of, pod
from tests.live.installed import needs, path_of
from tests.live.processes import MODULE, ROOT, run, serving, until
from tests.live.prometheus import prometheus
from tests.recorded import moment

FOLDER = ROOT / "deploy" / "kubernetes"
#: Loopback addresses for this process, because the port is fixed.
NETWORK = f"127.{87 + os.getpid() // 250 % 100}.{os.getpid() % 250}"
PROBE = "patroni-staytus-exporter.monitoring.svc:9547"


def port(number: int, name: str = "") -> Object:
    return {"containerPort": number, "protocol": "TCP", **({"name": name} if name else {})}


SIDECAR = [port(9547, "patroni-metrics")]
SPILO = [port(8008), port(5432), port(8080)]
POOLER = {"application": "db-connection-pooler", "cluster-name": "orders", "connection-pooler": "orders-pooler"}


def spilo(name: str, address: str, **sidecars: list[Object]) -> Object:
    """A pod of Zalando's operator."""
    labels = {"application": "spilo", "cluster-name": "orders", "spilo-role": "replica", "team": "acid"}
    return pod("databases", name, address, labels, postgres=SPILO, **sidecars)


def crunchy(name: str, address: str, **sidecars: list[Object]) -> Object:
    """A pod of Crunchy PGO."""
    prefix = "postgres-operator.crunchydata.com"
    labels = {f"{prefix}/cluster": "hippo", f"{prefix}/data": "postgres", f"{prefix}/patroni": "hippo-ha"}
    return pod("pgo", name, address, labels, database=[port(5432, "postgres")], pgbackrest=[], **sidecars)


def stackgres(name: str, address: str, **containers: list[Object]) -> Object:
    """A pod of StackGres."""
    labels = {"app": "StackGresCluster", "stackgres.io/cluster-name": "dwh", "stackgres.io/cluster": "true"}
    return pod("sg", name, address, labels, **containers)


#: Without Envoy two containers have the port of Patroni; with Envoy it has another one.
WITHOUT_ENVOY = {
    "patroni": [port(5432, "pgreplication"), port(8009, "patroniport")],
    "pgbouncer": [port(6432, "pgport"), port(8009, "patroniport")],
}
WITH_ENVOY = {"patroni": [], "envoy": [port(7432, "pgport"), port(8001, "envoy"), port(8008, "patroniport")]}

PODS = [
    spilo("orders-0", "10.0.0.1", patroni_exporter=SIDECAR),
    spilo("orders-1", "fd00::2", patroni_exporter=SIDECAR),
    {**spilo("orders-2", "10.0.0.3"), "status": {"phase": "Failed", "podIP": "10.0.0.3"}},
    pod("databases", "orders-pooler-abc", "10.0.0.4", POOLER, pooler=[port(5432)]),
    crunchy("hippo-instance1-abcd-0", "10.0.1.1", patroni_exporter=SIDECAR),
    stackgres("dwh-0", "10.0.2.1", **WITHOUT_ENVOY, custom_exporter=[port(9547, "custom-exporter")]),
    stackgres("dwh-1", "10.0.2.2", **WITH_ENVOY),
]


def target(name: str, address: str, namespace: str, cluster: str, **labels: str) -> dict[str, str]:
    return {"__address__": address, "instance": name, "namespace": namespace, "cluster": cluster, **labels}


def probe(name: str, target_: str, namespace: str, cluster: str, exporter: str = PROBE) -> dict[str, str]:
    parameters = {"__param_module": "patroni", "__param_target": target_, "__tmp_hash": target_}
    return target(name, exporter, namespace, cluster, pod=name, **parameters)


HIPPO = "https://hippo-instance1-abcd-0.hippo-pods.pgo.svc:8008"
TARGETS = {
    "zalando/scrapeconfig.yaml": [
        probe("orders-0", "10.0.0.1:8008", "databases", "orders"),
        probe("orders-1", "[fd00::2]:8008", "databases", "orders"),
    ],
    "crunchy/scrapeconfig.yaml": [
        probe("hippo-instance1-abcd-0", HIPPO, "pgo", "hippo", "patroni-staytus-exporter.pgo.svc:9547")
    ],
    "stackgres/scrapeconfig.yaml": [
        probe("dwh-0", "10.0.2.1:8009", "sg", "dwh"),
        probe("dwh-1", "10.0.2.2:8008", "sg", "dwh"),
    ],
    "sidecar/zalando.yaml": [
        target("orders-0", "10.0.0.1:9547", "databases", "orders"),
        target("orders-1", "[fd00::2]:9547", "databases", "orders"),
    ],
    "sidecar/crunchy.yaml": [target("hippo-instance1-abcd-0", "10.0.1.1:9547", "pgo", "hippo")],
    "sidecar/stackgres.yaml": [target("dwh-0", "10.0.2.1:9547", "sg", "dwh")],
}


def load(file: str) -> Object:
    manifest: Object = yaml.safe_load((FOLDER / file).read_text())
    return manifest


def key(labels: dict[str, str]) -> tuple[tuple[str, str], ...]:
    """The labels without those of the discovery and the defaults of the job, sorted."""
    hidden = ("__meta_", "__scrape_", "__scheme__", "__metrics_path__")
    return tuple(sorted((name, text) for name, text in labels.items() if not name.startswith(hidden)))


@needs("promtool")
@pytest.mark.parametrize("file", TARGETS)
def test_targets(file: str, tmp_path: Path) -> None:
    job = job_of(load(file), PODS)
    (tmp_path / "prometheus.yml").write_text(yaml.safe_dump({"scrape_configs": [job]}))
    command = [path_of("promtool"), "check", "service-discovery", "--timeout=300ms", "prometheus.yml", job["job_name"]]
    status, output = run(command, cwd=tmp_path)
    assert status == 0, output
    found = {key(one["labels"]) for one in json.loads(output) if one["labels"]}  # equal targets are one target
    assert found == {key({**one, "job": "patroni"}) for one in TARGETS[file]}


class Node(Upstream):
    """A Patroni at its default port of a loopback address."""

    def __init__(self, address: str) -> None:
        self.address = address
        super().__init__()

    def server_bind(self) -> None:
        self.server_address = (self.address, 8008)
        super().server_bind()


@needs("prometheus")
def test_scrapes(tmp_path: Path, port: int) -> None:
    """A real Prometheus scrapes the pods of a cluster through one exporter with the modules file of the base."""
    pods = [spilo(f"orders-{number}", f"{NETWORK}.{number}") for number in range(1, 4)]
    with ExitStack() as stack:
        for number in range(1, 4):
            stack.enter_context(Node(f"{NETWORK}.{number}")).serve(
                moment("4.1.5", "healthy-async", f"n{number}").answers
            )
        modules = yaml.safe_load((FOLDER / "base" / "modules.yml").read_text())
        modules["modules"]["patroni"]["targets"].append(f"{NETWORK}.0/24:8008")
        (tmp_path / "modules.yml").write_text(yaml.safe_dump(modules))
        environ = {"EXPORTER_CONFIG_FILE": str(tmp_path / "modules.yml")}
        stack.enter_context(serving(tmp_path, port, (*MODULE, "--port", str(port)), environ=environ))
        job = {**job_of(load("zalando/scrapeconfig.yaml"), pods), "scrape_interval": "1s", "scrape_timeout": "1s"}
        assert job["relabel_configs"][-1] == {"target_label": "__address__", "replacement": PROBE}
        job["relabel_configs"][-1]["replacement"] = f"127.0.0.1:{port}"
        running = stack.enter_context(prometheus(tmp_path, {"scrape_configs": [job]}))
        labels = {"__name__": "patroni_up", "job": "patroni", "namespace": "databases", "cluster": "orders"}
        expected = [({**labels, "instance": name, "pod": name}, 1.0) for name in ("orders-1", "orders-2", "orders-3")]
        until(lambda: sorted(running.query("patroni_up"), key=lambda series: series[0]["pod"]) == expected)
