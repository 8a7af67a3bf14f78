"""The log: its level, its lines, and lines that repeat."""

import json
import logging
import sys
from typing import Any

import pytest

from exporter.log import Event, Lines, OncePerPeriod, known, log_to_standard_error
from tests.live.processes import event


def test_level_is_that_of_our_log() -> None:
    for level in ("debug", "error", "warning", "info"):
        log_to_standard_error(level, "logfmt")
        assert logging.getLogger("exporter.scrape.scrape").getEffectiveLevel() == getattr(logging, level.upper())


def record(
    message: str | Event, level: int = logging.WARNING, at: float = 1700000000.5, **more: Any
) -> logging.LogRecord:
    made = logging.LogRecord("exporter.scrape.scrape", level, "", 0, message, (), None)
    made.__dict__.update(more, created=at)
    return made


BEGIN = "time=2023-11-14T22:13:20.500Z level=WARN logger=exporter.scrape.scrape"


@pytest.mark.parametrize(
    ("message", "written"),
    [
        ("word", "msg=word"),
        ("two words", 'msg="two words"'),
        ("", 'msg=""'),
        ("a=b", 'msg="a=b"'),
        ('"', r'msg="\""'),
        ("\\", r'msg="\\"'),
        ("Büro", 'msg="Büro"'),
        ("a\nlevel=ERROR\r\tb", r'msg="a\nlevel=ERROR\r\tb"'),
        # What a terminal obeys, what some take for the end of a line, what turns the text around, and half a character.
        ("\x1b[2J\x7f\x85\u2028\u202e\udcff", r'msg="\u001b[2J\u007f\u0085\u2028\u202e\udcff"'),
        ("\U000e0001", r'msg="\udb40\udc01"'),
    ],
)
def test_message_is_one_word_or_a_quoted_text_in_one_line(message: str, written: str) -> None:
    assert Lines("logfmt").format(record(message)) == f"{BEGIN} {written}"
    assert event(f"{BEGIN} {written}")["msg"] == message
    in_json = Lines("json").format(record(message))
    assert (json.loads(in_json)["msg"], len(in_json.splitlines())) == (message, 1)


def test_what_is_known_has_keys_in_place_of_the_sentence() -> None:
    extra = known("no document", module="patroni", seconds=0.25, bytes=3, reason='says "no"')
    assert (
        Lines("logfmt").format(record("patroni: no", held_back=2, **extra))
        == f'{BEGIN} msg="no document" module=patroni seconds=0.25 bytes=3 reason="says \\"no\\"" held_back=2'
    )
    assert json.loads(Lines("json").format(record("patroni: no", held_back=2, **extra))) == {
        "time": "2023-11-14T22:13:20.500Z",
        "level": "WARN",
        "logger": "exporter.scrape.scrape",
        "msg": "no document",
        "module": "patroni",
        "seconds": 0.25,
        "bytes": 3,
        "reason": 'says "no"',
        "held_back": 2,
    }


def test_event_fields_are_keys_of_the_line() -> None:
    failed = record(Event("scrape failed", module="patroni", seconds=0.25, bytes=3, reason='says "no"', key=("a", "b")))
    assert (
        Lines("logfmt").format(failed)
        == f'{BEGIN} msg="scrape failed" module=patroni seconds=0.25 bytes=3 reason="says \\"no\\""'
    )
    assert json.loads(Lines("json").format(failed)) == {
        "time": "2023-11-14T22:13:20.500Z",
        "level": "WARN",
        "logger": "exporter.scrape.scrape",
        "msg": "scrape failed",
        "module": "patroni",
        "seconds": 0.25,
        "bytes": 3,
        "reason": 'says "no"',
    }


@pytest.mark.parametrize(
    ("event", "text"),
    [
        (Event("started"), "started"),
        (Event("scrape failed", module="a b", seconds=0.5), 'scrape failed module="a b" seconds=0.5'),
        (Event("scrape failed", reason="a\nb%s{}"), 'scrape failed reason="a\\nb%s{}"'),
    ],
)
def test_event_as_text(event: Event, text: str, caplog: pytest.LogCaptureFixture) -> None:
    logging.getLogger("exporter").warning(event)
    assert caplog.messages == [text]


def test_levels_have_the_names_of_prometheus() -> None:
    levels = (logging.DEBUG, logging.INFO, logging.WARNING, logging.ERROR, logging.CRITICAL)
    assert [event(Lines("logfmt").format(record("m", level)))["level"] for level in levels] == [
        "DEBUG",
        "INFO",
        "WARN",
        "ERROR",
        "ERROR",
    ]


@pytest.mark.parametrize("form", ["logfmt", "json"])
def test_traceback_is_a_key_of_the_same_line(form: str) -> None:
    try:
        raise ValueError("a\nb")
    except ValueError:
        line = Lines(form).format(record("fault", exc_info=sys.exc_info()))
    assert len(line.splitlines()) == 1
    traceback = (json.loads if form == "json" else event)(line)["traceback"]
    assert traceback.startswith("Traceback (most recent call last):\n")
    assert traceback.endswith("ValueError: a\nb")


def said(once: OncePerPeriod, message: str, at: float) -> str | None:
    """What the log says of this message at this time, None when it is held back."""
    line = record(message, at=at)
    if not once.filter(line):
        return None
    return Lines("logfmt").format(line).partition(" msg=")[2]


def test_line_that_repeats_is_said_once_a_minute_and_then_counted() -> None:
    once = OncePerPeriod()
    assert [said(once, "down", at) for at in (0, 15, 30, 45, 60, 75, 120, 400)] == [
        "down",
        None,
        None,
        None,
        "down held_back=3",
        None,
        "down held_back=1",
        "down",
    ]


def test_other_lines_are_said_meanwhile() -> None:
    once = OncePerPeriod()
    assert [said(once, message, at) for at, message in enumerate(("down", "other", "down", "other"))] == [
        "down",
        "other",
        None,
        None,
    ]


def test_lines_that_were_said_long_ago_take_no_memory() -> None:
    once = OncePerPeriod()
    for at in range(1000):
        assert said(once, f"line{at}", float(at)) == f"line{at}"
    assert len(once._said) <= 121


def test_traceback_and_debug_line_are_never_held_back() -> None:
    once = OncePerPeriod()
    for line in (record("fault", exc_info=(ValueError, ValueError(), None)), record("request", logging.DEBUG)):
        assert [once.filter(line) for _ in range(3)] == [True] * 3
