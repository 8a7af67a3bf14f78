"""The constructors of families."""

from exporter.collectors.base import Family, gauge, gauges, info, stateset


def test_gauge_is_one_sample_or_none() -> None:
    family: Family[dict[str, int]] = gauge("patroni_x", "X.", lambda model: model.get("x"))
    assert (family.name, family.help, family.common_labels, family.labels) == ("patroni_x", "X.", (), ())
    assert list(family.samples({"x": 7}, {})) == [((), 7.0)]
    assert list(family.samples({}, {})) == []


def test_gauges_leave_out_none() -> None:
    family: Family[dict[str, float | None]] = gauges(
        "patroni_x", "X.", ("k",), lambda model: [((k,), v) for k, v in model.items()]
    )
    assert list(family.samples({"a": True, "b": None, "c": 2.5}, {})) == [(("a",), 1.0), (("c",), 2.5)]


def test_info_is_one_for_each_row() -> None:
    family = info("patroni_x_info", "X.", ("k", "v"), lambda model: model)
    assert list(family.samples([("a", None), ("b", "c")], {})) == [(("a", None), 1.0), (("b", "c"), 1.0)]


def test_stateset_adds_an_unknown_state() -> None:
    family = stateset("patroni_x", "X.", ("name", "x"), ("on", "off"), lambda model: model)
    assert list(family.samples([("a", "off"), ("b", "new")], {})) == [
        (("a", "on"), 0.0),
        (("a", "off"), 1.0),
        (("b", "on"), 0.0),
        (("b", "off"), 0.0),
        (("b", "new"), 1.0),
    ]
