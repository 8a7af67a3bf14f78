"""The log on standard error: a line for each event, in logfmt or JSON, and the limits on lines that repeat."""

import json
import logging
import re
import time
from collections.abc import Callable, Hashable, Mapping
from datetime import UTC, datetime
from itertools import takewhile
from typing import Any

#: Seconds in which a line is written once.
PERIOD = 60.0

#: Targets of one module that a message is written for in this time, and further targets that are counted.
TARGETS_WRITTEN = 20
TARGETS_COUNTED = 50_000

#: The names of levels in the lines, as in Prometheus and its exporters.
NAMES = {logging.DEBUG: "DEBUG", logging.INFO: "INFO", logging.WARNING: "WARN"}


def log_to_standard_error(level: str, form: str) -> None:
    """Logs the events of this package to standard error, unless the process has set up logging already."""
    log = logging.getLogger("exporter")
    log.setLevel(level.upper())
    if not log.hasHandlers():
        log.addHandler(StandardError(form))


class Event:
    """What a log call reports: `log.warning(Event("scrape failed", module="patroni", reason="timeout"))`.

    Our formatter writes msg and the fields as keys of the line. `str()` returns them as text, for other formatters.

    `key` identifies the event, so that a line is not repeated within a minute: first the target, then what tells the
    lines of one target apart, such as the collector and the kind of reason. The logger, the msg and the field `module`
    always belong to it. Default: the fields that are not numbers. Leave out of `key` what a client can vary.
    """

    __slots__ = ("fields", "key", "msg")

    def __init__(self, msg: str, /, *, key: tuple[str, ...] = (), **fields: str | float):
        self.msg = msg
        self.fields = fields
        self.key = key

    def __str__(self) -> str:
        return f"{self.msg} {_logfmt(self.fields)}".rstrip()


class Lines(logging.Formatter):
    """Writes each event as one line with keys, traceback included: nothing from outside can begin a line of its own."""

    def __init__(self, form: str) -> None:
        super().__init__()
        self._line = {"logfmt": _logfmt, "json": _json}[form]

    def format(self, record: logging.LogRecord) -> str:
        """Returns the line of this event, its time in UTC."""
        event = record.msg if isinstance(record.msg, Event) else Event(record.getMessage())
        fields = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")[:-6] + "Z",
            "level": NAMES.get(record.levelno, "ERROR"),
            "logger": record.name,
            "msg": event.msg,
            **event.fields,
        }
        if held_back := getattr(record, "held_back", 0):
            fields["held_back"] = held_back
        if record.exc_info:
            fields["traceback"] = self.formatException(record.exc_info)
        return self._line(fields)


def _logfmt(fields: Mapping[str, Any]) -> str:
    words = {key: value if isinstance(value, str) else json.dumps(value) for key, value in fields.items()}
    return " ".join(f"{key}={word if _is_bare(word) else _quoted(word)}" for key, word in words.items())


def _json(fields: Mapping[str, Any]) -> str:
    texts = {key: _quoted(value) if isinstance(value, str) else json.dumps(value) for key, value in fields.items()}
    return "{" + ", ".join(f'"{key}": {text}' for key, text in texts.items()) + "}"


def _is_bare(word: str) -> bool:
    return bool(re.fullmatch(r"[!#-<>-\[\]-~]+", word))  # ASCII without space, quotation mark, = and backslash


def _quoted(text: str) -> str:
    """Returns the text as JSON and logfmt quote it; what cannot be printed (also U+2028 or U+202E) is escaped."""
    return "".join(c if c.isprintable() else json.dumps(c)[1:-1] for c in json.dumps(text, ensure_ascii=False))


class StandardError(logging.StreamHandler[Any]):
    """Writes lines to standard error, each once per minute; the next one has the number of those held back.

    In a minute the lines of TARGETS_WRITTEN targets are written for each message of a logger and module. Where more
    targets fail, one line says how many. It comes with the next record after that minute, since there is no thread of
    its own. Lines with a traceback and those at debug level are never held back. The cost of a record does not depend
    on the number of targets.
    """

    def __init__(self, form: str, stream: Any = None, clock: Callable[[], float] = time.monotonic):
        super().__init__(stream)
        self.setFormatter(Lines(form))
        self._clock = clock  # monotonic, unlike the time of a record
        self._minutes: dict[tuple[str, str, str], _Minute] = {}  # the one that ends first is the first

    def emit(self, record: logging.LogRecord) -> None:
        """Writes the summaries that are due and the record; logging.Handler lets in one thread at a time."""
        now = self._clock()
        for name, minute in list(takewhile(lambda item: item[1].end <= now, self._minutes.items())):
            del self._minutes[name]
            if minute.held_back:
                super().emit(minute.summary())
            if minute.lines:
                self._minutes[name] = _Minute(now + PERIOD, minute.lines)
        if record.exc_info or record.levelno <= logging.DEBUG or self._is_due(record, now):
            super().emit(record)

    def _is_due(self, record: logging.LogRecord, now: float) -> bool:
        """Counts the record; sets its `held_back` if it is to be written."""
        event = _event(record)
        key = event.key or (tuple(value for value in event.fields.values() if isinstance(value, str)),)
        name = (record.name, event.msg, str(event.fields.get("module", "")))
        minute = self._minutes.get(name) or self._minutes.setdefault(name, _Minute(now + PERIOD, {}))
        if key in minute.lines:
            minute.lines[key] += 1
            return False
        if key[0] not in minute.targets and len(minute.targets) >= TARGETS_WRITTEN:
            minute.hold_back(key[0], record)
            return False
        minute.targets.add(key[0])
        minute.lines[key] = 0
        record.held_back = minute.before.get(key, 0)
        return True


class _Minute:
    """What was written and held back in a minute of one message of one logger and module."""

    def __init__(self, end: float, before: Mapping[tuple[Hashable, ...], int]) -> None:
        self.end = end
        #: How many lines were held back of each that was written, in the minute before and in this one.
        self.before = before
        self.lines: dict[tuple[Hashable, ...], int] = {}
        self.targets: set[Hashable] = set()
        #: Of the other targets: hashes, the number of their records and the last of them.
        self._others: set[int] = set()
        self.held_back = 0
        self._last: logging.LogRecord

    def hold_back(self, target: Hashable, record: logging.LogRecord) -> None:
        if len(self._others) < TARGETS_COUNTED:
            self._others.add(hash(target))
        self.held_back += 1
        self._last = record

    def summary(self) -> logging.LogRecord:
        """Returns the line that says how many targets failed, with the time of the last record that was held back."""
        event = _event(self._last)
        summary = Event(f"{event.msg} for many targets" if event.key else f"{event.msg}: similar lines held back")
        if "module" in event.fields:
            summary.fields["module"] = event.fields["module"]
        if event.key:
            summary.fields["targets"] = len(self.targets) + len(self._others)
        record = logging.LogRecord(self._last.name, self._last.levelno, "", 0, summary, (), None)
        record.created, record.held_back = self._last.created, self.held_back
        return record


def _event(record: logging.LogRecord) -> Event:
    return record.msg if isinstance(record.msg, Event) else Event(str(record.msg), text=record.getMessage())
