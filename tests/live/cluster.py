"""A real cluster with an exporter for each node, and the differences between the exporters and Patroni."""

import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from datetime import datetime
from typing import Any, TypeVar

import pytest

from demo.cluster import Cluster
from demo.node import HOST, Config, Node
from tests.collectors.test_patroni_node import Samples, read_samples
from tests.live.processes import Served, running_exporter

T = TypeVar("T")

SEEN = "patroni_dcs_last_seen"
MIB = 1024 * 1024

#: The values of some labels, and the value of the sample.
Values = dict[tuple[str, ...], float]

#: A member in `patronictl list` by column, without empty columns.
Row = dict[str, object]


def family(samples: Samples, name: str, *labels: str) -> Values:
    """The samples of a family by the values of these labels."""
    return {
        tuple(dict(pairs).get(label, "") for label in labels): value
        for (sample, pairs), value in samples.items()
        if sample == name
    }


def eventually(read: Callable[[], object], expected: object, seconds: float = 20) -> None:
    """Waits until `read` returns the expected value."""
    deadline = time.monotonic() + seconds
    while (found := read()) != expected:
        if time.monotonic() > deadline:
            pytest.fail(f"after {seconds:g} s\nexpected {expected!r},\nfound    {found!r}")
        time.sleep(0.25)


def leader_of(cluster: Cluster) -> Node:
    """The leader of a cluster, which has one."""
    leader = cluster.leader()
    assert leader is not None
    return leader


class Lab:
    """A cluster and its exporters by the name of the node."""

    def __init__(self, cluster: Cluster, exporters: Mapping[str, Served]) -> None:
        self.cluster = cluster
        self.exporters = exporters

    @property
    def nodes(self) -> tuple[Node, ...]:
        return self.cluster.nodes

    @property
    def alive(self) -> tuple[Node, ...]:
        """The nodes on which Patroni runs."""
        return tuple(node for node in self.nodes if self.cluster.runs(node))

    @property
    def leader(self) -> Node:
        return leader_of(self.cluster)

    @property
    def replicas(self) -> tuple[Node, ...]:
        return self.cluster.replicas()

    def samples(self, node: Node) -> Samples:
        """The samples of the node's exporter."""
        status, text = self.exporters[node.name].get("/metrics")
        assert status == 200
        return read_samples(text)

    def patroni_samples(self, node: Node) -> Samples:
        """The samples of Patroni's /metrics. Its types are removed, since the parser renames counters."""
        lines = self.cluster.get(node, "/metrics", 30)[1].decode().splitlines(keepends=True)
        return read_samples("".join(line for line in lines if not line.startswith("#")))

    def every(self, name: str, *labels: str) -> dict[str, Values]:
        """This family in each exporter."""
        return {node.name: family(self.samples(node), name, *labels) for node in self.nodes}

    def each(self, name: str) -> dict[str, float | None]:
        """The only sample of this family in each exporter, or None."""
        return {name: values.get(()) for name, values in self.every(name).items()}

    def ones(self, name: str, *labels: str) -> dict[str, set[tuple[str, ...]]]:
        """The values of these labels whose sample is 1, in each exporter."""
        return {
            name: {values for values, number in found.items() if number == 1}
            for name, found in self.every(name, *labels).items()
        }

    def all(self, value: T) -> dict[str, T]:
        """The same value in each exporter."""
        return {node.name: value for node in self.nodes}

    def only(self, *nodes: Node) -> dict[str, float]:
        """1 in the exporters of these nodes, 0 in the others."""
        return {node.name: float(node in nodes) for node in self.nodes}

    def pause(self) -> None:
        """Pauses the cluster, and waits until every node has noticed it in its loop (_run_cycle, ha.py)."""
        before = [(node.log, node.log.stat().st_size) for node in self.alive]
        self.cluster.pause()
        eventually(lambda: all(b" PAUSE: " in log.read_bytes()[size:] for log, size in before), True)

    def differences(self) -> dict[str, Any]:
        """The differences between the exporters and Patroni's /metrics or `patronictl list`."""
        samples = {f"/metrics of {node.name}": self.differing_samples(node) for node in self.alive}
        return {where: found for where, found in samples.items() if found} | self.differing_members()

    def differing_samples(self, node: Node, seconds: float = 20) -> dict[Any, tuple[float, float | None]]:
        """The samples of Patroni that differ in the exporter: the values of both.

        Reads Patroni, the exporter and Patroni again, until both responses of Patroni are the same. Only the time of
        the last read of the DCS may differ.
        """
        deadline = time.monotonic() + seconds
        while True:
            first, ours, second = self.patroni_samples(node), self.samples(node), self.patroni_samples(node)
            earliest, latest = _take_seen(first), _take_seen(second)
            if first == second:
                break
            if time.monotonic() > deadline:
                pytest.fail(f"Patroni of {node.name} changes: {first.items() ^ second.items()}")
        wrong = {key: value for key, value in first.items() if ours.get(key) != value}
        wrong |= {key: value for key, value in earliest.items() if not value <= ours.get(key, -1) <= latest[key]}
        return {key: (value, ours.get(key)) for key, value in wrong.items()}

    def differing_members(self, seconds: float = 20) -> dict[str, list[Row]]:
        """The members in patronictl and in the exporters that differ from it.

        Reads the exporters, patronictl and the exporters again, until they agree or the time is up.
        """
        deadline = time.monotonic() + seconds
        while True:
            before = {node.name: listed_by_exporter(self.samples(node)) for node in self.alive}
            listed = listed_by_patronictl(self.cluster)
            after = {node.name: listed_by_exporter(self.samples(node)) for node in self.alive}
            wrong = {name: rows for name, rows in after.items() if listed not in (before[name], rows)}
            if not wrong:
                return {}
            if time.monotonic() > deadline:
                return {"patronictl list": listed, **wrong}

    def history(self) -> list[dict[str, Values]]:
        """The number of switches, and the time of the last one by its leader, in each exporter."""
        return [
            self.every("patroni_timeline_switches"),
            self.every("patroni_last_timeline_switch_timestamp_seconds", "leader"),
        ]

    def listed_history(self) -> list[dict[str, Values]]:
        """`history` of `patronictl history`."""
        rows = json.loads(self.cluster.patronictl("history", "-f", "json"))
        last: Values = {(row["New Leader"],): datetime.fromisoformat(row["Timestamp"]).timestamp() for row in rows[-1:]}
        return [self.all({(): float(len(rows))}), self.all(last)]


def _take_seen(samples: Samples) -> Samples:
    """Removes the time of the last read of the DCS."""
    return {key: samples.pop(key) for key in list(samples) if key[0] == SEEN}


def listed_by_patronictl(cluster: Cluster) -> list[Row]:
    """The rows of `patronictl list`, in the form of `listed_by_exporter`."""
    rows: list[dict[str, Any]] = json.loads(cluster.patronictl("list", "-e", "-f", "json"))
    for row in rows:
        if reason := row.get("Pending restart reason"):  # a line for each parameter: `NAME: OLD->NEW`
            row["Pending restart reason"] = sorted(line.partition(": ")[0] for line in reason.splitlines())
        if schedule := row.get("Scheduled restart"):
            row["Scheduled restart"] = datetime.fromisoformat(schedule).timestamp()
        if tags := row.get("Tags"):
            row["Tags"] = {
                tag: value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
                for tag, value in tags.items()
            }
    return rows


def listed_by_exporter(samples: Samples) -> list[Row]:
    """The rows of `patronictl list` from the samples of an exporter."""
    return [_row(samples, name) for (name,) in sorted(family(samples, "patroni_member_pending_restart", "name"))]


def _row(samples: Samples, name: str) -> Row:
    def number(family_name: str) -> float | None:
        return family(samples, family_name, "name").get((name,))

    def those(family_name: str, *labels: str) -> list[tuple[str, ...]]:
        found = family(samples, family_name, "name", *labels)
        return sorted(values[1:] for values, value in found.items() if values[0] == name and value == 1)

    ((scope,),) = family(samples, "patroni_cluster_members", "scope")
    ((host, port),) = those("patroni_member_info", "host", "port")
    ((role,),) = those("patroni_member_role", "role")
    ((state,),) = those("patroni_member_state", "state")
    (version,) = family(samples, "patroni_version").values()
    row: Row = {
        "Cluster": scope,
        "Member": name,
        "Host": f"{host}:{port}",
        "Role": role.replace("_", " ").title(),
        "State": state,
        "TL": number("patroni_member_timeline"),
        "Pending restart": "*" if number("patroni_member_pending_restart") else None,
        "Pending restart reason": [
            parameter for (parameter,) in those("patroni_member_pending_restart_parameter_info", "parameter")
        ],
        "Scheduled restart": number("patroni_member_scheduled_restart_timestamp_seconds"),
        "Tags": {tag: value for tag, value in those("patroni_member_tag_info", "tag", "value")},  # noqa: C416
    }
    if role not in ("leader", "standby_leader"):
        if version < 40100:
            lag = _mib(number("patroni_member_lag_bytes"))
            row["Lag in MB"] = "unknown" if lag is None else lag
        else:
            row["Receive LSN"] = _lsn(number("patroni_member_receive_lsn_bytes"))
            row["Receive Lag"] = _mib(number("patroni_member_receive_lag_bytes"))
            row["Replay LSN"] = _lsn(number("patroni_member_replay_lsn_bytes"))
            row["Replay Lag"] = _mib(number("patroni_member_replay_lag_bytes"))
    return {column: value for column, value in row.items() if value not in (None, [], {})}


def _mib(lag: float | None) -> int | None:
    return None if lag is None else round(lag / MIB)


def _lsn(position: float | None) -> str:
    return "unknown" if position is None else f"{int(position) >> 32:X}/{int(position) & 0xFFFFFFFF:X}"


@contextmanager
def lab(version: str = "4.1.5", nodes: int = 3, node_config: Mapping[str, Config] | None = None) -> Iterator[Lab]:
    """A healthy cluster with an exporter for each node."""
    with ExitStack() as stack:
        cluster = stack.enter_context(Cluster(version, nodes, node_config=node_config))
        exporters = {}
        for node in cluster.nodes:
            arguments = ("--bind", HOST, "--patroni-url", f"{node.url}/patroni")
            served = running_exporter(cluster.folder, *arguments, environ=cluster.environ)
            exporters[node.name] = stack.enter_context(served)
        yield Lab(cluster, exporters)
