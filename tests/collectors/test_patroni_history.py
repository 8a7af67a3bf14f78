"""GET /history."""

import pytest

from exporter.collectors.document import Answer
from exporter.collectors.patroni_history import FAMILIES, History, parse

TIME = "2026-11-20T23:40:19+00:00"


@pytest.mark.parametrize(
    ("rows", "history"),
    [
        ("[]", History(0, None, "", "")),
        ("[[1, 7]]", History(1, None, "", "")),
        (f'[[1, 7, null, "{TIME}", "n2"]]', History(1, 1795218019.0, "n2", "")),
        (f'[[1, 7, "one", "{TIME}"]]', History(1, 1795218019.0, "", "one")),
        (f'[[1, 7, "one"], [2, 8, "two", "{TIME}", "n2"]]', History(2, 1795218019.0, "n2", "two")),
        (f'[[1, 7, "one", "{TIME}", "n2"], [2, 8, "two"]]', History(2, None, "", "two")),
        (f'[[1, 7, "one", "{TIME}", "n2", "tomorrow"]]', History(1, 1795218019.0, "n2", "one")),
        (f'[[1, 7, "{"é" * 121}"]]', History(1, None, "", "é" * 120)),
    ],
)
def test_rows_of_two_to_six_columns(rows: str, history: History) -> None:
    assert parse(Answer(200, rows.encode())) == history


@pytest.mark.parametrize(
    ("history", "timestamps", "infos"),
    [
        (History(0, None, "", ""), [], []),
        (History(2, None, "", "one"), [], [(("", "one"), 1.0)]),
        (History(2, 7.0, "n2", ""), [(("n2",), 7.0)], []),
        (History(2, 7.0, "n2", "one"), [(("n2",), 7.0)], [(("n2", "one"), 1.0)]),
    ],
)
def test_missing_time_and_reason(history: History, timestamps: list[object], infos: list[object]) -> None:
    assert {family.name: list(family.samples(history, {})) for family in FAMILIES} == {
        "patroni_timeline_switches": [((), float(history.switches))],
        "patroni_last_timeline_switch_timestamp_seconds": timestamps,
        "patroni_last_timeline_switch_info": infos,
    }
