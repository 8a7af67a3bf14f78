"""GET /cluster: what the recordings do not contain; tests/test_golden.py compares the recordings."""

import json
import math

import pytest

from exporter.collectors.document import Answer
from exporter.collectors.patroni_cluster import COLLECTOR, FAMILIES, Cluster, Switchover, parse
from tests.recorded import moment

LAG = moment("4.1.5", "lag", "n1").answers["/cluster"]


def cluster(**changes: object) -> Cluster:
    return parse(Answer(200, json.dumps({"members": [], "scope": "lab", **changes}).encode()))


def samples(family: str, model: Cluster) -> dict[tuple[str | None, ...], float]:
    row = next(row for row in FAMILIES if row.name == family)
    return dict(row.samples(model, {"scope": "lab"}))


def test_unknown_lag_and_lsn_are_absent() -> None:
    member = {"name": "n1", "lag": "unknown", "receive_lag": "unknown", "lsn": "unknown", "replay_lsn": "1/0"}
    model = cluster(members=[member])
    assert samples("patroni_member_lag_bytes", model) == {}
    assert samples("patroni_member_receive_lag_bytes", model) == {}
    assert samples("patroni_member_lsn_bytes", model) == {}
    assert samples("patroni_member_replay_lsn_bytes", model) == {("n1",): 2.0**32}


def test_member_with_a_name_only() -> None:
    model = cluster(members=[{"name": "n1"}])
    assert {family.name: samples(family.name, model) for family in FAMILIES if samples(family.name, model)} == {
        "patroni_cluster_members": {(): 1.0},
        "patroni_cluster_paused": {(): 0.0},
        "patroni_member_info": {("n1", "", "", ""): 1.0},
        "patroni_member_pending_restart": {("n1",): 0.0},
    }


def test_unknown_role() -> None:
    roles = samples("patroni_member_role", cluster(members=[{"name": "n1", "role": "witness"}]))
    assert [role for role, value in roles.items() if value] == [("n1", "witness")]
    assert len(roles) == 6


def test_tags() -> None:
    tags = {"plain": "text", "yes": True, "n": 7, "none": None, "nan": math.nan, "list": [1, "é"], 'odd "\n\\': "\n"}
    assert set(samples("patroni_member_tag_info", cluster(members=[{"name": "n1", "tags": tags}]))) == {
        ("n1", "plain", "text"),
        ("n1", "yes", "true"),
        ("n1", "n", "7"),
        ("n1", "none", "null"),
        ("n1", "nan", "NaN"),
        ("n1", "list", '[1, "é"]'),
        ("n1", 'odd "\n\\', "\n"),
    }


def test_duplicate_name() -> None:
    model = cluster(members=[{"name": "n1", "timeline": 1}, {"name": "n1", "timeline": 2}])
    assert samples("patroni_member_timeline", model) == {("n1",): 1.0}
    assert list(COLLECTOR.warnings(model)) == ["duplicate member 'n1'"]


@pytest.mark.parametrize(
    ("scheduled", "switchover"),
    [
        (None, None),
        ({"from": "n1"}, None),
        ({"at": "2026-11-20T23:40:19+00:00"}, Switchover(1795218019.0, "", "")),
        ({"at": "2026-11-20T23:40:19+00:00", "from": "n1"}, Switchover(1795218019.0, "n1", "")),
        ({"at": "2026-11-20T23:40:19+00:00", "from": "n1", "to": "n2"}, Switchover(1795218019.0, "n1", "n2")),
    ],
)
def test_scheduled_switchover(scheduled: object, switchover: Switchover | None) -> None:
    assert cluster(scheduled_switchover=scheduled).switchover == switchover


def test_scope_since_patroni_3_2() -> None:
    assert COLLECTOR.common_labels(cluster()) == {"scope": "lab"}
    assert COLLECTOR.common_labels(cluster(scope=None)) == {}
