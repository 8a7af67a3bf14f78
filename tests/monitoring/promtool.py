"""promtool on rules, with the expositions of recorded clusters as input."""

import json
import os
import re
import subprocess
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from itertools import groupby
from pathlib import Path
from typing import Any, Protocol

import yaml

from exporter.collectors import COLLECTORS
from exporter.collectors.document import Answer, NotSupported, ParseError
from tests.collectors.test_patroni_node import read_samples
from tests.live.installed import path_of
from tests.live.processes import ROOT
from tests.recorded import Moment, exposition, moments

RULES = sorted((ROOT / "monitoring" / "rules").glob("*.yml"))

#: The recording rules.
VIEWS = ROOT / "monitoring" / "rules" / "views.yml"

#: Seconds between two scrapes, and at least between two evaluations, which take most of the CPU time.
INTERVAL, EVALUATION = 30, 60

#: Families whose value is a time. The clock of promtool begins in 1970, so these count from there.
SEEN = "patroni_dcs_last_seen"
TIMES = (
    SEEN,
    "patroni_cluster_scheduled_switchover_timestamp_seconds",
    "patroni_last_timeline_switch_timestamp_seconds",
    "patroni_member_scheduled_restart_timestamp_seconds",
    "patroni_xlog_replayed_timestamp",
)

Series = dict[str, str]
Labels = dict[str, str]
Pairs = tuple[tuple[str, str], ...]

#: A value and what is added with each scrape, or None where the series is absent.
Ramp = tuple[float, float] | None

#: A new value, or as above.
Change = float | Ramp

#: The collectors whose documents are the same on each node of a cluster, and their families.
OF_CLUSTER = ("cluster", "history", "config", "failsafe")
CLUSTER_FAMILIES = {
    family.name for each in COLLECTORS["patroni"] if each.name in OF_CLUSTER for family in each.families
}

#: The rank of a node that does not return /cluster.
SILENT = 2

#: Minutes until Prometheus asks another target for the documents of the cluster: discovery, refresh and one scrape.
MOVE = 1.0


def run(*arguments: object) -> str:
    """Runs promtool; returns its output, which is empty when it has succeeded."""
    command = [path_of("promtool"), *map(str, arguments)]
    environ = {**os.environ, "GOGC": "400"}  # with the default, a third of its CPU time is garbage collection
    ended = subprocess.run(command, capture_output=True, text=True, check=False, env=environ)
    return "" if ended.returncode == 0 else ended.stdout + ended.stderr


def groups(files: Iterable[Path]) -> list[dict[str, Any]]:
    """Every group of these files, in their order."""
    return [group for file in files for group in _groups(file.read_text())]


@cache
def _groups(text: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = yaml.load(text, yaml.CSafeLoader)["groups"]
    return found


def rules(files: Iterable[Path]) -> list[dict[str, Any]]:
    """Every rule of these files, in their order."""
    return [rule for group in groups(files) for rule in group["rules"]]


def picture(version: str, state: str) -> list[Moment]:
    """All nodes of a recorded cluster at one moment."""
    found = [moment for moment in moments(version) if moment.state == state]
    assert found, f"no recording of {state} with {version}"
    return found


@dataclass(frozen=True)
class Phase:
    """Nodes that stay as they are for some minutes, each with a target.

    `dead` nodes answer nothing to their exporter, the scrapes of `down` nodes fail. With `frozen` no node has seen its
    DCS since the first minute. The keys of `changes` select series, such as `patroni_member_lag_bytes{name="n2"}`; a
    series that is not there is added, with the labels of the key.
    """

    nodes: Sequence[Moment]
    minutes: float
    dead: Sequence[str] = ()
    down: Sequence[str] = ()
    frozen: bool = False
    changes: Mapping[str, Change] = field(default_factory=dict)

    def samples(self, probed: bool) -> dict[tuple[str, Pairs], float]:
        """The samples of all targets by family and labels."""
        found = {}
        port = 8008 if probed else 9547
        silent = [Moment("4.1.5", "", name, {}) for name in self.dead]
        for node in [*self.nodes, *silent]:
            scraped = {} if node.node in self.down else _scrape(node)
            scraped["up", ()] = float(node.node not in self.down)
            if scraped["up", ()] and not probed:
                scraped["patroni_staytus_exporter_build_info", ()] = 1.0
            for (family, pairs), value in scraped.items():
                target = (("instance", f"{node.node}:{port}"), ("job", "patroni"))
                found[family, tuple(sorted((*pairs, *target)))] = value
        for name in set(self.down) - {node.node for node in [*self.nodes, *silent]}:
            found["up", (("instance", f"{name}:{port}"), ("job", "patroni"))] = 0.0
        return found

    def ranks(self) -> dict[str, int]:
        """0 for a replica that returns /cluster, 1 for the leader, SILENT for others. The view has the lowest rank."""
        found = {}
        for node in self.nodes:
            answer = node.answers.get("/cluster")
            found[node.node] = SILENT
            if answer is not None and answer.status == 200 and node.node not in (*self.dead, *self.down):
                members = json.loads(answer.body)["members"]
                found[node.node] = int(
                    any(m["name"] == node.node and m["role"] in ("leader", "standby_leader") for m in members)
                )
        return found


class Scraped(Protocol):
    """Targets that stay as they are for some minutes."""

    @property
    def minutes(self) -> float: ...
    @property
    def frozen(self) -> bool: ...
    @property
    def changes(self) -> Mapping[str, Change]: ...
    def samples(self, probed: bool) -> dict[tuple[str, Pairs], float]: ...
    def ranks(self) -> dict[str, int]: ...


class Render(Protocol):
    """`series` or `view_series`."""

    def __call__(
        self, *phases: Scraped, labels: Mapping[str, str] = {}, probed: bool = False, interval: int = INTERVAL
    ) -> list[Series]: ...


def next_view(phase: Scraped, view: str) -> str:
    """The node that is asked for the documents of the cluster: the first replica that answers, else the leader.

    While no node answers it is the same as before.
    """
    ranks = phase.ranks()
    best = min(ranks, key=lambda node: (ranks[node], node), default="")
    return view if view and ranks.get(best, SILENT) == SILENT else best


def view_series(
    *phases: Scraped, labels: Mapping[str, str] = {}, probed: bool = False, interval: int = INTERVAL
) -> list[Series]:
    """As `series`, where one target alone is asked for the documents of the cluster and the others for /patroni.

    When the view moves, the former one is asked for a minute more if it answers, and its last samples are seen beside
    the first ones of its successor. Else there is no view for a minute.
    """
    views: list[set[str]] = []
    view = ""
    for phase in phases:
        count = round(phase.minutes * 60 / interval)
        former, view = view, next_view(phase, view)
        moving = [{former}] * round(MOVE * 60 / interval) if former not in ("", view) else []
        if phase.ranks().get(former, SILENT) < SILENT:
            moving += [{former, view}] * bool(moving)
        views += [*moving, *[{view}] * count][:count]
    return _series(phases, labels, probed, interval, views)


def series(
    *phases: Scraped, labels: Mapping[str, str] = {}, probed: bool = False, interval: int = INTERVAL
) -> list[Series]:
    """The series that Prometheus has of one cluster after these phases; `labels` are those of its targets.

    `probed` targets have one exporter for all of them, the others an exporter each.
    """
    return _series(phases, labels, probed, interval)


def _series(
    phases: Sequence[Scraped],
    labels: Mapping[str, str],
    probed: bool,
    interval: int,
    views: Sequence[set[str]] | None = None,
) -> list[Series]:
    values: dict[str, list[str]] = {}
    scrapes = 0
    for phase in phases:
        count = round(phase.minutes * 60 / interval)
        samples = {
            _name(family, {**dict(pairs), **labels}): (family, value)
            for (family, pairs), value in phase.samples(probed).items()
        }
        now = max((value for family, value in samples.values() if family == SEEN), default=0.0)
        told: dict[str, Ramp] = {}
        for name, (family, value) in samples.items():
            step = 0.0
            if family in TIMES and value:
                value += scrapes * interval - now + (60 if phase.frozen else 0)
                step = interval if family == SEEN and not phase.frozen else 0.0
            told[name] = value, step
        told.update(_changed(told, phase.changes, labels))
        for name in {**values, **told}:
            before = values.setdefault(name, [f"_x{scrapes}"] if scrapes else [])
            seen = _seen(name, count, views and views[scrapes : scrapes + count]) if told.get(name) else []
            before += _written(
                told.get(name), count, seen, stale=bool(before) and not before[-1].startswith(("_", "stale"))
            )
        scrapes += count
    return [{"series": name, "values": " ".join(parts)} for name, parts in values.items()]


def _seen(name: str, count: int, views: Sequence[set[str]] | None) -> list[range]:
    """The scrapes in which the series is there."""
    family, _, target = name.partition("{")
    collector = re.search(r'collector="(\w+)"', target)
    if views is None or not (family in CLUSTER_FAMILIES or (collector and collector[1] in OF_CLUSTER)):
        return [range(count)]
    found = re.search(r'instance="([^":]*)', target)
    node = found[1] if found else ""
    runs = groupby(range(count), lambda scrape: node in views[scrape])
    scrapes = [list(run) for is_view, run in runs if is_view]
    return [range(run[0], run[-1] + 1) for run in scrapes]


def _written(ramp: Ramp, count: int, seen: Sequence[range], stale: bool) -> Iterator[str]:
    """The values in the notation of promtool; `stale` is whether the scrape before had the series."""
    end = 0
    for run in [*seen, range(count, count)]:
        if absent := run.start - end:
            yield f"stale _x{absent - 1}" if stale else f"_x{absent}"
        if run:
            value, step = ramp or (0.0, 0.0)
            yield f"{value + run.start * step!r}+{step!r}x{len(run) - 1}"
        stale, end = bool(run), run.stop


def _changed(told: Mapping[str, Ramp], changes: Mapping[str, Change], labels: Mapping[str, str]) -> dict[str, Ramp]:
    changed: dict[str, Ramp] = {}
    for part, change in changes.items():
        family, _, matchers = part.rstrip("}").partition("{")
        wanted = [f'{name}="{value}"' for name, value in re.findall(r'(\w+)="([^"]*)"', matchers)]
        found = [name for name in told if name.startswith(family + "{") and all(pair in name for pair in wanted)]
        ramp = change if change is None or isinstance(change, tuple) else (change, 0.0)
        if not found and ramp:
            found = [_name(family, {**dict(re.findall(r'(\w+)="([^"]*)"', matchers)), **labels})]
        changed.update(dict.fromkeys(found, ramp))
    return changed


def _scrape(node: Moment) -> dict[Any, float]:
    """The samples that an exporter beside this node exposes."""
    return {**_samples(node.version, frozenset(node.answers.items()))}


@cache
def _samples(version: str, answers: frozenset[tuple[str, Answer]]) -> dict[Any, float]:
    read, success = [], {}
    for collector in COLLECTORS["patroni"]:
        answer = dict(answers).get(f"/{collector.path}")
        if answer is None and collector.name == "failsafe" and version < "3":  # this version does not have it
            continue
        try:
            if answer is None:  # the recordings hold only what was answered
                raise ParseError("no answer")
            collector.parse(answer)
        except NotSupported:
            continue
        except ParseError:
            success[collector.name] = 0.0
        else:
            success[collector.name] = 1.0
            read.append((collector, answer))
    samples = dict(read_samples(exposition("patroni", *read))) if read else {}
    samples = {key: value for key, value in samples.items() if key[0] != "patroni_up"}
    for name, value in success.items():
        samples["patroni_scrape_collector_success", (("collector", name),)] = value
    samples["patroni_up", ()] = success["node"]
    return samples


def _name(family: str, labels: Mapping[str, str]) -> str:
    quoted = {name: json.dumps(value, ensure_ascii=False) for name, value in labels.items()}
    return f"{family}{{{', '.join(f'{name}={value}' for name, value in sorted(quoted.items()))}}}"


def alerts(
    folder: Path,
    given: Sequence[Series],
    *minutes: float,
    files: Sequence[Path] = RULES,
    interval: int = INTERVAL,
) -> list[list[Labels]]:
    """The labels of the alerts that fire at each of these minutes.

    promtool only compares: the test expects that nothing fires, and the alerts are read from what it reports instead.
    """
    names = sorted({rule["alert"] for rule in rules(files) if "alert" in rule})
    order = sorted(
        (group["name"] for group in groups(files)), key=lambda name: ("memory" not in name, "views" not in name)
    )
    times = [f"{round(minute * 60)}s" for minute in minutes]
    test = {
        "rule_files": [str(file) for file in files],
        "group_eval_order": order,
        "evaluation_interval": f"{max(interval, EVALUATION)}s",
        "tests": [
            {
                "interval": f"{interval}s",
                "input_series": list(given),
                "alert_rule_test": [
                    {"eval_time": time, "alertname": name, "exp_alerts": []} for time in times for name in names
                ],
            }
        ],
    }
    file = folder / "test.yml"
    file.write_text(json.dumps(test))
    reported = run("test", "rules", file)
    found: dict[float, list[Labels]] = {round(minute * 60): [] for minute in minutes}
    for block in reported.split("alertname: ")[1:]:
        time = re.search(r"time: (\w+)", block)
        assert time, block
        found[_seconds(time[1])] += [
            dict(re.findall(r'(\w+)="((?:[^"\\]|\\.)*)"', labels)) for labels in re.findall(r"Labels:{(.*)}", block)
        ]
    assert bool(reported) == any(found.values()), reported
    assert "error expanding template" not in reported, reported
    return list(found.values())


def holds(folder: Path, given: Sequence[Series], minute: float, expr: str) -> bool:
    """Whether the expression has a value at this minute."""
    file = folder / "value.yml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "value", "rules": [{"alert": "Value", "expr": expr}]}]}))
    (found,) = alerts(folder, given, minute, files=[VIEWS, file])
    return any(alert["alertname"] == "Value" for alert in found)


def _seconds(duration: str) -> int:
    units = {"d": 86400, "h": 3600, "m": 60, "s": 1}
    return sum(int(number) * units[unit] for number, unit in re.findall(r"(\d+)([dhms])", duration))


def named(found: Iterable[Labels]) -> set[str]:
    """The alerts but the one that always fires, each with the member that it names, if any."""
    return {" ".join(filter(None, [a["alertname"], a.get("name")])) for a in found if a["alertname"] != "Watchdog"}


def firing(
    folder: Path, given: Sequence[Series], *minutes: float, files: Sequence[Path] = RULES, interval: int = INTERVAL
) -> list[set[str]]:
    """The alerts that fire at each of these minutes, named as by `named`."""
    return [named(found) for found in alerts(folder, given, *minutes, files=files, interval=interval)]
