"""Properties of all documents, settings, headers and responses; PROPERTIES=5000 tries more examples, at random."""

import contextlib
import json
import math
import os
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from prometheus_client.metrics_core import Metric
from prometheus_client.openmetrics import parser as openmetrics_parser
from prometheus_client.parser import text_string_to_metric_families

from exporter.collectors import COLLECTORS
from exporter.collectors.base import AnyCollector
from exporter.collectors.document import Answer, NotSupported, ParseError, timestamp
from exporter.config.allow_list import AllowList, NotAllowed, Place, TargetError
from exporter.config.errors import ConfigError
from exporter.config.modules import read_modules
from exporter.config.options import OPTIONS
from exporter.config.settings import Settings
from exporter.scrape.families import families_of, metrics
from exporter.scrape.results import DocumentResult, ModuleResult
from exporter.upstream.client import Client
from exporter.upstream.errors import FetchError
from exporter.upstream.target import Module
from exporter.web.metrics import scrape_seconds
from tests.conftest import at, begin
from tests.limits.documents import JSON, TEXTS, answers, each_place, written
from tests.limits.servers import Odd, saying
from tests.scrape.test_exposition import compare

EXAMPLES = int(os.environ.get("PROPERTIES", "0"))
settings.register_profile(
    "properties",
    max_examples=EXAMPLES or 100,
    derandomize=not EXAMPLES,
    database=None,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
settings.load_profile("properties")

EACH = [(service, collector) for service, collectors in COLLECTORS.items() for collector in collectors]
each_collector = pytest.mark.parametrize(("service", "collector"), EACH, ids=[c.name for _, c in EACH])


def result(collector: AnyCollector, answer: Answer) -> DocumentResult:
    """The result of this response; other exceptions than NotSupported and ParseError are raised."""
    model: object = None
    failure: str | None = None
    try:
        model = collector.parse(answer)
    except NotSupported as error:
        return DocumentResult(collector, 0.0, error.model, provided=False)
    except ParseError as error:
        failure = str(error)
    texts = [failure] if failure is not None else list(collector.warnings(model))
    assert [text for text in texts if not text.isprintable()] == []
    return DocumentResult(collector, 0.0, model, failure)


def check(service: str, documents: list[DocumentResult]) -> None:
    """Asserts that the exposition is valid and represents the samples of these documents."""
    module = Module(service, service, at("http://h"), tuple(c.name for c in COLLECTORS[service]))
    scraped = ModuleResult(module, tuple(documents))
    collected = list(metrics(scraped))
    names = [metric.name for metric in collected]
    assert [family.name for family in families_of(module) if family.name in names] == names
    samples = {}
    for metric in collected:
        assert len({tuple(sample.labels) for sample in metric.samples}) <= 1
        for sample in metric.samples:
            assert math.isfinite(sample.value)
            key = (sample.name, frozenset(sample.labels.items()))
            assert key not in samples
            samples[key] = sample.value
    text, openmetrics = compare([scraped])
    assert read_back(text_string_to_metric_families(text)) == samples
    assert read_back(openmetrics_parser.text_string_to_metric_families(openmetrics)) == samples  # type: ignore[no-untyped-call]


def read_back(metrics: Iterable[Metric]) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value for metric in metrics for sample in metric.samples
    }


@each_collector
@given(document=JSON, status=st.sampled_from((200, 502, 503)))
def test_any_json(service: str, collector: AnyCollector, document: object, status: int) -> None:
    result(collector, Answer(status, written(document)))


@each_collector
@given(body=st.binary(max_size=60), status=st.integers(100, 599))
def test_any_bytes(service: str, collector: AnyCollector, body: bytes, status: int) -> None:
    result(collector, Answer(status, body))


@pytest.mark.parametrize("service", list(COLLECTORS))
@given(data=st.data())
def test_any_documents(service: str, data: st.DataObject) -> None:
    check(service, [result(collector, data.draw(answers(collector.path))) for collector in COLLECTORS[service]])


VALUES: tuple[Any, ...] = (
    *(None, True, 7, -1.5, 10**400, 1e999, "x", "\ud800", [], [["\ud800"]], {}, {"\ud800": {}}, [{"k": 1}]),
)


@each_collector
def test_any_type_at_any_place(service: str, collector: AnyCollector) -> None:
    failures = set()
    for document, container, key in each_place(collector.path):
        kept = container[key]
        for value in VALUES:
            container[key] = value
            read = result(collector, Answer(200, written(document)))
            failures.add(read.failure)
            check(service, [read])
        container[key] = kept
    assert None in failures
    assert len(failures) > 1 or collector.name in ("config", "failsafe")  # which accept any value


@given(st.one_of(st.sampled_from(TEXTS), st.text(), st.datetimes().map(str), st.from_regex(r"\d{4}-\d\d-\d\d.*")))
def test_any_timestamp(text: str) -> None:
    try:
        seconds = timestamp(text)
    except ValueError:
        return
    assert seconds is None or math.isfinite(seconds)


HIDDEN = "h1dden"
WORDS = st.sampled_from(
    ("true", "false", "1", "0", "5", "60", "9547", "yes", "ipv4", "AF_INET6", "::1", "[::]", "-d", "ten")
)
URLS = st.builds(
    "{}://{}{}{}{}".format,
    st.sampled_from(("http", "https", "HTTP", "ftp", "")),
    st.sampled_from(("", f"u:{HIDDEN}@", f"{HIDDEN}@", f"%zz:{HIDDEN}@@")),
    st.sampled_from(("h", "localhost", "[::1]", "[::1", "[x]", "a..b", "", "ü", "h h")),
    st.sampled_from(("", ":8008", ":0", ":", ":x", ":99999")),
    st.sampled_from(("", "/", "/patroni", "/a//patroni/", "?q", "#f", "/ä")),
)
ANY_TEXT = st.text(st.characters(codec=None, exclude_characters="\x00"), max_size=30).filter(
    lambda text: HIDDEN not in text
)
SECRETS = st.builds("{}{}{}".format, ANY_TEXT, st.just(HIDDEN), ANY_TEXT)


@st.composite
def environments(draw: st.DrawFn) -> dict[str, str]:
    """Some of the variables, also with _FILE, with values that are often valid."""
    environ = {}
    for option in draw(st.lists(st.sampled_from(OPTIONS), unique=True)):
        values = SECRETS if option.secret else st.one_of(WORDS, URLS, st.just(option.default or ""), ANY_TEXT)
        environ[option.variable + draw(st.sampled_from(("", "", "", "", "_FILE")))] = draw(values)
    return environ


def load(environ: dict[str, str]) -> str:
    """The settings as text, or the error, which must be one line."""
    try:
        return repr(Settings.load(environ))
    except ConfigError as error:
        text = str(error)
    assert "\n" not in text
    return text


@given(environments())
def test_any_environment(environ: dict[str, str]) -> None:
    text = load({"EXPORTER_ENV_FILE": os.devnull, **environ})
    assert HIDDEN not in text or any(HIDDEN in environ.get(f"{option.variable}_FILE", "") for option in OPTIONS)


@given(environments(), ANY_TEXT, st.booleans())
def test_any_env_file(environ: dict[str, str], junk: str, quoted: bool) -> None:
    sign = '"' if quoted else ""
    lines = [junk, *(f"{name}={sign}{value}{sign}" for name, value in environ.items())]
    with tempfile.NamedTemporaryFile() as file:
        Path(file.name).write_bytes("\n".join(lines).encode("utf-8", "surrogatepass"))
        load({"EXPORTER_ENV_FILE": file.name})


@given(st.one_of(st.text(st.characters(max_codepoint=255)), st.floats().map(str), st.sampled_from(TEXTS)))
def test_any_scrape_timeout(text: str) -> None:
    assert scrape_seconds({"HTTP_X_PROMETHEUS_SCRAPE_TIMEOUT_SECONDS": text}) >= 0


PIECES = st.one_of(
    st.sampled_from(
        (b"HTTP/1.1 200 OK\r\n", b"HTTP/1.0 503 No\r\n", b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 ",
         b"\r\n", b"\n", b"\x00", b": \r\n", b" x\r\n", b"{}", b"\x1f\x8b\x08\x00", b"\xff" * 9,
         b"Content-Length: 5\r\n", b"Content-Length: -1\r\n", b"Content-Length: 5, 5\r\n",
         b"Transfer-Encoding: chunked\r\n", b"Transfer-Encoding: gzip, chunked\r\n", b"Content-Encoding: gzip\r\n",
         b"Content-Encoding: deflate, br, x\r\n", b"Set-Cookie: =;;\xff\r\n", b"Location: //[\r\n",
         b"Connection: close\r\n", b"Connection: keep-alive\r\n", b"5\r\nhello\r\n", b"-1\r\n", b"-2\r\nab",
         b"0\r\n\r\n", b"ffffffffffffffffffff\r\n", b"+5;x=y\r\nhello")
    ),
    st.binary(max_size=12),
)  # fmt: skip
STARTS = st.sampled_from(
    (b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 200 OK\r\n", b"HTTP/1.0 404 \r\n", b"HTTP/1.1 204 No\r\n", b"")
)


@pytest.fixture(scope="module")
def server() -> Iterator[Odd]:
    with Odd(saying(b"")) as odd:
        yield odd


@given(start=STARTS, pieces=st.lists(PIECES, max_size=8))
def test_any_response(server: Odd, start: bytes, pieces: list[bytes]) -> None:
    """It is a response, or an error of one line."""
    server.behave = saying(start + b"".join(pieces))
    ended = begin(Client(), at(server.url), "x").result(10)
    if ended.error is not None:
        assert isinstance(ended.error, FetchError)
        assert str(ended.error)
        assert str(ended.error).isprintable()


#: Texts that are similar to a target or an entry of the list.
NEARLY = st.lists(
    st.sampled_from(
        [
            *("db1", ".", "*", ":", "8008", "-", "/", "8", "[", "]", "::1", "fd00::", "10.0.0.1", "169.254.169.254"),
            *("0x7f", "http://", "https://", "@", "%", "?", "#", " ", "\n", "ü", "99999"),
        ]
    ),
    max_size=6,
).map("".join)


@given(text=st.one_of(st.sampled_from(TEXTS), st.text(), NEARLY), entries=st.lists(NEARLY, max_size=4))
def test_any_target(text: str, entries: list[str]) -> None:
    """It is allowed, or the error is one line."""
    allowed = AllowList()
    for entry in entries:
        with contextlib.suppress(ValueError):
            allowed.add(entry)
    error, place = "", None
    try:
        place = Place.of(text, "http", 8008)
        allowed.check(place)
    except (TargetError, NotAllowed) as refused:
        error = str(refused)
    assert error.isprintable()
    assert place is None or Place.of(place.url, "http", 8008) == place


#: A module with all keys; examples lack some of them and have other values for some.
WHOLE: dict[str, Any] = {
    "collector": "staytus", "collect": ["issues"], "timeout": "1m", "interval": 2, "scheme": "https",
    "tls_config": {"server_name": "db1", "insecure_skip_verify": True},
    "basic_auth": {"username": "u", "password": "h1dden"},
    "http_headers": {"X-A": {"values": ["a"], "secrets": ["h1dden"]}},
    "token": "h1dden", "secret": "h1dden", "targets": ["db*.example.org:8008", "10.0.0.0/8"],
}  # fmt: skip
MODULE = st.builds(
    lambda changes, gone: {key: value for key, value in {**WHOLE, **changes}.items() if key not in gone},
    st.dictionaries(st.one_of(st.sampled_from(tuple(WHOLE)), st.text()), st.one_of(JSON, st.text()), max_size=2),
    st.sets(st.sampled_from(tuple(WHOLE)), max_size=2),
)


@given(text=st.one_of(st.text(), MODULE.map(lambda module: json.dumps({"modules": {"m": module}}))))
def test_any_modules_file(text: str) -> None:
    """It is valid, or the error is one line without a secret."""
    error = "m.yml:"
    try:
        read_modules(text, "m.yml")
    except ConfigError as refused:
        error = str(refused)
    assert (error.startswith("m.yml:"), error.isprintable(), HIDDEN in error) == (True, True, False)


def test_whole_module_is_valid() -> None:
    assert list(read_modules(json.dumps({"modules": {"m": WHOLE}}), "m.yml")) == ["m"]
