"""What holds for any document, any setting, any header and any bytes; PROPERTIES=5000 looks further, at random."""

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
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.openmetrics import exposition as openmetrics
from prometheus_client.openmetrics import parser as openmetrics_parser
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector as PrometheusCollector

from exporter.collectors import COLLECTORS
from exporter.collectors.base import AnyCollector
from exporter.collectors.document import Answer, NotSupported, ParseError, timestamp
from exporter.config.allow_list import AllowList, NotAllowed, Place, TargetError
from exporter.config.errors import ConfigError
from exporter.config.modules import read_modules
from exporter.config.options import OPTIONS
from exporter.config.settings import Settings
from exporter.scrape.scrape import ModuleReading, Reading, expose, families
from exporter.upstream.client import Fetcher, Flight
from exporter.upstream.errors import FetchError
from exporter.upstream.target import Module, Target
from exporter.web.metrics import budget
from tests.conftest import failed
from tests.limits.documents import JSON, TEXTS, answers, each_place, written
from tests.limits.servers import Odd, saying

EXAMPLES = int(os.environ.get("PROPERTIES", "0"))
settings.register_profile(
    "properties",
    max_examples=EXAMPLES or 150,
    derandomize=not EXAMPLES,
    database=None,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
settings.load_profile("properties")

EACH = [(service, collector) for service, collectors in COLLECTORS.items() for collector in collectors]
each_collector = pytest.mark.parametrize(("service", "collector"), EACH, ids=[c.name for _, c in EACH])


class Fixed(PrometheusCollector):
    """Metrics that were collected before."""

    def __init__(self, metrics: list[Metric]) -> None:
        self._metrics = metrics

    def collect(self) -> list[Metric]:
        return self._metrics


def reading(collector: AnyCollector, answer: Answer) -> Reading:
    """What a scrape makes of an answer; anything else than its two kinds of failure comes through."""
    model: object = None
    failure: str | None = None
    try:
        model = collector.parse(answer)
    except NotSupported as absent:
        return Reading(collector, Flight(), 0.0, absent.model, provided=False)
    except ParseError as error:
        failure = str(error)
    said = [failure] if failure is not None else list(collector.warnings(model))
    assert [line for line in said if not line.isprintable()] == []
    return Reading(collector, Flight(), 0.0, model, failure)


def check(service: str, documents: list[Reading]) -> None:
    """Asserts what holds for the exposition of these documents, whatever they are."""
    module = Module(service, service, Target("http://h", 1, True), tuple(c.name for c in COLLECTORS[service]))
    metrics = list(expose([ModuleReading(module, tuple(documents))]))
    described = [family.name for family in families([module])]
    assert [name for name in described if name in {metric.name for metric in metrics}] == [m.name for m in metrics]
    told = {}
    for metric in metrics:
        assert len({tuple(sample.labels) for sample in metric.samples}) <= 1
        for sample in metric.samples:
            assert math.isfinite(sample.value)
            key = (sample.name, frozenset(sample.labels.items()))
            assert key not in told
            told[key] = sample.value
    registry = CollectorRegistry()
    registry.register(Fixed(metrics))
    text = generate_latest(registry).decode()
    assert read_back(text_string_to_metric_families(text)) == told
    text = openmetrics.generate_latest(registry).decode()  # type: ignore[no-untyped-call]
    assert read_back(openmetrics_parser.text_string_to_metric_families(text)) == told  # type: ignore[no-untyped-call]


def read_back(metrics: Iterable[Metric]) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value for metric in metrics for sample in metric.samples
    }


# Documents ------------------------------------------------------------------------------------------------------------


@each_collector
@given(document=JSON, status=st.sampled_from((200, 502, 503)))
def test_any_json_is_a_model_or_a_parse_error(
    service: str, collector: AnyCollector, document: object, status: int
) -> None:
    reading(collector, Answer(status, written(document)))


@each_collector
@given(body=st.binary(max_size=60), status=st.integers(100, 599))
def test_any_bytes_are_a_model_or_a_parse_error(
    service: str, collector: AnyCollector, body: bytes, status: int
) -> None:
    reading(collector, Answer(status, body))


@pytest.mark.parametrize("service", list(COLLECTORS))
@given(data=st.data())
def test_exposition_of_any_documents_parses_again_to_what_they_tell(service: str, data: st.DataObject) -> None:
    check(service, [reading(collector, data.draw(answers(collector.path))) for collector in COLLECTORS[service]])


@each_collector
def test_value_of_any_type_at_any_place_of_a_recording_is_a_model_or_a_parse_error(
    service: str, collector: AnyCollector
) -> None:
    values: tuple[Any, ...] = (
        None,
        True,
        7,
        -1.5,
        10**400,
        1e999,
        "x",
        "\ud800",
        [],
        [["\ud800"]],
        {},
        {"\ud800": {}},
        [{"k": 1}],
    )
    failures = set()
    for document, container, key in each_place(collector.path):
        kept = container[key]
        for value in values:
            container[key] = value
            read = reading(collector, Answer(200, written(document)))
            failures.add(read.failure)
            check(service, [read])
        container[key] = kept
    assert None in failures
    assert len(failures) > 1 or collector.name in ("config", "failsafe")  # where any value is in order


@given(st.one_of(st.sampled_from(TEXTS), st.text(), st.datetimes().map(str), st.from_regex(r"\d{4}-\d\d-\d\d.*")))
def test_any_text_is_a_finite_timestamp_or_none_or_a_value_error(text: str) -> None:
    try:
        seconds = timestamp(text)
    except ValueError:
        return
    assert seconds is None or math.isfinite(seconds)


# Settings -------------------------------------------------------------------------------------------------------------

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
    """Some of the variables, and some that are none, with values that are mostly of some use."""
    environ = {}
    for option in draw(st.lists(st.sampled_from(OPTIONS), unique=True)):
        values = SECRETS if option.secret else st.one_of(WORDS, URLS, st.just(option.default or ""), ANY_TEXT)
        environ[option.variable + draw(st.sampled_from(("", "", "", "", "_FILE")))] = draw(values)
    return environ


def loads(environ: dict[str, str]) -> None:
    try:
        text = repr(Settings.load(environ))
    except ConfigError as error:
        text = str(error)
        assert "\n" not in text
    assert HIDDEN not in text or any(HIDDEN in environ.get(f"{o.variable}_FILE", "") for o in OPTIONS)


@given(environments())
def test_any_environment_is_settings_or_one_line_without_a_secret(environ: dict[str, str]) -> None:
    loads({"EXPORTER_ENV_FILE": os.devnull, **environ})


@given(environments(), ANY_TEXT, st.booleans())
def test_any_env_file_is_settings_or_one_line_without_a_secret(
    environ: dict[str, str], junk: str, quoted: bool
) -> None:
    sign = '"' if quoted else ""
    lines = [junk, *(f"{name}={sign}{value}{sign}" for name, value in environ.items())]
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "env"
        file.write_bytes("\n".join(lines).encode("utf-8", "surrogatepass"))
        try:
            text = repr(Settings.load({"EXPORTER_ENV_FILE": str(file)}))
        except ConfigError as error:
            text = str(error)
            assert "\n" not in text


@given(st.one_of(st.text(st.characters(max_codepoint=255)), st.floats().map(str), st.sampled_from(TEXTS)))
def test_any_header_is_a_time_that_is_left(text: str) -> None:
    assert budget({"HTTP_X_PROMETHEUS_SCRAPE_TIMEOUT_SECONDS": text}) >= 0


# Bytes on the wire ----------------------------------------------------------------------------------------------------

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
def test_any_bytes_on_the_wire_are_an_answer_or_one_line(server: Odd, start: bytes, pieces: list[bytes]) -> None:
    server.behave = saying(start + b"".join(pieces))
    flight = Fetcher().ask(Target(server.url, 5, True), "x", lambda answer: answer)
    error = failed(flight)
    if error is None:
        assert isinstance(flight.model, Answer)
    else:
        assert isinstance(error, FetchError)
        assert str(error)
        assert str(error).isprintable()


# Modules and targets --------------------------------------------------------------------------------------------------

#: What is near a target or an entry of the list, so that chance finds the corners.
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
def test_any_text_names_a_target_that_is_allowed_or_is_refused_with_a_sentence(text: str, entries: list[str]) -> None:
    allowed = AllowList()
    for entry in entries:
        with contextlib.suppress(ValueError):
            allowed.add(entry)
    refused, place = "", None
    try:
        place = Place.of(text, "http", 8008)
        allowed.networks(place)
    except (TargetError, NotAllowed) as error:
        refused = str(error)
    assert refused.isprintable()
    assert place is None or Place.of(place.url, "http", 8008) == place  # the URL names the same


#: A module with everything, of which chance takes some away and puts something else into others.
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
def test_any_text_is_a_file_of_modules_or_one_line_without_a_secret(text: str) -> None:
    refused = "m.yml:"
    try:
        read_modules(text, "m.yml")
    except ConfigError as error:
        refused = str(error)
    assert refused.startswith("m.yml:")
    assert refused.isprintable()
    assert "h1dden" not in refused


def test_module_that_is_changed_at_random_can_be_used_as_it_is() -> None:
    assert list(read_modules(json.dumps({"modules": {"m": WHOLE}}), "m.yml")) == ["m"]
