"""Reading documents: what is there, what is absent, and what is said of everything else."""

import pytest

from exporter.collectors.document import Answer, Fields, ParseError, moment


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("2026-11-20 23:40:19.802451+00:00", 1795218019.802451),
        ("2026-11-21 05:10:19.802451+05:30", 1795218019.802451),
        ("2026-11-20 23:40:19+00:00", 1795218019.0),
        ("2026-11-20T23:40:19.000Z", 1795218019.0),
        ("2026-11-20 23:40:19.802 UTC", 1795218019.802),
        ("2026-11-20 23:40:19.802 GMT", 1795218019.802),
        ("2026-11-20 20:40:19.802 -03", 1795218019.802),
        ("2026-11-20 23:40:19.802 IST", None),
        ("2026-11-20 23:40:19.802", None),
    ],
)
def test_moment_is_read_in_every_zone_that_is_not_ambiguous(text: str, seconds: float | None) -> None:
    assert moment(text) == seconds


@pytest.mark.parametrize("text", ["", "yesterday", "yesterday evening UTC", "2026-13-01 00:00:00+00:00"])
def test_text_that_is_no_moment_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        moment(text)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "HTTP 200 with a body that is not JSON: empty"),
        (b"<html>", "HTTP 200 with a body that is not JSON: b'<html>'"),
        (b'{"state": "run', "HTTP 200 with a body that is not JSON: 14 bytes, cut off or damaged"),
        (b'{"a": NaN}', "HTTP 200 with a body that is not JSON: 10 bytes, cut off or damaged"),
        (b"\xff\xfe\xff", r"HTTP 200 with a body that is not JSON: b'\xff\xfe\xff'"),
        (b"[" * 100_000, "HTTP 200 with a body that is not JSON: 100000 bytes, cut off or damaged"),
        (b"1" * 5000, "HTTP 200 with a body that is not JSON: b'" + "1" * 40 + "'"),
        (b"[]", "the document: expected an object, found an array"),
        (b"null", "the document: expected an object, found nothing"),
        (b'"personal"', "the document: expected an object, found a string"),
        (b"7", "the document: expected an object, found 7"),
    ],
)
def test_body_that_is_no_object_is_told_in_one_line_without_quoting_it(body: bytes, message: str) -> None:
    with pytest.raises(ParseError) as caught:
        Answer(200, body).fields()
    assert str(caught.value) == message


def test_values_of_the_right_type_are_read() -> None:
    fields = Answer(
        200, b'{"t": "x", "w": 7, "n": 1.5, "f": true, "m": "2026-11-20T23:40:19Z", "o": {"k": 1}, "l": [{"k": 2}]}'
    ).fields()
    inner = fields.fields("o")
    assert inner is not None
    assert (
        fields.text("t"),
        fields.whole("w"),
        fields.number("n"),
        fields.number("w"),
        fields.flag("f"),
        fields.moment("m"),
        inner.whole("k"),
        [item.whole("k") for item in fields.items("l")],
        "t" in fields,
        "x" in fields,
    ) == ("x", 7, 1.5, 7.0, True, 1795218019.0, 1, [2], True, False)


def test_what_is_missing_or_null_is_absent() -> None:
    for fields in (Fields({}, ""), Fields(dict.fromkeys("twnfmol"), "")):
        assert (
            fields.text("t"),
            fields.whole("w"),
            fields.number("n"),
            fields.flag("f"),
            fields.moment("m"),
            fields.fields("o"),
            fields.items("l"),
        ) == (None, None, None, False, None, None, ())


@pytest.mark.parametrize(
    ("read", "value", "message"),
    [
        (Fields.text, 7, "a.k: expected a string, found 7"),
        (Fields.required_text, None, "a.k: expected a string, found nothing"),
        (Fields.whole, "secret", "a.k: expected a whole number, found a string"),
        (Fields.whole, True, "a.k: expected a whole number, found True"),
        (Fields.whole, 1.5, "a.k: expected a whole number, found 1.5"),
        (Fields.whole, 10**400, f"a.k: expected a whole number, found 1{'0' * 39}"),
        (Fields.number, float("inf"), "a.k: expected a number, found inf"),
        (Fields.number, False, "a.k: expected a number, found False"),
        (Fields.flag, 1, "a.k: expected true or false, found 1"),
        (Fields.moment, "soon", "a.k: expected a date and time, found a string"),
        (Fields.fields, [], "a.k: expected an object, found an array"),
        (Fields.items, {}, "a.k: expected an array, found an object"),
        (Fields.items, ["secret"], "a.k[0]: expected an object, found a string"),
    ],
)
def test_value_of_another_type_is_refused_with_its_place(read: object, value: object, message: str) -> None:
    assert callable(read)
    with pytest.raises(ParseError) as caught:
        read(Fields({"k": value}, "a"), "k")
    assert str(caught.value) == message


def test_numbers_beyond_the_precision_of_a_float_are_read() -> None:
    assert Answer(200, b'{"w": 9007199254740993}').fields().whole("w") == 9007199254740993


def test_half_of_a_surrogate_pair_becomes_a_question_mark() -> None:
    fields = Answer(200, b'{"t": "a\\ud800b"}').fields()
    assert fields.text("t") == "a?b"
