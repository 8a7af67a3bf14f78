"""What goes to standard error: one line for each event, in logfmt or JSON, and a line that repeats once a minute."""

import json
import logging
import re
import threading
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from gunicorn import glogging

#: Seconds in which a line is said once.
PERIOD = 60.0

#: The levels that can be set; the names in the lines are those of Prometheus and its exporters.
LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}
NAMES = {logging.DEBUG: "DEBUG", logging.INFO: "INFO", logging.WARNING: "WARN"}


def log_to_standard_error(level: str, form: str) -> None:
    """Lets this package log to standard error, unless whoever hosts it has set up logging already."""
    log = logging.getLogger("exporter")
    log.setLevel(LEVELS[level])
    if not log.hasHandlers():
        to_stderr = logging.StreamHandler()
        to_stderr.setFormatter(Lines(form))
        to_stderr.addFilter(OncePerPeriod())
        log.addHandler(to_stderr)


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


def known(event: str, **fields: str | float) -> dict[str, Any]:
    """Returns the `extra` of a log call: where lines have keys, what happened is the msg, and each field has its key.

    The message of that call tells the same in one sentence, for whoever hosts us with a log of his own.
    """
    return {"known": {"msg": event, **fields}}


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
            **getattr(record, "known", {}),
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


class OncePerPeriod(logging.Filter):
    """Holds back a line that was said in the last minute, and tells with the next one how many were held back.

    Lines with a traceback and those at debug level are never held back.
    """

    def __init__(self) -> None:
        super().__init__()
        self._lock = threading.Lock()
        self._said: dict[tuple[str, str], tuple[float, int]] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Tells whether the record is to be said; gives it the count."""
        if record.exc_info or record.levelno <= logging.DEBUG:
            return True
        key = (record.name, record.getMessage())
        with self._lock:
            when, held = self._said.get(key, (-PERIOD, 0))
            if record.created - when < PERIOD:
                self._said[key] = (when, held + 1)
                return False
            self._said = {other: said for other, said in self._said.items() if record.created - said[0] < 2 * PERIOD}
            self._said[key] = (record.created, 0)
        record.held_back = held
        return True


class GunicornLogger(glogging.Logger):
    """gunicorn's log with lines as ours; its access log stays off, since the door tells of each request."""

    #: The form of the lines, logfmt or json; gunicorn makes the only object itself and tells it nothing of ours.
    form = "logfmt"

    def setup(self, cfg: Any) -> None:
        """Sets up what gunicorn would, also at a reload."""
        super().setup(cfg)
        for handler in (*self.error_log.handlers, *self.access_log.handlers):
            if isinstance(handler, logging.StreamHandler):  # a file's too; syslog has a form of its own
                handler.setFormatter(Lines(self.form))
