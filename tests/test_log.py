"""The log: its level, its lines, and lines that repeat."""

import io
import json
import logging
import sys
import time
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from exporter.log import TARGETS_COUNTED, Event, Lines, StandardError, log_to_standard_error
from tests.live.processes import event


def test_level_is_that_of_our_log() -> None:
    for level in ("debug", "error", "warning", "info"):
        log_to_standard_error(level, "logfmt")
        assert logging.getLogger("exporter.scrape.scrape").getEffectiveLevel() == getattr(logging, level.upper())


def record(
    message: str | Event, level: int = logging.WARNING, at: float = 1700000000.5, **more: Any
) -> logging.LogRecord:
    made = logging.LogRecord("exporter.scrape.scrape", level, "", 0, message, (), None)
    made.__dict__.update({"created": at, **more})
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


def test_event_fields_are_keys_of_the_line() -> None:
    fields: dict[str, Any] = {"module": "patroni", "seconds": 0.25, "bytes": 3, "reason": 'says "no"'}
    failed = record(Event("scrape failed", **fields, key=("a", "b")), held_back=2)
    assert (
        Lines("logfmt").format(failed)
        == f'{BEGIN} msg="scrape failed" module=patroni seconds=0.25 bytes=3 reason="says \\"no\\"" held_back=2'
    )
    begin = {"time": "2023-11-14T22:13:20.500Z", "level": "WARN", "logger": "exporter.scrape.scrape"}
    expected = {**begin, "msg": "scrape failed", **fields, "held_back": 2}
    assert json.loads(Lines("json").format(failed)) == expected


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
    names = [event(Lines("logfmt").format(record("m", level)))["level"] for level in levels]
    assert names == ["DEBUG", "INFO", "WARN", "ERROR", "ERROR"]


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


class Clock:
    """The seconds of a monotonic clock, and the lines that were written."""

    def __init__(self) -> None:
        self.now = 0.0
        self.stream = io.StringIO()
        self.handler = StandardError("logfmt", self.stream, lambda: self.now)

    def log(self, message: str | Event, at: float | None = None, **more: Any) -> list[str]:
        """Logs at this time, and returns the new lines from msg= on."""
        self.now = self.now if at is None else at
        self.handler.handle(record(message, **more))
        lines = [line.partition(" msg=")[2] for line in self.stream.getvalue().splitlines()]
        self.stream.seek(0)
        self.stream.truncate()
        return lines


@pytest.fixture
def clock() -> Clock:
    return Clock()


def failed(target: str, module: str = "patroni", reason: str = "timeout") -> Event:
    return Event("scrape failed", module=module, url=target, reason=reason, key=(target, "timeout"))


@pytest.mark.parametrize("message", ["down", Event("down", seconds=1), Event("down", url="a"), failed("down")])
def test_repeated_line_is_written_once_a_minute(clock: Clock, message: str | Event) -> None:
    text = Lines("logfmt").format(record(message)).partition(" msg=")[2]
    lines = [clock.log(message, at) for at in (0, 15, 30, 45, 60, 75, 120, 400)]
    assert lines == [[text], [], [], [], [f"{text} held_back=3"], [], [f"{text} held_back=1"], [text]]


def test_other_lines_are_written(clock: Clock) -> None:
    other = (
        Event("down", url="a", seconds=1),
        Event("down", url="b", seconds=1),
        Event("down", url="b", seconds=2),  # the same: numbers do not count
        Event("down", url="b", seconds=1, module="staytus"),
        Event("up", url="b"),
        "up",
    )
    assert [len(clock.log(event)) for event in other] == [1, 1, 0, 1, 1, 1]
    assert [len(clock.log(event)) for event in other] == [0] * 6


def test_key_identifies_the_line(clock: Clock) -> None:
    keys = [("db1", "node", "timeout"), ("db1", "cluster", "timeout"), ("db1", "node", "HTTP"), ("db2",)]
    for n, expected in ((1, [1, 1, 1, 1]), (2, [0, 0, 0, 0])):
        events = [Event("scrape failed", reason=f"no response within {n} s", key=key) for key in keys]
        assert [len(clock.log(event)) for event in events] == expected


@pytest.mark.parametrize("step", [-3600, 3600])
def test_step_of_the_wall_clock(clock: Clock, step: float) -> None:
    """Only the monotonic clock counts."""
    wall = 1700000000.5
    times = [(0, wall), (30, wall + step), (60, wall + step + 30), (90, wall)]
    assert [len(clock.log("down", at, created=created)) for at, created in times] == [1, 0, 1, 0]


def test_many_targets_are_one_line_a_minute(clock: Clock) -> None:
    first = [clock.log(failed(f"db{n}"), 0) for n in range(1000)]
    assert first == [[f'"scrape failed" module=patroni url=db{n} reason=timeout'] for n in range(20)] + [[]] * 980
    assert [clock.log(failed(f"db{n}"), 30) for n in range(1000)] == [[]] * 1000
    summary = '"scrape failed for many targets" module=patroni targets=1000 held_back=1960'
    again = [clock.log(failed(f"db{n}"), 60) for n in range(1000)]
    assert again[0] == [summary, '"scrape failed" module=patroni url=db0 reason=timeout held_back=1']
    assert again[20:] == [[]] * 980
    assert clock.log(failed("other", "staytus"), 119) == ['"scrape failed" module=staytus url=other reason=timeout']
    assert clock.log(Event("started"), 300) == [summary.replace("1960", "980"), "started"]
    assert clock.log(Event("started"), 400) == ["started"]


def test_summary_has_the_time_of_its_last_record(clock: Clock) -> None:
    for n in range(21):
        clock.log(failed(f"db{n}"), created=1700000000.5 + n)
    clock.now = 600
    clock.handler.handle(record("up", at=1700000600.5))
    assert clock.stream.getvalue().splitlines() == [
        BEGIN.replace("20.500Z", "40.500Z")
        + ' msg="scrape failed for many targets" module=patroni targets=21 held_back=1',
        BEGIN.replace("13:20", "23:20") + " msg=up",
    ]


def test_other_targets_are_written_in_the_next_minute(clock: Clock) -> None:
    for n in range(20):
        clock.log(failed(f"db{n}"), 0)
    assert clock.log(failed("late"), 59) == []
    assert clock.log(failed("late"), 60) == [
        '"scrape failed for many targets" module=patroni targets=21 held_back=1',
        '"scrape failed" module=patroni url=late reason=timeout',
    ]


def test_many_lines_without_a_target(clock: Clock) -> None:
    lines = [clock.log(Event("TLS handshake failed", client=f"10.0.0.{n}")) for n in range(100)]
    assert sum(map(len, lines)) == 20
    assert clock.log("up", 60) == ['"TLS handshake failed: similar lines held back" held_back=80', "up"]


def seconds_per_line(targets: int) -> float:
    """CPU time of a line of a new target, and of one that is held back, while so many targets fail."""
    clock = Clock()
    times = []
    for n in range(targets):
        clock.handler.handle(record(failed(f"db{n}")))
    for part in range(10):
        records = [record(failed(f"db{n + part * 500}")) for n in range(500)]
        records += [record(failed(f"new{n}"), part=part) for n in range(500)]
        start = time.thread_time()
        for line in records:
            clock.handler.handle(line)
        times.append(time.thread_time() - start)
    return min(times) / 1000


def test_line_costs_the_same_with_ten_times_the_targets() -> None:
    assert seconds_per_line(50_000) < 3 * seconds_per_line(5_000)


def test_memory_is_bounded(clock: Clock) -> None:
    tracemalloc.start()
    try:
        for n in range(2 * TARGETS_COUNTED):
            clock.handler.handle(record(failed(f"http://10.0.{n // 256}.{n % 256}:8008", reason="x" * 100)))
        assert tracemalloc.get_traced_memory()[0] < 8 * 1024 * 1024
        summary = '"scrape failed for many targets" module=patroni targets=50020 held_back=99980'
        assert clock.log("up", 200)[20:] == [summary, "up"]
        for at in range(200, 2000):
            assert clock.log(f"line{at}", at) == [f"line{at}"]
        assert tracemalloc.get_traced_memory()[0] < 1024 * 1024
    finally:
        tracemalloc.stop()


def test_threads_log_at_once(clock: Clock) -> None:
    def log(_: int) -> None:
        for n in range(2000):
            clock.handler.handle(record(failed(f"db{n % 25}")))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(log, range(8)))
    assert len(clock.stream.getvalue().splitlines()) == 20
    clock.now = 60
    for n in range(20):
        clock.handler.handle(record(failed(f"db{n}")))
    held_back = [int(line.rpartition("held_back=")[2]) for line in clock.stream.getvalue().splitlines()[20:]]
    assert held_back == [5 * 640, *[639] * 20]


def test_traceback_and_debug_line_are_never_held_back(clock: Clock) -> None:
    fault = (ValueError, ValueError("no"), None)
    assert [clock.log("fault", exc_info=fault) for _ in range(3)] == [['fault traceback="ValueError: no"']] * 3
    assert [clock.log("request", level=logging.DEBUG) for _ in range(3)] == [["request"]] * 3
