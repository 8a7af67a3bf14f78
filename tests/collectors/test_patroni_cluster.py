"""GET /cluster: what the recordings do not contain; tests/test_golden.py compares the recordings."""

import json

import pytest

from exporter.collectors.document import Answer, NotSupported, ParseError
from exporter.collectors.patroni_cluster import COLLECTOR, FAMILIES, Cluster, Member, Switchover, parse
from tests.recorded import moment

LAG = moment("4.1.5", "lag", "n1").answers["/cluster"]


def cluster(**changes: object) -> Cluster:
    return parse(Answer(200, json.dumps({"members": [], "scope": "lab", **changes}).encode()))


def samples(family: str, model: Cluster) -> dict[tuple[str | None, ...], float]:
    row = next(row for row in FAMILIES if row.name == family)
    return dict(row.samples(model, {"scope": "lab"}))


def test_member() -> None:
    model = parse(LAG)
    assert (model.scope, model.paused, model.switchover, model.warnings) == ("lab", False, None, ())
    assert model.members[1] == Member(
        name="n2",
        role="replica",
        state="streaming",
        host="127.0.0.1",
        port="18222",
        api_url="http://127.0.0.1:18202/patroni",
        timeline=1,
        lag=0,
        receive_lag=0,
        replay_lag=3928392,
        lsn=72171008,
        receive_lsn=72171008,
        replay_lsn=68242616,
        pending_restart=False,
        pending_restart_parameters=(),
        scheduled_restart=None,
        tags=(),
    )


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
    tags = {"plain": "text", "yes": True, "n": 7, "none": None, "list": [1, "é"], 'odd "\n\\': "\n"}
    assert set(samples("patroni_member_tag_info", cluster(members=[{"name": "n1", "tags": tags}]))) == {
        ("n1", "plain", "text"),
        ("n1", "yes", "true"),
        ("n1", "n", "7"),
        ("n1", "none", "null"),
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
        ({"at": "2026-11-20T23:40:19+00:00", "from": "n1"}, Switchover(1795218019.0, "n1", "")),
        ({"at": "2026-11-20T23:40:19+00:00", "from": "n1", "to": "n2"}, Switchover(1795218019.0, "n1", "n2")),
    ],
)
def test_scheduled_switchover(scheduled: object, switchover: Switchover | None) -> None:
    assert cluster(scheduled_switchover=scheduled).switchover == switchover


def test_scope_since_patroni_3_2() -> None:
    assert COLLECTOR.common_labels(cluster()) == {"scope": "lab"}
    assert COLLECTOR.common_labels(cluster(scope=None)) == {}


def test_not_supported() -> None:
    with pytest.raises(NotSupported):
        parse(Answer(503, moment("4.1.5", "lag", "n1").answers["/patroni"].body))


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (Answer(503, b"overloaded"), "HTTP 503: expected 200"),
        (Answer(503, b"{}"), "HTTP 503: expected 200"),
        (Answer(404, b"{}"), "HTTP 404: expected 200"),
        (Answer(200, b'{"members": {}}'), "members: expected an array, found an object"),
        (Answer(200, b'{"members": [{}]}'), "members[0].name: expected a string, found nothing"),
        (
            Answer(200, b'{"members": [{"name": "n1", "lsn": "nowhere"}]}'),
            "members[0].lsn: expected an LSN of the form X/Y, found a string",
        ),
        (
            Answer(200, b'{"members": [{"name": "n1", "lag": "much"}]}'),
            "members[0].lag: expected an integer, found a string",
        ),
    ],
)
def test_invalid_cluster(answer: Answer, message: str) -> None:
    with pytest.raises(ParseError) as caught:
        parse(answer)
    assert str(caught.value) == message
