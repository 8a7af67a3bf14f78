"""Reads a response of a service: each method returns a typed value or raises ParseError."""

import json
import math
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import NoReturn, TypeVar

T = TypeVar("T")


#: Bytes of memory, about, that a parsed document may take.
EXPANDED_LIMIT = 128 * 1024 * 1024


class ParseError(Exception):
    """The document is not as expected; the text says what is wrong and where, and quotes no string of the document."""


class NotSupported(Exception):
    """This version of the service does not have the document; `model` replaces the parsed document if it is set."""

    def __init__(self, model: object = None):
        self.model = model


@dataclass(frozen=True)
class Answer:
    """One complete HTTP response; `certificate_not_after` is when the TLS certificate expires, in Unix seconds."""

    status: int
    body: bytes
    content_type: str = ""
    certificate_not_after: float | None = None

    def fields(self) -> "Fields":
        """Returns the JSON object in the body; raises ParseError if it is not one."""
        return Fields(self._json(), "")

    def rows(self) -> tuple[tuple[object, ...], ...]:
        """Returns the JSON array of arrays in the body; raises ParseError if it is not one."""
        return tuple(_array(row, f"[{index}]") for index, row in enumerate(_array(self._json(), "")))

    def _json(self) -> object:
        # An object or an array takes at least 56 bytes, and a value in one about 40.
        expanded = 56 * (self.body.count(b"{") + self.body.count(b"[")) + 40 * self.body.count(b",")
        if expanded > EXPANDED_LIMIT:
            raise ParseError(f"JSON that would take more than {EXPANDED_LIMIT // 1024 // 1024} MiB of memory")
        try:
            return json.loads(self.body)
        except (ValueError, RecursionError):
            media_type = re.match(r"[\w.+/-]{0,60}", self.content_type, re.ASCII)
            kind = f" of {media_type[0]}" if media_type and media_type[0] else ""
            raise ParseError(f"HTTP {self.status}: expected valid JSON, found {len(self.body)} bytes{kind}") from None


class Fields:
    """One JSON object; a key that is missing or null reads as None.

    The constructor and all methods raise ParseError, with the place in the document, for a value of another type.
    """

    def __init__(self, values: object, where: str):
        if not isinstance(values, dict):
            _fail(where, "an object", values)
        self._values: dict[str, object] = values
        self._where = where

    def __iter__(self) -> Iterator[tuple[str, object]]:
        return ((encodable(key), value) for key, value in self._values.items())

    def text(self, key: str) -> str | None:
        """Returns a string that can be encoded as UTF-8."""
        value = self._values.get(key)
        if isinstance(value, str):
            return encodable(value)
        return None if value is None else _fail(self._at(key), "a string", value)

    def required_text(self, key: str) -> str:
        """Returns a string that must be present."""
        if (value := self.text(key)) is None:
            _fail(self._at(key), "a string", None)
        return value

    def integer(self, key: str) -> int | None:
        """Returns an integer within the range of a float."""
        return self._value(key, "an integer", int)

    def integer_or_unknown(self, key: str) -> int | None:
        """Returns an integer, or None also for the string "unknown" of Patroni."""
        return None if self._values.get(key) == "unknown" else self.integer(key)

    def number(self, key: str) -> float | None:
        """Returns a finite number."""
        value = self._value(key, "a number", int, float)
        return None if value is None else float(value)

    def flag(self, key: str) -> bool:
        """Returns a boolean, False if it is missing."""
        return self._value(key, "a boolean", bool) or False

    def lsn(self, key: str) -> int | None:
        """Returns a PostgreSQL log sequence number in bytes from the form X/Y, or None also for "unknown"."""
        value = self.text(key)
        if value is None or value == "unknown":
            return None
        halves = re.fullmatch(r"([0-9A-Fa-f]{1,8})/([0-9A-Fa-f]{1,8})", value)
        if halves is None:
            _fail(self._at(key), "an LSN of the form X/Y", value)
        return int(halves[1], 16) << 32 | int(halves[2], 16)

    def timestamp(self, key: str) -> float | None:
        """Returns a timestamp in Unix seconds, or None also if its time zone is not known; see timestamp()."""
        value = self.text(key)
        try:
            return None if value is None else timestamp(value)
        except ValueError:
            _fail(self._at(key), "a timestamp", value)

    def fields(self, key: str) -> "Fields | None":
        """Returns the object at this key."""
        value = self._values.get(key)
        return None if value is None else Fields(value, self._at(key))

    def items(self, key: str) -> tuple["Fields", ...]:
        """Returns the objects of the array at this key, an empty tuple if it is missing."""
        value = self._values.get(key)
        array = () if value is None else _array(value, self._at(key))
        return tuple(Fields(item, f"{self._at(key)}[{index}]") for index, item in enumerate(array))

    def _value(self, key: str, expected: str, *types: type[T]) -> T | None:
        value = self._values.get(key)
        if value is None:
            return None
        if not isinstance(value, types) or (isinstance(value, bool) and bool not in types) or not _is_finite(value):
            _fail(self._at(key), expected, value)
        return value

    def _at(self, key: str) -> str:
        return f"{self._where}.{key}" if self._where else key


_ABBREVIATION = re.compile(r"(?P<local>\S+ \S+) (?P<zone>[A-Za-z]{2,6}|[+-]\d{2,4})")


def timestamp(text: str) -> float | None:
    """Returns the Unix seconds of an ISO 8601 timestamp, or of PostgreSQL's form with a time zone abbreviation.

    Returns None if there is no time zone, or an abbreviation other than UTC and GMT: these are ambiguous (IST has three
    meanings). Raises ValueError if the text is not a timestamp.
    """
    zoned = _ABBREVIATION.fullmatch(text)
    if zoned is None:
        when = datetime.fromisoformat(text)
    else:
        offset = "+00:00" if zoned["zone"] in ("UTC", "GMT") else zoned["zone"]
        when = datetime.fromisoformat(zoned["local"] + (offset if offset[0] in "+-" else ""))
    return None if when.tzinfo is None else when.timestamp()


def distinct(kind: str, items: Iterable[T], key: Callable[[T], str]) -> tuple[tuple[T, ...], tuple[str, ...]]:
    """Returns the first item of each key, and a warning for each item after it."""
    first: dict[str, T] = {}
    repeated = [key(item) for item in items if first.setdefault(key(item), item) is not item]
    return tuple(first.values()), tuple(f"duplicate {kind} {name!r}" for name in repeated)


def encodable(text: str) -> str:
    """Returns the text with a question mark for each lone surrogate, which JSON allows and UTF-8 does not."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode("utf-8")


def kind_of(value: object) -> str:
    """Returns what a value of the wrong type is; strings are not quoted, since they can be secrets."""
    kinds = {str: "a string", list: "an array", dict: "an object", type(None): "nothing"}
    return kinds.get(type(value), repr(value)[:40])


def _array(value: object, where: str) -> tuple[object, ...]:
    if not isinstance(value, list):
        _fail(where, "an array", value)
    return tuple(value)


def _fail(where: str, expected: str, value: object) -> NoReturn:
    raise ParseError(f"{where or 'the document'}: expected {expected}, found {kind_of(value)}")


def _is_finite(value: object) -> bool:
    try:
        return not isinstance(value, int | float) or math.isfinite(value)
    except OverflowError:
        return False
