"""The shipped rules: promtool accepts them, each alert is tried both ways, and each is in the runbook."""

import re
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
import yaml

from exporter.collectors import COLLECTORS
from exporter.scrape.families import SCRAPE_FAMILIES
from tests.live.installed import needs
from tests.live.processes import ROOT
from tests.monitoring.promtool import RULES, rules, run

TESTS = sorted((ROOT / "monitoring" / "tests").glob("*.yml"))
RUNBOOK = (ROOT / "RUNBOOK.md").read_text()
ALERTS = [rule for rule in rules(RULES) if "alert" in rule]
RECORDS = {rule["record"] for rule in rules(RULES) if "record" in rule}

#: The families that the exporter gives, with the names of their labels, and what Prometheus itself adds.
FAMILIES = {
    family.name: {*family.common_labels, *family.labels}
    for family in chain(
        *(collector.families for collectors in COLLECTORS.values() for collector in collectors),
        *SCRAPE_FAMILIES.values(),
    )
} | {"up": set()}
TARGET = {"instance", "job"}


def alert_tests(alert: str) -> list[dict[str, Any]]:
    """What the unit tests expect of an alert."""
    return [
        expected
        for file in TESTS
        for test in yaml.safe_load(file.read_text())["tests"]
        for expected in test["alert_rule_test"]
        if expected["alertname"] == alert
    ]


def words(expression: str) -> set[str]:
    """The names of families and records in an expression."""
    bare = re.sub(r'"[^"]*"', "", expression)
    bare = re.sub(r"{[^}]*}|\b(by|on|group_left|group_right) \([^)]*\)", "", bare)
    return set(re.findall(r"\b(?:patroni|staytus|service|exporter)(?:_|:)\w+|\bup\b", bare))


def test_every_expression_can_be_searched_for_its_families() -> None:
    found = words('max by (service_permalink) (patroni_primary{name="patroni_x"}) > scalar(patroni:a_b) or up == 0')
    assert found == {"patroni_primary", "patroni:a_b", "up"}


@needs("promtool")
def test_promtool_accepts_the_rules() -> None:
    assert run("check", "rules", *RULES) == ""


@needs("promtool")
@pytest.mark.parametrize("file", TESTS, ids=lambda file: file.stem)
def test_unit_tests_of_the_rules_pass(file: Path) -> None:
    assert run("test", "rules", file) == ""


def test_no_two_alerts_have_one_name() -> None:
    names = [rule["alert"] for rule in ALERTS]
    assert sorted(set(names)) == sorted(names)


@pytest.mark.parametrize("rule", ALERTS, ids=lambda rule: str(rule["alert"]))
def test_alert_is_tried_firing_and_not_firing(rule: dict[str, Any]) -> None:
    fires = {bool(expected["exp_alerts"]) for expected in alert_tests(rule["alert"])}
    assert fires == {True, False}


@pytest.mark.parametrize("rule", ALERTS, ids=lambda rule: str(rule["alert"]))
def test_alert_says_what_it_means_and_where_to_read_on(rule: dict[str, Any]) -> None:
    assert rule["labels"].keys() == {"severity"}
    assert rule["labels"]["severity"] in ("critical", "warning", "info")
    assert rule["annotations"].keys() == {"summary", "description", "runbook_url"}
    assert rule["annotations"]["runbook_url"] == f"RUNBOOK.md#{rule['alert'].lower()}"


def test_runbook_has_a_section_for_every_alert_and_for_nothing_else() -> None:
    sections = re.findall(r"^### (\w+)\n\n(\w+) · ", RUNBOOK, re.MULTILINE)
    assert sorted(sections) == sorted((rule["alert"], rule["labels"]["severity"]) for rule in ALERTS)


def test_every_section_of_the_runbook_says_meaning_first_command_and_causes() -> None:
    for section in re.split(r"^### ", RUNBOOK.split("\n## The checks")[0], flags=re.MULTILINE)[1:]:
        assert re.fullmatch(r"\w+\n\n\w+ · .+\n\n```console\n\$ .+\n```\n\n.+\n\n*(## .*)?", section, re.DOTALL), (
            section
        )


@pytest.mark.parametrize("rule", rules(RULES), ids=lambda rule: str(rule.get("alert", rule.get("record"))))
def test_rule_uses_only_families_that_the_exporter_gives_and_records_that_there_are(rule: dict[str, Any]) -> None:
    assert words(rule["expr"]) <= FAMILIES.keys() | RECORDS


def test_every_threshold_is_used_and_missed_where_it_is_not_there() -> None:
    thresholds = {record for record in RECORDS if ":threshold_" in record}
    used = {rule["alert"]: words(rule["expr"]) & thresholds for rule in ALERTS}
    assert used.pop("ThresholdsMissing") == thresholds
    assert set().union(*used.values()) == thresholds


def test_series_of_the_unit_tests_have_the_labels_that_the_exporter_gives() -> None:
    for file in TESTS:
        for test in yaml.safe_load(file.read_text())["tests"]:
            for series in test.get("input_series", []):
                name, _, labels = series["series"].partition("{")
                found = set(re.findall(r'(\w+)="', labels))
                assert FAMILIES[name] - {"name"} <= found <= FAMILIES[name] | TARGET, series["series"]


def test_every_check_of_check_patroni_is_answered() -> None:
    rows = re.findall(r"^\| `(\w+)` \| .*`(?:\w+).*` \|$", RUNBOOK.split("\n## The checks")[1], re.MULTILINE)
    assert rows == [
        "cluster_config_has_changed",
        "cluster_has_leader",
        "cluster_has_replica",
        "cluster_has_scheduled_action",
        "cluster_is_in_maintenance",
        "cluster_node_count",
        "node_is_alive",
        "node_is_leader",
        "node_is_pending_restart",
        "node_is_primary",
        "node_is_replica",
        "node_patroni_version",
        "node_tl_has_changed",
    ]


def test_what_the_table_of_checks_names_is_there() -> None:
    table = RUNBOOK.split("\n## The checks")[1]
    named = words(table.replace("`", " "))
    assert named
    assert named <= FAMILIES.keys()
    assert set(re.findall(r"\[(\w+)\]\(#\w+\)", table)) <= {rule["alert"] for rule in ALERTS}


@needs("promtool")
def test_expressions_of_the_table_of_checks_can_be_evaluated(tmp_path: Path) -> None:
    table = RUNBOOK.split("\n## The checks")[1].replace("\\|", "|")
    expressions = re.findall(r"`([^`]+)` \|$", table, re.MULTILINE)
    assert len(expressions) == 13
    file = tmp_path / "checks.yml"
    group = {"name": "checks", "rules": [{"record": f"check:{n}", "expr": expr} for n, expr in enumerate(expressions)]}
    file.write_text(yaml.safe_dump({"groups": [group]}))
    assert run("check", "rules", file) == ""
