"""The log: its level, and lines that repeat."""

import logging

from exporter.logs import OncePerPeriod, log_to_standard_error


def test_debug_is_the_level_of_our_log() -> None:
    log_to_standard_error(debug=True)
    assert logging.getLogger("exporter.scrape").getEffectiveLevel() == logging.DEBUG
    log_to_standard_error(debug=False)
    assert logging.getLogger("exporter.scrape").getEffectiveLevel() == logging.INFO


def said(once: OncePerPeriod, message: str, at: float) -> str | None:
    """What the log says of this message at this time, None when it is held back."""
    record = logging.LogRecord("exporter.scrape", logging.WARNING, "", 0, message, (), None)
    record.created = at
    return record.getMessage() if once.filter(record) else None


def test_line_that_repeats_is_said_once_a_minute_and_then_counted() -> None:
    once = OncePerPeriod()
    assert [said(once, "down", at) for at in (0, 15, 30, 45, 60, 75, 120, 400)] == [
        "down",
        None,
        None,
        None,
        "down (3 times more since)",
        None,
        "down (1 times more since)",
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
        assert said(once, f"line {at}", float(at)) == f"line {at}"
    assert len(once._said) <= 121


def test_traceback_is_never_held_back() -> None:
    once = OncePerPeriod()
    record = logging.LogRecord("exporter", logging.ERROR, "", 0, "fault", (), (ValueError, ValueError(), None))
    assert [once.filter(record) for _ in range(3)] == [True] * 3
