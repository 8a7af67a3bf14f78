"""The samples of families: common labels, duplicates, and label values."""

import pytest

from exporter.collectors.base import Collector, Family, gauge, info, with_labels
from exporter.scrape.families import metrics
from exporter.scrape.results import DocumentResult, ModuleResult
from exporter.upstream.target import Module
from tests.conftest import at
from tests.scrape.test_scrape import values


def samples(*rows: Family[int], common: dict[str, str] | None = None) -> dict[str, dict[tuple[str, ...], float]]:
    collector = Collector("x", "x", lambda _: 1, rows, common_labels=lambda _: common or {})
    module = Module("patroni", "patroni", at("http://h"), ("x",))
    return values(list(metrics(ModuleResult(module, (DocumentResult(collector, 0.0, 1),)))))


def test_common_label_without_a_value() -> None:
    rows: tuple[Family[int], ...] = with_labels(("scope", "name"), gauge("patroni_x", "X.", float))
    assert "patroni_x" not in samples(*rows, common={"scope": "lab"})
    assert samples(*rows, common={"scope": "lab", "name": ""})["patroni_x"] == {("lab", ""): 1.0}


def test_duplicate_sample(caplog: pytest.LogCaptureFixture) -> None:
    row: Family[int] = info("patroni_x_info", "X.", ("k",), lambda _: [("a",), ("b",), ("a",)])
    assert samples(row)["patroni_x_info"] == {("a",): 1.0, ("b",): 1.0}
    assert [record.getMessage() for record in caplog.records] == [
        "duplicate sample ignored family=patroni_x_info labels=('a',)"
    ]


def test_internal_error_of_a_row_is_raised() -> None:
    with pytest.raises(ZeroDivisionError):
        samples(gauge("patroni_x", "X.", lambda model: 1 // (model - 1)))
