"""The queries of docs/check_patroni.md return a sample where the check of check_patroni is critical, and only there."""

import re
from pathlib import Path

import pytest

from tests.live.installed import needs
from tests.live.processes import ROOT
from tests.monitoring.promtool import RULES, Phase, Render, holds, rules, series, view_series
from tests.monitoring.situations import BACK, LAG, healthy, only, recorded, versions
from tests.monitoring.test_rules import words

DOCUMENT = (ROOT / "docs" / "check_patroni.md").read_text()
CHECKS = {
    check: query.replace("\\|", "|")
    for check, query in re.findall(r"^\| `(\w+)` \| .* \| `(.+)` \|$", DOCUMENT, re.MULTILINE)
}

#: The hash of the configuration of healthy-async, which the document replaces with an example.
HASH = next(
    float(given["values"].split("+")[0])
    for given in series(only(healthy(1), "n1"))
    if given["series"].startswith("patroni_config_hash")
)

FINE: dict[str, tuple[Phase, ...]] = {
    "cluster_config_has_changed": (healthy(20),),
    "cluster_has_leader": (recorded("standby-cluster", 20),),
    "cluster_has_replica": (healthy(20),),
    "cluster_has_scheduled_action": (healthy(20),),
    "cluster_is_in_maintenance": (healthy(20),),
    "cluster_node_count": (healthy(20),),
    "node_is_alive": (healthy(20),),
    "node_is_leader": (only(healthy(20), "n1"),),
    "node_is_pending_restart": (healthy(20),),
    "node_is_primary": (only(healthy(20), "n1"),),
    "node_is_replica": (only(healthy(20), "n2", "n3"),),
    "node_patroni_version": (healthy(20),),
    "node_tl_has_changed": (
        healthy(10),
        healthy(2, changes={'patroni_member_timeline{name="n2"}': None, 'patroni_postgres_timeline{name="n2"}': 0.0}),
        healthy(8),
    ),
}

CRITICAL: dict[str, list[tuple[Phase, ...]]] = {
    "cluster_config_has_changed": [(healthy(20, changes={"patroni_config_hash": 7.0}),)],
    "cluster_has_leader": [(recorded("leader-lost-unlocked", 20, "3.3.11"),)],
    "cluster_has_replica": [
        (recorded("postgres-down-replicas", 20),),
        (recorded("not-streaming", 20),),
        (recorded("single-node", 20),),
        (healthy(20, changes={LAG: 2e8, LAG.replace("n2", "n3"): 2e8}),),
        (healthy(20, changes={f'patroni_member_timeline{{name="{name}"}}': 7.0 for name in ("n2", "n3")}),),
    ],
    "cluster_has_scheduled_action": [(recorded("scheduled", 20),)],
    "cluster_is_in_maintenance": [(recorded("paused", 20),)],
    "cluster_node_count": [
        (recorded("patroni-dead-expired", 20),),
        (recorded("start-failed", 20),),
        (recorded("postgres-down-all", 20, "3.3.11"),),
    ],
    "node_is_alive": [(healthy(20, down=["n2"]),), (recorded("patroni-dead-expired", 20, dead=["n3"]),)],
    "node_is_leader": [(only(healthy(20), "n2"),)],
    "node_is_pending_restart": [(recorded("pending-restart", 20),)],
    "node_is_primary": [(only(recorded("standby-cluster", 20), "n1"),)],
    "node_is_replica": [
        (only(healthy(20), "n1"),),
        (only(recorded("tags", 20), "n2"),),
        (only(healthy(20, changes={LAG: 2e8}), "n2"),),
    ],
    "node_patroni_version": [(versions(20, n1="4.1.5", n2="4.0.11", n3="4.1.5"),)],
    "node_tl_has_changed": [(healthy(10), Phase(BACK, 10))],
}


def result(folder: Path, check: str, phases: tuple[Phase, ...], render: Render) -> bool:
    """Whether the query returns a sample after these phases."""
    expr = CHECKS[check].replace("1234567890", f"{HASH:.0f}")
    return holds(folder, render(*phases), sum(phase.minutes for phase in phases) - 1, expr)


def test_every_check_is_there() -> None:
    assert list(CHECKS) == sorted(FINE)
    assert len(CHECKS) == 13
    assert FINE.keys() == CRITICAL.keys()


@needs("promtool")
@pytest.mark.parametrize("render", [series, view_series])
@pytest.mark.parametrize("check", FINE)
def test_query_is_empty_where_the_check_is_fine(tmp_path: Path, check: str, render: Render) -> None:
    assert not result(tmp_path, check, FINE[check], render)


@needs("promtool")
@pytest.mark.parametrize("render", [series, view_series])
@pytest.mark.parametrize(
    ("check", "case"), [(check, case) for check, cases in CRITICAL.items() for case in range(len(cases))]
)
def test_query_returns_a_sample_where_the_check_is_critical(
    tmp_path: Path, check: str, case: int, render: Render
) -> None:
    assert result(tmp_path, check, CRITICAL[check][case], render)


def test_alerts_that_are_named_exist() -> None:
    known = {rule["alert"] for rule in rules(RULES) if "alert" in rule} | {"PatroniTooFewMembers"}
    assert set(re.findall(r"\[((?:Patroni|Exporter)\w+)\]", DOCUMENT)) <= known


def test_records_that_are_named_exist() -> None:
    records = {rule["record"] for rule in rules(RULES) if "record" in rule}
    assert {word for query in CHECKS.values() for word in words(query) if ":" in word} <= records
