"""GET /history."""

import pytest

from exporter.collectors.document import Answer, ParseError
from exporter.collectors.patroni_history import FAMILIES, History, parse

TIME = "2026-11-20T23:40:19+00:00"


@pytest.mark.parametrize(
    ("rows", "history"),
    [
        ("[]", History(0, None, "")),
        (f'[[1, 7, "no reason", "{TIME}"]]', History(1, 1795218019.0, "")),
        (f'[[1, 7, "no reason"], [2, 8, "no reason", "{TIME}", "n2"]]', History(2, 1795218019.0, "n2")),
        (f'[[1, 7, "no reason", "{TIME}", "n2"], [2, 8, "no reason"]]', History(2, None, "")),
        (f'[[1, 7, "no reason", "{TIME}", "n2", "tomorrow"]]', History(1, 1795218019.0, "n2")),
    ],
)
def test_rows_of_three_to_six_columns(rows: str, history: History) -> None:
    assert parse(Answer(200, rows.encode())) == history


def test_switch_without_time_has_no_timestamp() -> None:
    assert {family.name: list(family.samples(History(2, None, ""), {})) for family in FAMILIES} == {
        "patroni_timeline_switches": [((), 2.0)],
        "patroni_last_timeline_switch_timestamp_seconds": [],
    }


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (Answer(200, b"{}"), "the document: expected an array, found an object"),
        (Answer(200, b"[7]"), "[0]: expected an array, found 7"),
        (Answer(200, b'[[1, 7, "x", "soon"]]'), "[0].time: expected a timestamp, found a string"),
        (Answer(502, b""), "HTTP 502: expected 200"),
    ],
)
def test_invalid_history(answer: Answer, message: str) -> None:
    with pytest.raises(ParseError) as caught:
        parse(answer)
    assert str(caught.value) == message
