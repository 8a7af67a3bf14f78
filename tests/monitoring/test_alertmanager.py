"""The example of Alertmanager: amtool accepts it, routes by severity, and a real Alertmanager inhibits what follows."""

import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.live.alertmanager import EXAMPLE, Alertmanager, alertmanager
from tests.live.installed import needs, path_of
from tests.live.processes import ROOT, until
from tests.monitoring.promtool import RULES, Phase, alerts, named, picture, rules, series
from tests.monitoring.situations import HEARD, QUIET

CONFIG = yaml.safe_load(EXAMPLE.read_text())
ALERTS = {rule["alert"] for rule in rules(RULES) if "alert" in rule}
MATCHER = re.compile(r'alertname=~?"([^"]+)"')


def amtool(*arguments: str) -> str:
    ended = subprocess.run([path_of("amtool"), *arguments], capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout.strip()


@needs("amtool")
def test_amtool_accepts_it() -> None:
    assert "9 inhibit rules" in amtool("check-config", str(EXAMPLE))


@needs("amtool")
@pytest.mark.parametrize(
    ("labels", "receiver"),
    [
        (["alertname=PatroniNoLeader", "severity=critical", "scope=main"], "pager"),
        (["alertname=PatroniReplicaLag", "severity=warning", "scope=main"], "team"),
        (["alertname=PatroniPendingRestart", "severity=info", "scope=main"], "log"),
        (["alertname=Watchdog", "severity=none"], "dead-man-switch"),
    ],
)
def test_route(labels: list[str], receiver: str) -> None:
    assert amtool("config", "routes", "test", f"--config.file={EXAMPLE}", *labels) == receiver


def test_inhibition_names_only_alerts_that_exist() -> None:
    for rule in CONFIG["inhibit_rules"]:
        for matcher in (*rule["source_matchers"], *rule["target_matchers"]):
            for name in MATCHER.findall(matcher)[0].split("|"):
                assert any(re.fullmatch(name, alert) for alert in ALERTS), name


def test_a_split_brain_is_never_inhibited() -> None:
    targets = [MATCHER.findall(matcher)[0] for rule in CONFIG["inhibit_rules"] for matcher in rule["target_matchers"]]
    never = ("PatroniMultipleLeaders", "PatroniSplitBrainPossible", "PatroniCommitsBlocked", "PatroniClusterLost")
    assert [name for name in never if any(re.fullmatch(target, name) for target in targets)] == []


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Alertmanager]:
    with alertmanager(tmp_path_factory.mktemp("alertmanager")) as started:
        yield started


@needs("promtool", "prometheus-alertmanager")
@pytest.mark.parametrize(
    ("situation", "minute", "left"),
    [
        ("dcs-down", 18, {"PatroniDCSUnreachable"}),
        ("dcs-down-failsafe", 18, {"PatroniDCSUnreachable"}),
        ("all hosts of a cluster die", 20, {"PatroniClusterLost"}),
        ("every Patroni of a cluster is down behind one exporter", 20, {"PatroniClusterLost"}),
        (
            "two clusters of one scope in two namespaces, one without a leader",
            20,
            {"PatroniNoLeader", "PatroniMemberMissing n1"},
        ),
        ("Patroni of the leader is frozen, and another member leads", 39, {"PatroniSplitBrainPossible n1"}),
        (
            "the leader's host is lost, and another member leads",
            20,
            {"PatroniFailover n1", "PatroniMemberMissing n1"},
        ),
        ("a replica's host reboots in eight minutes", 17, {"PatroniMemberMissing n3"}),
        ("the leader is lost in maintenance mode", 20, {"PatroniPausedNoLeader", "PatroniUnreachable n1"}),
    ],
)
def test_only_the_cause_is_left(
    tmp_path: Path, running: Alertmanager, situation: str, minute: float, left: set[str]
) -> None:
    known = HEARD.get(situation) or QUIET.get(situation)
    given = known.series(series) if known else series(Phase(picture("4.1.5", situation), 20, frozen=True))
    (fired,) = alerts(tmp_path, given, minute)
    # The cluster has a scope of its own, since all tests share one Alertmanager.
    sent = [{**labels, "test": situation, **({"scope": situation} if "scope" in labels else {})} for labels in fired]
    running.post(sent)

    def received(inhibited: bool) -> list[dict[str, str]]:
        return [labels for labels in running.alerts()[inhibited] if labels["test"] == situation]

    until(lambda: len(received(True) + received(False)) == len(sent))
    until(lambda: named(received(False)) == left, 5)


@needs("prometheus-alertmanager")
def test_another_cluster_is_not_inhibited(running: Alertmanager) -> None:
    other = {"alertname": "PatroniNoLeader", "severity": "critical", "scope": "other", "test": "other"}
    running.post(
        [{"alertname": "PatroniDCSUnreachable", "severity": "critical", "scope": "lab", "test": "other"}, other]
    )
    until(lambda: other in running.alerts()[False])


@needs("amtool", "prometheus-alertmanager")
@pytest.mark.parametrize("command", re.findall(r"amtool (silence add [^`\n]+)", (ROOT / "RUNBOOK.md").read_text()))
def test_silence_of_the_runbook(running: Alertmanager, command: str) -> None:
    silence = amtool(f"--alertmanager.url=http://{running.address}", *shlex.split(command), "--author=test")
    assert re.fullmatch(r"[0-9a-f-]{36}", silence)
