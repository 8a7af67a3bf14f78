"""Documents for property tests: what real servers answered, with anything changed in it, and any JSON at all."""

import json
from collections.abc import Iterator
from typing import Any

from hypothesis import strategies as st

from exporter.collectors import COLLECTORS as BY_SERVICE
from exporter.collectors.base import AnyCollector
from exporter.collectors.document import Answer, ParseError
from tests.recorded import RECORDINGS, VERSIONS, moments

COLLECTORS = {collector.path: collector for collectors in BY_SERVICE.values() for collector in collectors}

#: Texts that some document reads as something, or that some encoding trips over.
TEXTS = (
    "", " ", "unknown", "running", "initalizing new cluster", "streaming", "master", "replica", "quorum", "on", "nan",
    "inf", "-1", "1e400", "\u0663", "0/0", "FFFFFFFF/FFFFFFFF", "1/", "ok", "resolved", "success", "access-denied",
    "9999-12-31T23:59:59.999999-23:59", "0001-01-01 00:00:00+23:59", "2026-11-20 23:40:19.802 IST",
    "2026-11-20 23:40:19 UTC", "2026-W01-1T00Z", "2026-11-20 24:00:00+00:00", "2026-02-30 00:00:00+00:00", "20261120Z",
    "2026-11-20 23:40:19+00:00:00.000001", "2026-11-20 23:40:19 +9999", "\ud800", "a\udfffb", "\x00", "\n", "\r\n", '"',
    "\\", "\\n", "}", "# EOF\n", "{a=\"b\"} 1", "\u2028", "\x85", "\ufeff", "\U0001f5dd", "x" * 300,
)  # fmt: skip

#: Numbers at the edges of what a float or a whole number of 64 bits can hold.
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


def _recorded() -> dict[str, list[str]]:
    """The recorded bodies of each path that are what they should be, thirty of different shapes, the largest last."""
    bodies: dict[str, dict[str, str]] = {}
    for path, answer in _answers():
        if path in COLLECTORS and _is_read(COLLECTORS[path], answer):
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


def _is_read(collector: AnyCollector, answer: Answer) -> bool:
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


RECORDED_BODIES = _recorded()


def places(value: Any, above: str = "") -> Iterator[tuple[Any, Any, str]]:
    """Every place in a JSON value: the object or array that it is in, its key there, and its path without indices."""
    keys = value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    for key in keys:
        path = f"{above}.{key if isinstance(value, dict) else '*'}"
        yield value, key, path
        yield from places(value[key], path)


def each_place(path: str) -> Iterator[tuple[Any, Any, Any]]:
    """Every place that any recorded document of this path has, once: a document, and where in it."""
    seen = set()
    for text in reversed(RECORDED_BODIES[path]):
        document = json.loads(text)
        for container, key, place in list(places(document)):
            if place not in seen:
                seen.add(place)
                yield document, container, key


def _odd(draw: st.DrawFn, value: Any) -> Any:
    """Another value of the same type, so that the document mostly stays what it should be."""
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
    """Changes one place of the document: an odd value, any other one, one from elsewhere, or none."""
    found = list(places(document))
    if not found:
        return
    container, key, _ = draw(st.sampled_from(found))
    match draw(st.sampled_from((*["odd"] * 7, "any", "away", "elsewhere"))):
        case "odd":
            container[key] = _odd(draw, container[key])
        case "any":
            container[key] = draw(JSON)
        case "away":
            del container[key]
        case "elsewhere":
            other, there, _ = draw(st.sampled_from(found))
            container[key] = json.loads(json.dumps(other[there]))


@st.composite
def changed_documents(draw: st.DrawFn, path: str) -> Any:
    """A recorded document of this path with a few places changed."""
    document = json.loads(draw(st.sampled_from(RECORDED_BODIES[path])))
    for _ in range(draw(st.sampled_from((0, 1, 1, 1, 2, 3)))):
        _change(draw, document)
    return document


def written(document: Any, *, escaped: bool = True) -> bytes:
    """The document as a server writes it, infinite numbers as numbers that are too large."""
    text = json.dumps(document, ensure_ascii=escaped).replace("Infinity", "1e999")
    return text.encode("utf-8", "surrogatepass")


@st.composite
def answers(draw: st.DrawFn, path: str) -> Answer:
    """An answer to this path: mostly a recorded document with something changed, now and then another, or cut off."""
    document = draw(JSON if draw(RARELY) else changed_documents(path))
    body = written(document, escaped=draw(st.booleans()))
    if draw(RARELY):
        body = body[: draw(st.integers(0, len(body)))]
    return Answer(draw(st.sampled_from((503, 502, 404))) if draw(RARELY) else 200, body)
