"""A document is what a service answered; read here, it gives typed values or one sentence about what is wrong."""

import json
import math
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import NoReturn, TypeVar

T = TypeVar("T")


class ParseError(Exception):
    """The document is not what its service documents; the text says what is wrong and where."""


class NotProvided(Exception):
    """This version of the service has no such document, which is no failure of anybody; `model` is what that means."""

    def __init__(self, model: object = None):
        super().__init__("this version of the service has no such document")
        self.model = model


@dataclass(frozen=True)
class Answer:
    """One HTTP answer, whole: its status and the bytes of its body."""

    status: int
    body: bytes

    def fields(self) -> "Fields":
        """Returns the JSON object in the body.

        Raises ParseError when the body is not a JSON object.
        """
        return Fields.of(self._json(), "")

    def rows(self) -> tuple[tuple[object, ...], ...]:
        """Returns the rows of a JSON array of arrays in the body.

        Raises ParseError when the body is none.
        """
        return tuple(_array(row, f"[{index}]") for index, row in enumerate(_array(self._json(), "")))

    def _json(self) -> object:
        try:
            text = self.body.decode(json.detect_encoding(self.body), "surrogatepass")  # as json.loads does
            return _DECODER.decode(text)
        except (ValueError, RecursionError):
            raise ParseError(f"HTTP {self.status} with a body that is not JSON: {self._outline()}") from None

    def _outline(self) -> str:
        """Tells a proxy's page from a cut answer without quoting JSON, which can hold what nobody should log."""
        if self.body.lstrip()[:1] in (b"{", b"["):
            return f"{len(self.body)} bytes, cut off or damaged"
        return repr(self.body[:40]) if self.body else "empty"


class Fields:
    """One JSON object, read key by key; a key that is missing or null reads as None."""

    def __init__(self, values: dict[str, object], where: str):
        self._values = values
        self._where = where

    @classmethod
    def of(cls, value: object, where: str) -> "Fields":
        """Returns the value as an object, or raises ParseError with the place where it stands."""
        if not isinstance(value, dict):
            _fail(where, "an object", value)
        return cls(value, where)

    def __contains__(self, key: str) -> bool:
        return key in self._values

    def __iter__(self) -> Iterator[tuple[str, object]]:
        return ((encodable(key), value) for key, value in self._values.items())

    def text(self, key: str) -> str | None:
        """Returns a string that every encoding can hold."""
        value = self._values.get(key)
        if value is None:
            return None
        if not isinstance(value, str):
            _fail(self._at(key), "a string", value)
        return encodable(value)

    def required_text(self, key: str) -> str:
        """Returns a string, or raises ParseError where there is none."""
        value = self.text(key)
        if value is None:
            _fail(self._at(key), "a string", None)
        return value

    def whole(self, key: str) -> int | None:
        """Returns a whole number that a float can hold, though perhaps not to its last digit."""
        value = self._values.get(key)
        if value is None:
            return None
        if not isinstance(value, int) or isinstance(value, bool) or not _fits(value):
            _fail(self._at(key), "a whole number", value)
        return value

    def number(self, key: str) -> float | None:
        """Returns a finite number."""
        value = self._values.get(key)
        if value is None:
            return None
        if not isinstance(value, int | float) or isinstance(value, bool) or not _fits(value):
            _fail(self._at(key), "a number", value)
        return float(value)

    def position(self, key: str) -> int | None:
        """Returns the bytes of a position in the write-ahead log, from PostgreSQL's form X/Y of two hexadecimal halves.

        None also where Patroni says "unknown".
        """
        value = self.text(key)
        if value is None or value == "unknown":
            return None
        halves = re.fullmatch(r"([0-9A-Fa-f]{1,8})/([0-9A-Fa-f]{1,8})", value)
        if halves is None:
            _fail(self._at(key), "a position of the form X/Y", value)
        return int(halves[1], 16) << 32 | int(halves[2], 16)

    def flag(self, key: str) -> bool:
        """Returns true or false; a service that leaves a flag out means false."""
        value = self._values.get(key)
        if value is None:
            return False
        if not isinstance(value, bool):
            _fail(self._at(key), "true or false", value)
        return value

    def known_whole(self, key: str) -> int | None:
        """Returns a whole number, None also where Patroni says "unknown"."""
        return None if self._values.get(key) == "unknown" else self.whole(key)

    def moment(self, key: str) -> float | None:
        """Returns a point of time in Unix seconds, None also where its zone is ambiguous; see moment()."""
        value = self.text(key)
        try:
            return None if value is None else moment(value)
        except ValueError:
            _fail(self._at(key), "a date and time", value)

    def fields(self, key: str) -> "Fields | None":
        """Returns the object below this key."""
        value = self._values.get(key)
        return None if value is None else Fields.of(value, self._at(key))

    def items(self, key: str) -> tuple["Fields", ...]:
        """Returns the objects of the array below this key, none where there is no array."""
        value = self._values.get(key)
        if value is None:
            return ()
        return tuple(
            Fields.of(item, f"{self._at(key)}[{index}]") for index, item in enumerate(_array(value, self._at(key)))
        )

    def _at(self, key: str) -> str:
        return f"{self._where}.{key}" if self._where else key


_ABBREVIATION = re.compile(r"(?P<local>\S+ \S+) (?P<zone>[A-Za-z]{2,6}|[+-]\d{2,4})")


def moment(text: str) -> float | None:
    """Returns the Unix seconds of an ISO 8601 time with an offset, or of PostgreSQL's form with a zone's name.

    PostgreSQL's abbreviations name no zone for certain (IST is three of them), so that only UTC and GMT are
    read and others are None; so is a time without any zone. Raises ValueError when the text is no time at all.
    """
    zoned = _ABBREVIATION.fullmatch(text)
    if zoned is None:
        when = datetime.fromisoformat(text)
    elif zoned["zone"][0] in "+-":
        when = datetime.fromisoformat(zoned["local"] + zoned["zone"])
    elif zoned["zone"] in ("UTC", "GMT"):
        when = datetime.fromisoformat(zoned["local"] + "+00:00")
    else:
        datetime.fromisoformat(zoned["local"])
        return None
    return None if when.tzinfo is None else when.timestamp()


def distinct(items: Iterable[T], key: Callable[[T], str]) -> tuple[tuple[T, ...], tuple[str, ...]]:
    """Returns the first item of each key, and the keys of the items that were passed over."""
    first: dict[str, T] = {}
    repeated = [key(item) for item in items if first.setdefault(key(item), item) is not item]
    return tuple(first.values()), tuple(repeated)


def _array(value: object, where: str) -> tuple[object, ...]:
    if not isinstance(value, list):
        _fail(where, "an array", value)
    return tuple(value)


def encodable(text: str) -> str:
    """JSON can spell half of a surrogate pair, which UTF-8 cannot: such a half becomes a question mark."""
    return text.encode("utf-8", "replace").decode("utf-8")


def _fits(value: int | float) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:
        return False


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


_DECODER = json.JSONDecoder(parse_constant=_refuse_constant)  # of which json.loads would make one for each document


def _fail(where: str, expected: str, value: object) -> NoReturn:
    """Raises ParseError; strings are named but not quoted, since they can hold what nobody should log."""
    kinds = {str: "a string", list: "an array", dict: "an object", type(None): "nothing"}
    raise ParseError(
        f"{where or 'the document'}: expected {expected}, found {kinds.get(type(value), repr(value)[:40])}"
    )
