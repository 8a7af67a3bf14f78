"""The alerts in clusters that go wrong: those that on-call must hear, and those that must not wake anyone."""

from pathlib import Path

import pytest

from tests.live.installed import needs
from tests.monitoring.promtool import RULES, alerts, named, rules
from tests.monitoring.situations import HEARD, QUIET, twice, two_rulers

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
    "PatroniMemberDown",
    "PatroniReplayPaused",
    "PatroniSwitchoverScheduled",
    "PatroniTooFewSyncStandbys",
}

SEVERITIES = {rule["alert"]: rule["labels"]["severity"] for rule in rules(RULES) if "alert" in rule}


@needs("promtool")
@pytest.mark.parametrize("situation", SITUATIONS)
def test_alerts(tmp_path: Path, situation: str) -> None:
    given = SITUATIONS[situation]
    fired = alerts(tmp_path, given.given(), *given.expected, interval=given.interval)
    assert dict(zip(given.expected, map(named, fired), strict=True)) == given.expected
    for alert in (alert for moment in fired for alert in moment):
        assert alert["severity"] == SEVERITIES[alert["alertname"]]
        assert alert["alertname"].startswith(OF_NO_CLUSTER) or alert["scope"] in ("lab", "dr")


@needs("promtool")
@pytest.mark.parametrize(
    "situation", [name for name in SITUATIONS if "two Prometheus" not in name and "days" not in name]
)
def test_alerts_of_two_prometheus_servers_and_two_rulers(tmp_path: Path, situation: str) -> None:
    """Every sample and every record is there twice, as in one Mimir or Thanos. An expression that fails is silent."""
    given = SITUATIONS[situation]
    last = max(given.expected)
    (fired,) = alerts(tmp_path, twice(given.given()), last, files=two_rulers(tmp_path), interval=given.interval)
    assert named(fired) == given.expected[last]


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
    given = HEARD["two clusters of one scope in two namespaces, one without a leader"].given()
    (fired,) = alerts(tmp_path, given, 20)
    assert {alert.get("namespace") for alert in fired if alert["alertname"] != "Watchdog"} == {"prod"}


@needs("promtool")
def test_watchdog_always_fires(tmp_path: Path) -> None:
    assert [[alert["alertname"] for alert in fired] for fired in alerts(tmp_path, [], 0, 5)] == [["Watchdog"]] * 2
