"""GET /failsafe."""

import pytest

from exporter.collectors.document import Answer, NotSupported
from exporter.collectors.patroni_failsafe import FAMILIES, Failsafe, parse
from tests.recorded import moment

TOPOLOGY = moment("4.1.5", "dcs-down-failsafe", "n1").answers["/failsafe"]
OFF = moment("4.1.5", "healthy-async", "n1").answers["/failsafe"]


@pytest.mark.parametrize(
    ("answer", "name", "value"),
    [(TOPOLOGY, "n1", [1.0]), (TOPOLOGY, "n4", [0.0]), (TOPOLOGY, "", []), (OFF, "n1", [0.0]), (OFF, "", [0.0])],
)
def test_member_of_the_topology(answer: Answer, name: str, value: list[float]) -> None:
    """The name is empty before Patroni 3.2."""
    assert [value for _, value in FAMILIES[0].samples(parse(answer), {"scope": "lab", "name": name})] == value


def test_topology() -> None:
    assert parse(TOPOLOGY) == Failsafe(frozenset({"n1", "n2", "n3"}))
    assert (OFF.status, parse(OFF)) == (502, Failsafe(frozenset()))


def test_not_supported_means_no_members() -> None:
    with pytest.raises(NotSupported) as caught:
        parse(Answer(503, moment("2.1.7", "healthy-async", "n1").answers["/patroni"].body))
    assert caught.value.model == Failsafe(frozenset())
