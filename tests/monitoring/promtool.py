"""Prometheus' own tool on our rules, fed with what real clusters said, as exporters beside their nodes tell it."""

import json
import re
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from exporter.collectors import COLLECTORS
from exporter.collectors.document import NotSupported, ParseError
from tests.collectors.test_patroni_node import read_samples
from tests.live.installed import path_of
from tests.live.processes import ROOT
from tests.recorded import Moment, exposition, moments

RULES = sorted((ROOT / "monitoring" / "rules").glob("*.yml"))

#: Seconds between two scrapes and two evaluations.
INTERVAL = 30

#: How many minutes a picture lasts that another one follows.
BEFORE = 5

#: Families whose value is a moment; promtool's clock begins in 1970, so these are told from there.
SEEN = "patroni_dcs_last_seen"
MOMENTS = (
    SEEN,
    "patroni_cluster_scheduled_switchover_timestamp_seconds",
    "patroni_last_timeline_switch_timestamp_seconds",
    "patroni_member_scheduled_restart_timestamp_seconds",
)

Series = dict[str, str]


def run(*arguments: object) -> str:
    """Runs promtool; returns what it says, which is empty when it has succeeded."""
    command = [path_of("promtool"), *map(str, arguments)]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    return "" if ended.returncode == 0 else ended.stdout + ended.stderr


def rules(files: Iterable[Path]) -> list[dict[str, Any]]:
    """Every rule of these files, in their order."""
    return [rule for file in files for group in yaml.safe_load(file.read_text())["groups"] for rule in group["rules"]]


def picture(version: str, state: str) -> list[Moment]:
    """All nodes of a recorded cluster at one moment."""
    found = [moment for moment in moments(version) if moment.state == state]
    assert found, f"no recording of {state} with {version}"
    return found


def series(
    nodes: Sequence[Moment],
    minutes: float,
    *,
    before: Sequence[Moment] = (),
    frozen: bool = False,
    dead: Sequence[str] = (),
) -> list[Series]:
    """What Prometheus would keep of these nodes had they stayed as they were for so long, an exporter beside each.

    `before` is how they were in the five minutes before that. The DCS is seen again and again, save where it is gone:
    `frozen` is that it was seen last in the first minute. `dead` are the nodes that answer nothing at all.
    """
    earlier = [_Picture(before, 0, _count(BEFORE))] if before else []
    all_nodes = [*nodes, *(Moment("", "", name, {}) for name in dead)]
    later = _Picture(all_nodes, BEFORE * 60 if before else 0, _count(minutes), frozen)
    pictures = [*earlier, later]
    return [
        {"series": name, "values": " ".join(picture.values(name, kept=picture is not later) for picture in pictures)}
        for name in dict.fromkeys(name for picture in pictures for name in picture.told)
    ]


def _count(minutes: float) -> int:
    return round(minutes * 60 / INTERVAL)


class _Picture:
    """What the exporters of some nodes tell, held for `count` scrapes from the second `start` on."""

    def __init__(self, nodes: Sequence[Moment], start: int, count: int, frozen: bool = False) -> None:
        self.start, self.count, self.frozen = start, count, frozen
        self.told: dict[str, tuple[str, float]] = {}
        for node in nodes:
            for (family, pairs), value in _scrape(node).items():
                labels = {**dict(pairs), "instance": f"{node.node}:9547", "job": "patroni"}
                self.told[f"{family}{{{_labels(labels)}}}"] = family, value
        self.now = max((value for family, value in self.told.values() if family == SEEN), default=0.0)

    def values(self, name: str, *, kept: bool) -> str:
        """The samples of one series, as promtool writes them; `kept` tells that more will follow."""
        if name not in self.told:
            return f"_x{self.count}" if kept else "stale"
        family, value = self.told[name]
        step = 0
        if family in MOMENTS and value:
            value += self.start - self.now + (60 if self.frozen else 0)
            step = INTERVAL if family == SEEN and not self.frozen else 0
        return f"{value!r}+{step}x{self.count - 1}"


def _scrape(node: Moment) -> dict[Any, float]:
    """The samples that an exporter beside this node gives."""
    read, success = [], {}
    for collector in COLLECTORS["patroni"]:
        answer = node.answers.get(f"/{collector.path}")
        if answer is None and collector.name == "failsafe" and node.version < "3":  # there is none, nobody asked
            continue
        try:
            if answer is None:  # recorded is only what was answered
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


def _labels(labels: Mapping[str, str]) -> str:
    quoted = {name: json.dumps(value, ensure_ascii=False) for name, value in labels.items()}
    return ", ".join(f"{name}={value}" for name, value in sorted(quoted.items()))


def firing(folder: Path, files: Sequence[Path], given: Sequence[Series], minutes: float) -> set[str]:
    """The alerts that fire in these minutes' last one, each with the member that it names, if any.

    promtool only compares: it is told that nothing fires, and what it finds instead is read from its answer.
    """
    names = sorted({rule["alert"] for rule in rules(files) if "alert" in rule})
    at = f"{round(minutes * 60)}s"
    test = {
        "rule_files": [str(file) for file in files],
        "group_eval_order": ["thresholds", "patroni-views", "staytus-views"],
        "evaluation_interval": f"{INTERVAL}s",
        "tests": [
            {
                "interval": f"{INTERVAL}s",
                "input_series": list(given),
                "alert_rule_test": [{"eval_time": at, "alertname": name, "exp_alerts": []} for name in names],
            }
        ],
    }
    file = folder / "test.yml"
    file.write_text(yaml.safe_dump(test))
    said = run("test", "rules", file)
    found = [dict(re.findall(r'(\w+)="([^"]*)"', labels)) for labels in re.findall(r"Labels:{(.*)}", said)]
    assert bool(said) == bool(found), said
    return {" ".join([labels["alertname"], *filter(None, [labels.get("name")])]) for labels in found}
