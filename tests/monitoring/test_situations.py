"""The alerts in clusters that go wrong: those that on-call must hear, and those that must not wake anyone."""

from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.live.installed import needs
from tests.monitoring.promtool import RULES, Render, alerts, named, rules, series, view_series
from tests.monitoring.situations import HEARD, QUIET, Situation, twice, two_rulers

SITUATIONS = {**HEARD, **QUIET}

#: Alerts that do not belong to one cluster, or that only some configurations have.
OF_NO_CLUSTER = ("Exporter", "Staytus", "Watchdog")
CONFIGURED = {"PatroniTooFewMembers"}

#: Alerts of recorded states, in test_recorded_clusters.py, which need no change.
RECORDED = {
    "PatroniCommitsBlocked",
    "PatroniDCSNotSeen",
    "PatroniDCSUnreachable",
    "PatroniFailsafeActive",
    "PatroniReplayPaused",
    "PatroniSwitchoverScheduled",
    "PatroniTooFewSyncStandbys",
}

SEVERITIES = {rule["alert"]: rule["labels"]["severity"] for rule in rules(RULES) if "alert" in rule}


#: Situations with records of a second ruler already, or with too many scrapes for two of each.
ONCE = [name for name in SITUATIONS if "two Prometheus" in name or "days" in name]


def check(
    folder: Path, situation: Situation, render: Render, expected: Mapping[float, set[str]], *, doubled: bool = False
) -> None:
    given = situation.series(render)
    given, files = (twice(given), two_rulers(folder)) if doubled else (given, RULES)
    fired = alerts(folder, given, *expected, files=files, interval=situation.interval)
    assert dict(zip(expected, map(named, fired), strict=True)) == expected
    for alert in (alert for moment in fired for alert in moment):
        assert alert["severity"] == SEVERITIES[alert["alertname"]]
        assert alert["alertname"].startswith(OF_NO_CLUSTER) or alert["scope"] in ("lab", "dr")


@needs("promtool")
@pytest.mark.parametrize("situation", SITUATIONS)
def test_all_documents_of_every_member(tmp_path: Path, situation: str) -> None:
    """Two Prometheus servers and two rulers report to one Mimir or Thanos: every sample and record is there twice."""
    given = SITUATIONS[situation]
    check(tmp_path, given, series, given.expected, doubled=situation not in ONCE)


@needs("promtool")
@pytest.mark.parametrize("situation", SITUATIONS)
def test_one_view_of_each_cluster(tmp_path: Path, situation: str) -> None:
    given = SITUATIONS[situation]
    check(tmp_path, given, view_series, {**given.expected, **given.with_view})


def test_every_alert_fires_in_one_of_them() -> None:
    fired = {
        name.split()[0] for situation in SITUATIONS.values() for names in situation.expected.values() for name in names
    }
    assert SEVERITIES.keys() - fired - {"Watchdog"} == RECORDED


def test_quiet_situations_wake_for_one_alert_only() -> None:
    """Nothing is known of any cluster while the exporter in front of all of them is down."""
    fired = {name.split()[0] for situation in QUIET.values() for names in situation.expected.values() for name in names}
    assert {name for name in fired if SEVERITIES[name] == "critical"} == {"ExporterProbesDown"}


@needs("promtool")
def test_namespaces_are_labels_of_alerts(tmp_path: Path) -> None:
    given = HEARD["two clusters of one scope in two namespaces, one without a leader"].series(series)
    (fired,) = alerts(tmp_path, given, 20)
    assert {alert.get("namespace") for alert in fired if alert["alertname"] != "Watchdog"} == {"prod"}


@needs("promtool")
def test_watchdog_always_fires(tmp_path: Path) -> None:
    assert [[alert["alertname"] for alert in fired] for fired in alerts(tmp_path, [], 0, 5)] == [["Watchdog"]] * 2
