"""GET /api/v1/issues/all."""

import json

from exporter.collectors.document import Answer
from exporter.collectors.staytus_issues import COLLECTOR, FAMILIES, Issue, Issues, parse
from tests.recorded import staytus


def samples(family: str, model: Issues) -> dict[tuple[str | None, ...], float]:
    return dict(next(row for row in FAMILIES if row.name == family).samples(model, {}))


def issues(*items: dict[str, str]) -> Issues:
    return parse(Answer(200, json.dumps({"status": "success", "data": items}).encode()))


def test_issue_without_its_user() -> None:
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


def test_issue_with_required_keys_only() -> None:
    model = issues({"identifier": "a", "state": "identified"})
    assert model == Issues((Issue("a", "", "identified", "", None, None),), ())


def test_number_of_issues_by_state() -> None:
    assert samples("staytus_issues", parse(staytus("issues_all_empty"))) == {
        ("investigating",): 0.0,
        ("identified",): 0.0,
        ("monitoring",): 0.0,
        ("resolved",): 0.0,
    }
    new = issues({"identifier": "a", "state": "new"}, {"identifier": "b", "state": "resolved"})
    assert samples("staytus_issues", new) == {
        ("investigating",): 0.0,
        ("identified",): 0.0,
        ("monitoring",): 0.0,
        ("resolved",): 1.0,
        ("new",): 1.0,
    }


def test_open_issues() -> None:
    model = parse(staytus("issues_all_four_states"))
    assert [labels[1] for labels in samples("staytus_open_issue_info", model)] == [
        "Slow logins",
        'Public website unreachable "503" — недоступен',
        "API errors",
    ]
    assert len(samples("staytus_open_issue_created_timestamp_seconds", model)) == 3
    assert len(samples("staytus_open_issue_updated_timestamp_seconds", model)) == 3


def test_newest_hundred_open_issues() -> None:
    model = issues(*({"identifier": str(number), "state": "identified"} for number in range(150, 0, -1)))
    identifiers = [labels[0] for labels in samples("staytus_open_issue_info", model)]
    assert identifiers == [str(number) for number in range(150, 50, -1)]
    assert samples("staytus_issues", model)["identified",] == 150.0


def test_duplicate_identifier() -> None:
    model = issues({"identifier": "a", "state": "identified"}, {"identifier": "a", "state": "resolved"})
    assert samples("staytus_issues", model)["identified",] == 1.0
    assert samples("staytus_issues", model)["resolved",] == 0.0
    assert list(COLLECTOR.warnings(model)) == ["duplicate issue 'a'"]
