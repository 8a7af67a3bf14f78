"""Values of the right type, missing values, and the errors for all others."""

import pytest

from exporter.collectors.document import Answer, Fields, ParseError, timestamp


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
def test_timestamp(text: str, seconds: float | None) -> None:
    assert timestamp(text) == seconds


@pytest.mark.parametrize("text", ["", "yesterday", "yesterday evening UTC", "2026-13-01 00:00:00+00:00"])
def test_invalid_timestamp(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        timestamp(text)


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (Answer(200, b""), "HTTP 200: expected valid JSON, found 0 bytes"),
        (Answer(502, b"<p>secret", "text/html; x=y"), "HTTP 502: expected valid JSON, found 9 bytes of text/html"),
        (Answer(200, b"x", "text/\x1b[1m"), "HTTP 200: expected valid JSON, found 1 bytes of text/"),
        (Answer(200, b"x", "text/é"), "HTTP 200: expected valid JSON, found 1 bytes of text/"),
        (Answer(200, b"x", "\r\n"), "HTTP 200: expected valid JSON, found 1 bytes"),
        (Answer(200, b"x", "x" * 999), f"HTTP 200: expected valid JSON, found 1 bytes of {'x' * 60}"),
        (Answer(200, b'{"state": "run'), "HTTP 200: expected valid JSON, found 14 bytes"),
        (Answer(200, b"\xff\xfe\xff"), "HTTP 200: expected valid JSON, found 3 bytes"),
        (Answer(200, b"[" * 100_000), "HTTP 200: expected valid JSON, found 100000 bytes"),
        (Answer(200, b"1" * 5000), "HTTP 200: expected valid JSON, found 5000 bytes"),
        (Answer(200, b"[]"), "the document: expected an object, found an array"),
        (Answer(200, b"null"), "the document: expected an object, found nothing"),
        (Answer(200, b'"secret"'), "the document: expected an object, found a string"),
        (Answer(200, b"7"), "the document: expected an object, found 7"),
    ],
)
def test_body_is_not_an_object(answer: Answer, message: str) -> None:
    with pytest.raises(ParseError) as caught:
        answer.fields()
    assert str(caught.value) == message


def values(fields: Fields) -> tuple[object, ...]:
    inner = fields.fields("o")
    return (
        fields.text("t"),
        fields.integer("i"),
        fields.number("n"),
        fields.number("i"),
        fields.flag("f"),
        fields.timestamp("d"),
        fields.lsn("p"),
        inner and inner.integer("k"),
        [item.integer("k") for item in fields.items("l")],
    )


def test_values_are_read() -> None:
    body = b"""{"t": "x", "i": 7, "n": 1.5, "f": true, "d": "2026-11-20T23:40:19Z", "p": "1A/b", "o": {"k": 1},
        "l": [{"k": 2}]}"""
    assert values(Answer(200, body).fields()) == ("x", 7, 1.5, 7.0, True, 1795218019.0, 26 * 2**32 + 11, 1, [2])


@pytest.mark.parametrize("document", [{}, dict.fromkeys("tinfdpol")])
def test_missing_and_null_values(document: dict[str, object]) -> None:
    assert values(Fields(document, "")) == (None, None, None, None, False, None, None, None, [])


def test_unknown_is_none_where_patroni_says_it() -> None:
    fields = Fields({"k": "unknown"}, "")
    assert (fields.integer_or_unknown("k"), fields.lsn("k")) == (None, None)


@pytest.mark.parametrize(
    ("read", "value", "message"),
    [
        (Fields.text, 7, "a.k: expected a string, found 7"),
        (Fields.required_text, None, "a.k: expected a string, found nothing"),
        (Fields.integer, "secret", "a.k: expected an integer, found a string"),
        (Fields.integer, "unknown", "a.k: expected an integer, found a string"),
        (Fields.integer, True, "a.k: expected an integer, found True"),
        (Fields.integer, 1.5, "a.k: expected an integer, found 1.5"),
        (Fields.integer, 10**400, f"a.k: expected an integer, found 1{'0' * 39}"),
        (Fields.integer_or_unknown, "secret", "a.k: expected an integer, found a string"),
        (Fields.number, float("inf"), "a.k: expected a number, found inf"),
        (Fields.number, float("nan"), "a.k: expected a number, found nan"),
        (Fields.number, False, "a.k: expected a number, found False"),
        (Fields.flag, 1, "a.k: expected a boolean, found 1"),
        (Fields.lsn, "1/", "a.k: expected an LSN of the form X/Y, found a string"),
        (Fields.timestamp, "soon", "a.k: expected a timestamp, found a string"),
        (Fields.fields, [], "a.k: expected an object, found an array"),
        (Fields.items, {}, "a.k: expected an array, found an object"),
        (Fields.items, ["secret"], "a.k[0]: expected an object, found a string"),
    ],
)
def test_value_of_another_type(read: object, value: object, message: str) -> None:
    assert callable(read)
    with pytest.raises(ParseError) as caught:
        read(Fields({"k": value}, "a"), "k")
    assert str(caught.value) == message


def test_integer_beyond_the_precision_of_a_float() -> None:
    assert Answer(200, b'{"i": 9007199254740993}').fields().integer("i") == 9007199254740993


@pytest.mark.parametrize("surrogate", [b"\\ud800", b"\xed\xa0\x80"])
def test_lone_surrogate_becomes_a_question_mark(surrogate: bytes) -> None:
    assert Answer(200, b'{"t": "a' + surrogate + b'b"}').fields().text("t") == "a?b"


@pytest.mark.parametrize("empty", [b"{}", b"[]"])
def test_json_that_would_expand(empty: bytes) -> None:
    """4 MiB of JSON with 1.4 million empty objects or arrays."""
    with pytest.raises(ParseError, match=r"^JSON that would take more than 128 MiB of memory$"):
        Answer(200, b"[" + (empty + b",") * 1_400_000 + empty + b"]").rows()
