"""GET /api/v1/issues/all: the open ones told, the resolved ones counted, nobody's name kept."""

import json

import pytest

from exporter.collectors.document import Answer, ParseError
from exporter.collectors.staytus_issues import COLLECTOR, FAMILIES, Issue, Issues, parse
from tests.recorded import staytus


def samples(family: str, model: Issues) -> dict[tuple[str | None, ...], float]:
    return dict(next(row for row in FAMILIES if row.name == family).samples(model, {}))


def issues(*items: dict[str, str]) -> Issues:
    return parse(Answer(200, json.dumps({"status": "success", "data": items}).encode()))


def test_issues_are_read_and_nothing_of_their_user() -> None:
    model = parse(staytus("issues_all_four_states"))
    assert model.issues[1] == Issue(
        identifier="32106f26-caa5-4463-82cb-c46baca0f51a",
        title='Public website unreachable "503" — недоступен',
        state="identified",
        status="major-outage",
        created=1795208400.0,
        updated=1795217751.0,
    )
    assert "admin" not in repr(model).lower()


def test_issues_are_counted_by_state_with_zeros_and_unknown_states() -> None:
    assert samples("staytus_issues", parse(staytus("issues_all_empty"))) == {
        ("investigating",): 0.0,
        ("identified",): 0.0,
        ("monitoring",): 0.0,
        ("resolved",): 0.0,
    }
    odd = issues({"identifier": "a", "state": "odd"}, {"identifier": "b", "state": "resolved"})
    assert samples("staytus_issues", odd) == {
        ("investigating",): 0.0,
        ("identified",): 0.0,
        ("monitoring",): 0.0,
        ("resolved",): 1.0,
        ("odd",): 1.0,
    }


def test_issue_is_told_until_it_is_resolved() -> None:
    model = parse(staytus("issues_all_four_states"))
    assert [labels[1] for labels in samples("staytus_open_issue_info", model)] == [
        "Slow logins",
        'Public website unreachable "503" — недоступен',
        "API errors",
    ]
    assert len(samples("staytus_open_issue_created_timestamp_seconds", model)) == 3
    assert len(samples("staytus_open_issue_updated_timestamp_seconds", model)) == 3


def test_only_the_newest_hundred_open_issues_are_told() -> None:
    model = issues(*({"identifier": str(number), "state": "identified"} for number in range(150, 0, -1)))
    told = [labels[0] for labels in samples("staytus_open_issue_info", model)]
    assert told == [str(number) for number in range(150, 50, -1)]
    assert samples("staytus_issues", model)["identified",] == 150.0


def test_of_two_issues_with_one_identifier_the_first_counts_and_the_second_is_remarked() -> None:
    model = issues({"identifier": "a", "state": "identified"}, {"identifier": "a", "state": "resolved"})
    assert samples("staytus_issues", model)["identified",] == 1.0
    assert samples("staytus_issues", model)["resolved",] == 0.0
    assert list(COLLECTOR.remarks(model)) == ["a second issue with the identifier 'a'"]


def test_what_staytus_refuses_is_refused() -> None:
    with pytest.raises(ParseError, match=r"^access-denied: "):
        parse(staytus("auth_invalid_token"))
