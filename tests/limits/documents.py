"""Documents for property tests: recorded ones with random changes, and random JSON."""

import json
from collections.abc import Iterator
from functools import cache
from typing import Any

from hypothesis import strategies as st

from exporter.collectors import COLLECTORS as BY_SERVICE
from exporter.collectors.base import AnyCollector
from exporter.collectors.document import Answer, ParseError
from tests.recorded import RECORDINGS, VERSIONS, moments

COLLECTORS = {collector.path: collector for collectors in BY_SERVICE.values() for collector in collectors}

#: Texts with a meaning in some document, and those that are difficult to encode.
TEXTS = (
    "", " ", "unknown", "running", "initalizing new cluster", "streaming", "master", "replica", "quorum", "on", "nan",
    "inf", "-1", "1e400", "\u0663", "0/0", "FFFFFFFF/FFFFFFFF", "1/", "ok", "resolved", "success", "access-denied",
    "9999-12-31T23:59:59.999999-23:59", "0001-01-01 00:00:00+23:59", "2026-11-20 23:40:19.802 IST",
    "2026-11-20 23:40:19 UTC", "2026-W01-1T00Z", "2026-11-20 24:00:00+00:00", "2026-02-30 00:00:00+00:00", "20261120Z",
    "2026-11-20 23:40:19+00:00:00.000001", "2026-11-20 23:40:19 +9999", "\ud800", "a\udfffb", "\x00", "\n", "\r\n", '"',
    "\\", "\\n", "}", "# EOF\n", "{a=\"b\"} 1", "\u2028", "\x85", "\ufeff", "\U0001f5dd", "x" * 300,
)  # fmt: skip

#: Numbers at the limits of floats and of 64-bit integers.
NUMBERS = (0, -1, 1, 2**31, 2**53 + 1, 2**63, 2**64, 10**18, 10**308, 10**309, -(10**400), 1e308, 5e-324, -0.0, 1e999)

SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.sampled_from(NUMBERS),
    st.integers(),
    st.floats(),
    st.sampled_from(TEXTS),
    st.text(st.characters(codec=None), max_size=20),
)
RARELY = st.sampled_from((*[False] * 29, True))
KEYS = st.one_of(
    st.sampled_from(("name", "role", "state", "members", "tags", "xlog", "patroni", "status", "data", "permalink")),
    st.sampled_from(TEXTS),
    st.text(max_size=5),
)
JSON = st.recursive(
    SCALARS,
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(KEYS, inner, max_size=4)),
    max_leaves=8,
)


@cache
def recorded_bodies() -> dict[str, list[str]]:
    """The valid recorded bodies of each path: thirty of different shapes, the largest last."""
    bodies: dict[str, dict[str, str]] = {}
    for path, answer in _answers():
        if path in COLLECTORS and _is_valid(COLLECTORS[path], answer):
            text = answer.body.decode()
            bodies.setdefault(path, {}).setdefault(repr(_shape(json.loads(text))), text)
    return {path: _spread(sorted(found.values(), key=lambda text: (len(text), text))) for path, found in bodies.items()}


def _answers() -> Iterator[tuple[str, Answer]]:
    for version in VERSIONS:
        for moment in moments(version):
            yield from ((path[1:], answer) for path, answer in moment.answers.items() if answer.status == 200)
    for file in sorted((RECORDINGS / "staytus").glob("*.json")):
        answer = Answer(200, file.read_bytes())
        yield from ((path, answer) for path in ("api/v1/services/all", "api/v1/issues/all"))


def _is_valid(collector: AnyCollector, answer: Answer) -> bool:
    try:
        collector.parse(answer)
    except ParseError:
        return False
    return True


def _spread(bodies: list[str]) -> list[str]:
    step = max(1, len(bodies) // 30)
    return bodies[::-1][: 30 * step : step][::-1]


def _shape(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _shape(inner) for key, inner in sorted(value.items())}
    return [_shape(inner) for inner in value] if isinstance(value, list) else type(value).__name__


def places(value: Any, above: str = "") -> Iterator[tuple[Any, Any, str]]:
    """Each place in a JSON value: its object or array, its key there, and its path without indices."""
    keys = value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    for key in keys:
        path = f"{above}.{key if isinstance(value, dict) else '*'}"
        yield value, key, path
        yield from places(value[key], path)


def each_place(path: str) -> Iterator[tuple[Any, Any, Any]]:
    """Each place of the recorded documents of this path, once: a document, and the place in it."""
    seen = set()
    for text in reversed(recorded_bodies()[path]):
        document = json.loads(text)
        for container, key, place in list(places(document)):
            if place not in seen:
                seen.add(place)
                yield document, container, key


def _odd(draw: st.DrawFn, value: Any) -> Any:
    """Another value of the same type, so that most documents stay valid."""
    match value:
        case bool():
            return not value
        case str():
            return draw(st.sampled_from(TEXTS))
        case int() | float():
            return draw(st.sampled_from(NUMBERS))
        case list():
            return value[:1] * draw(st.integers(0, 3)) + value[1:]
        case dict():
            return {**value, draw(KEYS): draw(st.one_of(JSON, st.sampled_from(tuple(value.values()) or TEXTS)))}
    return draw(SCALARS)


def _change(draw: st.DrawFn, document: Any) -> None:
    """Replaces a value with one of the same type, any JSON or the value of another place, or deletes it."""
    found = list(places(document))
    if not found:
        return
    container, key, _ = draw(st.sampled_from(found))
    match draw(st.sampled_from((*["odd"] * 7, "any", "delete", "copy"))):
        case "odd":
            container[key] = _odd(draw, container[key])
        case "any":
            container[key] = draw(JSON)
        case "delete":
            del container[key]
        case "copy":
            other, there, _ = draw(st.sampled_from(found))
            container[key] = json.loads(json.dumps(other[there]))


@st.composite
def changed_documents(draw: st.DrawFn, path: str) -> Any:
    """A recorded document of this path with a few places changed."""
    document = json.loads(draw(st.sampled_from(recorded_bodies()[path])))
    for _ in range(draw(st.sampled_from((0, 1, 1, 1, 2, 3)))):
        _change(draw, document)
    return document


def written(document: Any, *, escaped: bool = True) -> bytes:
    """The document as a server sends it, with infinite numbers as numbers that are too large."""
    text = json.dumps(document, ensure_ascii=escaped).replace("Infinity", "1e999")
    return text.encode("utf-8", "surrogatepass")


@st.composite
def answers(draw: st.DrawFn, path: str) -> Answer:
    """A response for this path: usually a changed recorded document, rarely any JSON, a cut one or an error status."""
    document = draw(JSON if draw(RARELY) else changed_documents(path))
    body = written(document, escaped=draw(st.booleans()))
    if draw(RARELY):
        body = body[: draw(st.integers(0, len(body)))]
    return Answer(draw(st.sampled_from((503, 502, 404))) if draw(RARELY) else 200, body)
