"""GET /failsafe: on, off, and unknown to this version."""

import pytest

from exporter.collectors.document import Answer, NotProvided, ParseError
from exporter.collectors.patroni_failsafe import FAMILIES, Failsafe, parse
from tests.recorded import moment

TOPOLOGY = moment("4.1.5", "dcs-down-failsafe", "n1").answers["/failsafe"]
OFF = moment("4.1.5", "healthy-async", "n1").answers["/failsafe"]


def member(model: Failsafe, name: str) -> list[float]:
    return [value for _, value in FAMILIES[0].samples(model, {"scope": "lab", "name": name})]


def test_member_of_the_topology_is_one() -> None:
    assert parse(TOPOLOGY) == Failsafe(frozenset({"n1", "n2", "n3"}))
    assert (member(parse(TOPOLOGY), "n1"), member(parse(TOPOLOGY), "n4")) == ([1.0], [0.0])


def test_nobody_is_a_member_while_failsafe_mode_is_off() -> None:
    assert OFF.status == 502
    assert member(parse(OFF), "n1") == [0.0]


def test_node_that_does_not_know_its_name_cannot_tell_whether_it_is_a_member() -> None:
    assert (member(parse(TOPOLOGY), ""), member(parse(OFF), "")) == ([], [0.0])


def test_version_without_failsafe_mode_has_no_members() -> None:
    with pytest.raises(NotProvided) as caught:
        parse(Answer(503, moment("2.1.7", "healthy-async", "n1").answers["/patroni"].body))
    assert caught.value.model == Failsafe(frozenset())


def test_what_is_no_topology_is_refused() -> None:
    with pytest.raises(ParseError, match=r"^HTTP 500, not 200$"):
        parse(Answer(500, b""))
