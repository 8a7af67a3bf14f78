"""A response that cannot be used costs its own document: success 0, and a line of the log with the reason."""

import gzip
import json
import logging
import zlib

import pytest

from exporter.collectors import COLLECTORS
from tests.conftest import logged
from tests.limits.scrapes import PATHS, PATRONI, application, scrape
from tests.limits.servers import Behaviour, Odd, repeating, resetting, saying, whole

MIB = 1024 * 1024
OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"
NODE = PATRONI["/patroni"].body
BOMB = gzip.compress(b" " * (32 * MIB), 1)
TOO_LARGE = {
    collector.name: f"the response is larger than {collector.size_limit // MIB} MiB"
    for collectors in COLLECTORS.values()
    for collector in collectors
}


def check(behave: Behaviour, expected: dict[str, str], caplog: pytest.LogCaptureFixture) -> None:
    """Scrapes both modules from one server; exactly these collectors fail, for these reasons."""
    caplog.set_level(logging.WARNING)
    caplog.clear()
    with Odd(behave) as server:
        scraped = scrape(application(server.url, server.url, PATRONI_EXPORTER_TIMEOUT="30", STAYTUS_TIMEOUT="30"))
        url = server.url
    assert logged(caplog) == [event for service in PATHS for event in failures(url, service, expected)]
    assert {(record.levelno, record.exc_info) for record in caplog.records} == {(logging.WARNING, None)}
    assert {collector for collector, success in scraped.successes.items() if not success} == set(expected)
    services_up = float("services" not in expected)
    assert scraped.samples["patroni_up"] == {(): float("node" not in expected)}
    assert scraped.samples["staytus_up"] == {(): services_up}
    assert scraped.samples["staytus_health"] == {("healthy",): services_up, ("unhealthy",): 1 - services_up}


def failures(url: str, service: str, reasons: dict[str, str]) -> list[dict[str, object]]:
    """The events for these collectors: one event if all collectors of the module fail for the same reason."""
    paths = PATHS[service]
    failed = {"msg": "scrape failed", "module": service}
    if len({reasons.get(collector) for collector in paths}) == 1 and reasons.keys() >= paths.keys():
        return [{**failed, "url": url, "reason": reasons[next(iter(paths))]}]
    return [
        {**failed, "collector": collector, "url": f"{url}/{path}", "reason": reasons[collector]}
        for collector, path in paths.items()
        if collector in reasons
    ]


def everywhere(reason: str, **other: str) -> dict[str, str]:
    """This reason for each collector that has no other one; collectors with an empty reason do not fail."""
    reasons = {collector: reason for paths in PATHS.values() for collector in paths} | other
    return {collector: reason for collector, reason in reasons.items() if reason}


def staytus(reason: str) -> dict[str, str]:
    return dict.fromkeys(PATHS["staytus"], reason)


@pytest.mark.parametrize(
    ("behave", "expected"),
    [
        (saying(b""), everywhere("the connection was closed without a response")),
        (resetting(b""), everywhere("the connection was closed without a response; does the server expect TLS?")),
        (resetting(OK + b"X: y"), everywhere("connection reset by peer")),
        (resetting(OK + b"Content-Length: 900\r\n\r\n" + NODE[:400]), everywhere("connection reset by peer")),
        (saying(NODE), everywhere("the response is not HTTP")),
        (saying(CHUNKED + b"fff\r\n" + NODE), everywhere("the response was cut off")),
        (saying(CHUNKED + b"%x\r\n%b\r\n" % (len(NODE), NODE)), everywhere("the response was cut off")),
        (
            saying(OK + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\n12"),
            everywhere("the response is damaged: Invalid Content-Length: value"),
        ),
        (saying(whole(b" " * (16 * MIB + 1))), TOO_LARGE),
        (saying(whole(gzip.compress(b" " * (16 * MIB), 0), "200 OK", "Content-Encoding: gzip")), TOO_LARGE),
        (repeating(OK + b"\r\n", b" " * 65536), TOO_LARGE),
        (
            repeating(CHUNKED + b"0\r\n", b"X: " + b"y" * 65000 + b"\r\n"),
            everywhere("the header of the response is too large"),
        ),
        (saying(whole(BOMB, "200 OK", "Content-Encoding: gzip")), TOO_LARGE),
        (saying(whole(zlib.compress(b" " * (32 * MIB), 1), "200 OK", "Content-Encoding: deflate")), TOO_LARGE),
        (saying(whole(gzip.compress(BOMB), "200 OK", "Content-Encoding: gzip, gzip")), TOO_LARGE),
        (
            saying(whole(gzip.compress(b"") * (MIB // 16), "200 OK", "Content-Encoding: gzip")),
            everywhere("the response is damaged: Multi-member gzip response not supported"),
        ),
    ],
    ids=[
        *("closed", "reset", "reset in the header", "reset in the body", "no status line", "cut in a chunk"),
        *("no last chunk", "two lengths", "large", "large and compressed", "endless", "endless trailers"),
        *("gzip bomb", "deflate bomb", "bomb in a bomb", "empty gzip members"),
    ],
)
def test_damaged_response(behave: Behaviour, expected: dict[str, str], caplog: pytest.LogCaptureFixture) -> None:
    check(behave, expected, caplog)


LARGE_SAMPLES = "its samples would take more than 8 MiB"
NOT_JSON = "HTTP 200: expected valid JSON, found {} bytes"
NO_OBJECT = "the document: expected an object, found {}"
NO_ARRAY = "the document: expected an array, found {}"
NOT_A_NODE = "expected the status of a Patroni node, found no key 'patroni'"


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"", everywhere(NOT_JSON.format(0))),
        (b'{"state": "\xff"}', everywhere(NOT_JSON.format(14))),
        (b"<html>\n<title>Sign in</title>", everywhere(NOT_JSON.format(29))),
        (b"[" * MIB, everywhere(NOT_JSON.format(MIB))),
        (b'{"a":' * (MIB // 5), everywhere(NOT_JSON.format(MIB // 5 * 5))),
        (b'"personal"', everywhere(NO_OBJECT.format("a string"), history=NO_ARRAY.format("a string"))),
        (b"[]", everywhere(NO_OBJECT.format("an array"), history="")),
        (
            b'["personal"]',
            everywhere(NO_OBJECT.format("an array"), history="[0]: expected an array, found a string"),
        ),
        (
            b"{}",
            {
                "node": f"HTTP 200: {NOT_A_NODE}",
                "history": NO_ARRAY.format("an object"),
                **staytus("HTTP 200: expected status 'success', found nothing"),
            },
        ),
    ],
    ids=["empty", "not UTF-8", "HTML", "deep array", "deep object", "text", "array", "array of text", "empty object"],
)
def test_body_that_is_not_the_document(body: bytes, expected: dict[str, str], caplog: pytest.LogCaptureFixture) -> None:
    check(saying(whole(body)), expected, caplog)


HTML = b"<html>no"
NOT_HTML = "expected valid JSON, found 8 bytes"


def statuses(status: int, node: str, of_staytus: str = "") -> dict[str, str]:
    """The failures for this HTTP status, which only /patroni and Staytus can have."""
    http = f"HTTP {status}: "
    return everywhere(f"{http}expected 200", node=http + node, **staytus(http + (of_staytus or node)))


@pytest.mark.parametrize("line", ["301 Moved Permanently", "401 Unauthorized", "404 Not Found", "499", "503 No", "999"])
def test_status(line: str, caplog: pytest.LogCaptureFixture) -> None:
    status = int(line[:3])
    check(saying(whole(HTML, line, "Location: /elsewhere")), statuses(status, NOT_HTML), caplog)
    expected = statuses(status, NOT_A_NODE, "expected status 'success', found invalid-controller-or-action")
    check(saying(whole(b'{"status":"invalid-controller-or-action"}', line)), expected, caplog)


@pytest.mark.parametrize("status", [204, 304])
def test_status_without_a_body(status: int, caplog: pytest.LogCaptureFixture) -> None:
    expected = statuses(status, "expected valid JSON, found 0 bytes")
    check(saying(b"HTTP/1.1 %d No Body\r\n\r\n" % status), expected, caplog)


def test_deep_document(caplog: pytest.LogCaptureFixture) -> None:
    """All collectors parse it, or all fail: none raises RecursionError."""
    members = [{"name": "n1", "tags": {"deep": "?"}}]
    document = json.dumps({**json.loads(NODE), "members": members, "ttl": "?"})
    document = document.replace('"patroni"', '"patron\\u0069"')  # /cluster and /config are not an unknown path
    ups = []
    with Odd(saying(b"")) as server:
        app = application(server.url, PATRONI_EXPORTER_COLLECT="node,cluster,config")
        for depth in (100, *range(940, 1010, 5), 100_000):  # Python's limit is near 1000, less the depth of the caller
            caplog.clear()
            body = document.replace('"?"', "[" * depth + "]" * depth).encode()
            server.behave = saying(whole(body))
            ups.append(scrape(app).samples["patroni_up"][()])
            reasons = dict.fromkeys(PATHS["patroni"], NOT_JSON.format(len(body)))
            ignored = {"module": "patroni", "collector": "config", "reason": "ttl: expected a number, found an array"}
            assert logged(caplog) == (
                [{"msg": "part of a document ignored", **ignored}]
                if ups[-1]
                else failures(server.url, "patroni", reasons)
            )
    assert ups == sorted(ups, reverse=True)
    assert (ups[0], ups[-1]) == (1.0, 0.0)


@pytest.mark.parametrize(
    ("cluster", "reason"),
    [
        ({"members": [{"name": f"n{i}", "tags": {str(j): j for j in range(300)}} for i in range(300)]}, LARGE_SAMPLES),
        ({"members": [{"name": f"{i}" * 400_000, "role": "leader"} for i in range(5)]}, LARGE_SAMPLES),
        ({"members": [{"name": f"{i}"} for i in range(20_000)]}, LARGE_SAMPLES),
        ({"scope": "s" * 257, "members": [{"name": "n1"}]}, "scope: expected at most 256 characters, found 257"),
    ],
    ids=["many tags", "long names", "no scope", "long scope"],
)
def test_small_document_with_large_samples(
    cluster: dict[str, object], reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    body = json.dumps(cluster).encode()
    assert len(body) < 2 * MIB
    caplog.set_level(logging.WARNING)
    with Odd(saying(whole(body))) as server:
        scraped = scrape(application(server.url, PATRONI_EXPORTER_COLLECT="cluster", PATRONI_EXPORTER_TIMEOUT="30"))
        assert logged(caplog) == failures(server.url, "patroni", {"cluster": reason})
    assert (scraped.samples["patroni_up"], "patroni_cluster_members" in scraped.samples) == ({(): 0.0}, False)
