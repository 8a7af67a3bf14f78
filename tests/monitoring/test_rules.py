"""The rendered rules: promtool accepts them, their families exist, and each alert has a section in the runbook."""

import re
from itertools import chain
from typing import Any

import pytest

from exporter.web.self_metrics import OWN_FAMILIES
from tests.live.installed import needs
from tests.live.processes import ROOT
from tests.monitoring.promtool import RULES, rules, run
from tests.recorded import FAMILIES

RUNBOOK = (ROOT / "RUNBOOK.md").read_text()
ALERTS = [rule for rule in rules(RULES) if "alert" in rule]
RECORDS = {rule["record"] for rule in rules(RULES) if "record" in rule}

#: The families of the exporter, and the one that Prometheus adds.
NAMES = {family.name for family in (*FAMILIES, *OWN_FAMILIES)} | {"up"}

#: Families of `_config` that are rendered only with another configuration.
CONFIGURED = {"PatroniTooFewMembers": ("warning", "after 5m.")}

SECTION = re.compile(
    r"\w+\n\n\*\*\w+\*\* · .+?\n\n```console\n(?:\$ .+ # .+\n){3}```\n\n\*\*Fix\*\*: .+\n\n\*\*Silence\*\*: .+",
    re.DOTALL,
)


def words(expression: str) -> set[str]:
    """The names of families and records in an expression."""
    bare = re.sub(r'"[^"]*"', "", expression)
    bare = re.sub(r"{[^}]*}|\b(by|on|group_left|group_right) \([^)]*\)", "", bare)
    return set(re.findall(r"\b(?:patroni|staytus|service|exporter)(?:_|:)[\w:]+|\bup\b", bare))


def test_words_of_an_expression() -> None:
    found = words('max by (service_permalink) (patroni_primary{name="patroni_x"}) > patroni:a_b:rate5m or up == 0')
    assert found == {"patroni_primary", "patroni:a_b:rate5m", "up"}


@needs("promtool")
def test_promtool_accepts_the_rules() -> None:
    assert run("check", "rules", *RULES) == ""


@pytest.mark.parametrize("rule", rules(RULES), ids=lambda rule: str(rule.get("alert", rule.get("record"))))
def test_rule_uses_families_and_records_that_exist(rule: dict[str, Any]) -> None:
    assert words(rule["expr"]) <= NAMES | RECORDS


def test_records_are_used_or_documented() -> None:
    used = set(chain(*(words(rule["expr"]) for rule in rules(RULES))))
    documented = set(re.findall(r"`(patroni:[\w:]+)`", (ROOT / "docs" / "alerts.md").read_text()))
    assert RECORDS - used - documented == set()
    assert documented <= RECORDS


@pytest.mark.parametrize("rule", ALERTS, ids=lambda rule: str(rule["alert"]))
def test_alert_has_its_labels_and_annotations(rule: dict[str, Any]) -> None:
    assert rule["labels"].keys() == {"severity"}
    assert rule["labels"]["severity"] in ("critical", "warning", "info", "none")
    assert rule["annotations"].keys() == {"summary", "description", "runbook_url"}
    assert rule["annotations"]["runbook_url"] == f"RUNBOOK.md#{rule['alert'].lower()}"


def test_runbook_has_a_section_for_every_alert() -> None:
    """With its severity, and how long its condition must last."""
    found = re.findall(r"^### (\w+)\n\n\*\*(\w+)\*\* · (.+?)\n\n```", RUNBOOK, re.MULTILINE | re.DOTALL)
    sections = {name: (severity, text.rpartition("Fires ")[2]) for name, severity, text in found}
    assert len(sections) == len(found)
    delays = {rule["alert"]: f"after {rule['for']}." if "for" in rule else "at once." for rule in ALERTS}
    expected = {rule["alert"]: (rule["labels"]["severity"], delays[rule["alert"]]) for rule in ALERTS}
    assert sections == expected | CONFIGURED


@pytest.mark.parametrize(
    "section",
    re.split(r"^### ", re.sub(r"^## .*\n", "", RUNBOOK, flags=re.M), flags=re.M)[1:],
    ids=lambda text: text.split()[0],
)
def test_section_of_the_runbook_is_complete(section: str) -> None:
    """Severity and meaning, three commands with what they print, the fix, and how to silence it."""
    assert SECTION.fullmatch(section.strip())
