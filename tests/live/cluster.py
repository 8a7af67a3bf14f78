"""A real cluster with a real exporter before each node, and where the exporters tell something else than Patroni."""

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
from tests.live.processes import MODULE, Served, free_port, serving

T = TypeVar("T")

SEEN = "patroni_dcs_last_seen"
MIB = 1024 * 1024

#: The values of some labels, and the number there.
Told = dict[tuple[str, ...], float]

#: A member as `patronictl list` prints it, by column; a column that is empty is not there.
Row = dict[str, object]


def family(samples: Samples, name: str, *labels: str) -> Told:
    """Returns the samples of one family by the values of these labels; none where the family is absent."""
    return {
        tuple(dict(pairs).get(label, "") for label in labels): value
        for (sample, pairs), value in samples.items()
        if sample == name
    }


def eventually(read: Callable[[], object], expected: object, seconds: float = 20) -> None:
    """Reads until it is as expected, and fails with both when that takes longer than these seconds."""
    deadline = time.monotonic() + seconds
    while (found := read()) != expected:
        if time.monotonic() > deadline:
            pytest.fail(f"after {seconds:g} s\nexpected {expected!r},\nfound    {found!r}")
        time.sleep(0.1)


class Lab:
    """A cluster and its exporters, by the name of the node that each asks."""

    def __init__(self, cluster: Cluster, exporters: Mapping[str, Served]) -> None:
        self.cluster = cluster
        self.exporters = exporters

    @property
    def nodes(self) -> tuple[Node, ...]:
        return self.cluster.nodes

    @property
    def alive(self) -> tuple[Node, ...]:
        """The nodes whose Patroni runs."""
        return tuple(node for node in self.nodes if self.cluster.runs(node))

    @property
    def leader(self) -> Node:
        """The leader, which must be there."""
        leader = self.cluster.leader()
        assert leader is not None
        return leader

    @property
    def replicas(self) -> tuple[Node, ...]:
        return self.cluster.replicas()

    # What is told

    def told(self, node: Node) -> Samples:
        """What the exporter of this node tells."""
        status, text = self.exporters[node.name].get("/metrics")
        assert status == 200
        return read_samples(text)

    def own(self, node: Node) -> Samples:
        """What Patroni's own /metrics tells, without its types: the parser would give counters another name."""
        lines = self.cluster.get(node, "/metrics", 30)[1].decode().splitlines(keepends=True)
        return read_samples("".join(line for line in lines if not line.startswith("#")))

    def every(self, name: str, *labels: str) -> dict[str, Told]:
        """What each exporter tells in this family."""
        return {node.name: family(self.told(node), name, *labels) for node in self.nodes}

    def each(self, name: str) -> dict[str, float | None]:
        """What each exporter tells in a family of one sample, None where there is no sample."""
        return {name: told.get(()) for name, told in self.every(name).items()}

    def ones(self, name: str, *labels: str) -> dict[str, set[tuple[str, ...]]]:
        """The values of these labels for which each exporter tells 1."""
        return {
            name: {values for values, number in told.items() if number == 1}
            for name, told in self.every(name, *labels).items()
        }

    def all(self, told: T) -> dict[str, T]:
        """What the three above give when every exporter tells this."""
        return {node.name: told for node in self.nodes}

    def only(self, *nodes: Node) -> dict[str, float]:
        """What `each` gives when the exporters of these nodes tell 1 and the others 0."""
        return {node.name: float(node in nodes) for node in self.nodes}

    def pause(self) -> None:
        """Maintenance mode on, and every node has gone through its loop since: until then it may act as before.

        Patroni's API knows as soon as anything has read the DCS, its loop only when it begins anew (_run_cycle, ha.py).
        """
        before = [(node.log, node.log.stat().st_size) for node in self.alive]
        self.cluster.pause()
        eventually(lambda: all(b" PAUSE: " in log.read_bytes()[size:] for log, size in before), True)

    # Where it is not true

    def disagreements(self) -> dict[str, Any]:
        """Where the exporters and Patroni's own /metrics or `patronictl list` differ now; empty when they agree."""
        own = {f"/metrics of {node.name}": self.differing_samples(node) for node in self.alive}
        return {where: found for where, found in own.items() if found} | self.differing_members()

    def differing_samples(self, node: Node, seconds: float = 20) -> dict[Any, tuple[float, float | None]]:
        """Patroni's own samples that the exporter has not or with another value: the value of Patroni, and ours.

        Reads Patroni, the exporter and Patroni again, until Patroni tells the same twice; then so must the exporter.
        Only the moment of the last look at the DCS goes on, with every second.
        """
        deadline = time.monotonic() + seconds
        while True:
            first, ours, second = self.own(node), self.told(node), self.own(node)
            earliest, latest = _take_seen(first), _take_seen(second)
            if first == second:
                break
            if time.monotonic() > deadline:
                pytest.fail(f"{node.name} never told the same twice, but {first.items() ^ second.items()}")
        wrong = {key: value for key, value in first.items() if ours.get(key) != value}
        wrong |= {key: value for key, value in earliest.items() if not value <= ours.get(key, -1) <= latest[key]}
        return {key: (value, ours.get(key)) for key, value in wrong.items()}

    def differing_members(self, seconds: float = 20) -> dict[str, list[Row]]:
        """What patronictl lists and what the exporters tell instead, empty when all of them tell the same.

        Reads the exporters, patronictl and the exporters again, until they agree or the time is up.
        """
        deadline = time.monotonic() + seconds
        while True:
            before = {node.name: listed_by_exporter(self.told(node)) for node in self.alive}
            listed = listed_by_patronictl(self.cluster)
            after = {node.name: listed_by_exporter(self.told(node)) for node in self.alive}
            wrong = {name: rows for name, rows in after.items() if listed not in (before[name], rows)}
            if not wrong:
                return {}
            if time.monotonic() > deadline:
                return {"patronictl list": listed, **wrong}

    def history(self) -> list[dict[str, Told]]:
        """What each exporter tells of the history: how many switches, and when the last one was, by its leader."""
        return [
            self.every("patroni_timeline_switches"),
            self.every("patroni_last_timeline_switch_timestamp_seconds", "leader"),
        ]

    def listed_history(self) -> list[dict[str, Told]]:
        """What `history` gives when every exporter tells what `patronictl history` lists."""
        rows = json.loads(self.cluster.patronictl("history", "-f", "json"))
        last: Told = {(row["New Leader"],): datetime.fromisoformat(row["Timestamp"]).timestamp() for row in rows[-1:]}
        return [self.all({(): float(len(rows))}), self.all(last)]


def _take_seen(samples: Samples) -> Samples:
    """Takes out when the DCS was last seen."""
    return {key: samples.pop(key) for key in list(samples) if key[0] == SEEN}


# Members as patronictl prints them ------------------------------------------------------------------------------------


def listed_by_patronictl(cluster: Cluster) -> list[Row]:
    """What `patronictl list` prints; where it tells more than we do, no more than we do."""
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
    """What `patronictl list` would print of what an exporter tells."""
    return [_row(samples, name) for (name,) in sorted(family(samples, "patroni_member_pending_restart", "name"))]


def _row(samples: Samples, name: str) -> Row:
    def number(family_name: str) -> float | None:
        return family(samples, family_name, "name").get((name,))

    def those(family_name: str, *labels: str) -> list[tuple[str, ...]]:
        told = family(samples, family_name, "name", *labels)
        return sorted(values[1:] for values, value in told.items() if values[0] == name and value == 1)

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


# The processes --------------------------------------------------------------------------------------------------------


@contextmanager
def lab(version: str = "4.1.5", nodes: int = 3, node_config: Mapping[str, Config] | None = None) -> Iterator[Lab]:
    """A healthy cluster, and an exporter before each node that answers; all of it ends with the cluster."""
    with ExitStack() as stack:
        cluster = stack.enter_context(Cluster(version, nodes, node_config=node_config))
        exporters = {}
        for node in cluster.nodes:
            port = stack.enter_context(free_port())
            command = [*MODULE, "--bind", HOST, "--port", str(port), "--patroni-url", f"{node.url}/patroni"]
            exporters[node.name] = stack.enter_context(serving(cluster.folder, port, command, environ=cluster.marked))
        yield Lab(cluster, exporters)
