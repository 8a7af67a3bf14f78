"""Each answer that is none gives up 0, success 0 and one line that says what and where, never a traceback."""

import gzip
import json
import logging
import zlib

import pytest

from tests.limits.scrapes import PATHS, PATRONI, application, scrape
from tests.limits.servers import Behaviour, Odd, repeating, resetting, saying, whole

MIB = 1024 * 1024
OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"
NODE = PATRONI["/patroni"].body
BOMB = gzip.compress(b" " * (64 * MIB))


#: What is wrong with an answer to any document of any module, and how that is said.
NO_ANSWERS: dict[str, tuple[Behaviour, str]] = {
    "closed at once": (saying(b""), "the connection was closed without a response"),
    "reset at once": (
        resetting(b""),
        "the connection was closed without a response; does the server ask for TLS?",
    ),
    "reset in its header": (resetting(OK + b"X: y"), "connection reset by peer"),
    "reset in its body": (resetting(OK + b"Content-Length: 900\r\n\r\n" + NODE[:400]), "connection reset by peer"),
    "not HTTP": (saying(b"SSH-2.0-OpenSSH_9.2\r\n"), "the answer is not HTTP"),
    "no status line": (saying(NODE), "the answer is not HTTP"),
    "shorter than it said": (saying(OK + b"Content-Length: 99999\r\n\r\n" + NODE), "the answer was cut off"),
    "cut in a chunk": (saying(CHUNKED + b"fff\r\n" + NODE), "the answer was cut off"),
    "no last chunk": (saying(CHUNKED + b"%x\r\n%b\r\n" % (len(NODE), NODE)), "the answer was cut off"),
    "two lengths": (
        saying(OK + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\n12"),
        "the answer is damaged: Invalid Content-Length: value",
    ),
    "damaged gzip": (
        saying(whole(gzip.compress(NODE)[:20] + b"x" * 99, "200 OK", "Content-Encoding: gzip")),
        "the answer cannot be decompressed",
    ),
    "too large": (saying(whole(b" " * (16 * MIB + 1))), "the response is larger than 16 MiB"),
    "too large without a length": (saying(OK + b"\r\n" + b" " * (16 * MIB + 1)), "the response is larger than 16 MiB"),
    "too large only as it comes": (
        saying(whole(gzip.compress(b" " * (16 * MIB), 0), "200 OK", "Content-Encoding: gzip")),
        "the response is larger than 16 MiB",
    ),
    "endless": (repeating(OK + b"\r\n", b" " * 65536), "the response is larger than 16 MiB"),
    "endless chunk of -1 bytes": (
        repeating(CHUNKED + b"-1\r\n", b" " * 65536),
        "the answer is damaged: chunk hex-length char not a hex digit: 0x2d",
    ),
    "endless trailers": (
        repeating(CHUNKED + b"0\r\n", b"X: " + b"y" * 65000 + b"\r\n"),
        "the header of the answer is too large",
    ),
    "gzip bomb": (saying(whole(BOMB, "200 OK", "Content-Encoding: gzip")), "the response is larger than 16 MiB"),
    "deflate bomb": (
        saying(whole(zlib.compress(b" " * (64 * MIB)), "200 OK", "Content-Encoding: deflate")),
        "the response is larger than 16 MiB",
    ),
    "bomb in a bomb": (
        saying(whole(gzip.compress(BOMB), "200 OK", "Content-Encoding: gzip, gzip")),
        "the response is larger than 16 MiB",
    ),
    "gzip of nothing, again and again": (
        saying(whole(gzip.compress(b"") * (MIB // 16), "200 OK", "Content-Encoding: gzip")),
        "the answer is damaged: Multi-member gzip response not supported",
    ),
}


ALL = [(module, collector) for module, paths in PATHS.items() for collector in paths]


def check(behave: Behaviour, expected: dict[str, str], caplog: pytest.LogCaptureFixture) -> None:
    """One scrape of both modules from one server tells nothing but that these collectors failed, a line for each."""
    with Odd(behave) as server:
        scraped = scrape(application(server.url, server.url, PATRONI_EXPORTER_TIMEOUT="30", STAYTUS_TIMEOUT="30"))
        url = server.url
    assert [(record.levelno, record.exc_info, record.getMessage()) for record in caplog.records] == [
        (logging.WARNING, None, f"{module} {collector}: {url}/{PATHS[module][collector]}: {expected[collector]}")
        for module, collector in ALL
        if collector in expected
    ]
    assert {collector for collector, success in scraped.successes.items() if not success} == set(expected)
    assert scraped.told["patroni_up"] == {(): float("node" not in expected)}
    assert scraped.told["staytus_up"] == {(): float("services" not in expected)}
    assert scraped.told["staytus_health"] == {
        ("healthy",): float("services" not in expected),
        ("unhealthy",): float("services" in expected),
    }


def everywhere(reason: str, **other: str) -> dict[str, str]:
    """The reason for every collector, save for these; those of no reason do not fail."""
    reasons = {collector: reason for _, collector in ALL} | other
    return {collector: reason for collector, reason in reasons.items() if reason}


@pytest.mark.parametrize("name", list(NO_ANSWERS))
def test_answer_that_is_none_is_one_line_for_each_document(name: str, caplog: pytest.LogCaptureFixture) -> None:
    behave, reason = NO_ANSWERS[name]
    check(behave, everywhere(reason), caplog)


def staytus(reason: str) -> dict[str, str]:
    return dict.fromkeys(PATHS["staytus"], reason)


def no_json(size: int) -> dict[str, str]:
    return everywhere(f"HTTP 200: expected valid JSON, found {size} bytes")


def no_object(found: str) -> dict[str, str]:
    message = f"the document: expected an object, found {found}"
    return everywhere(message, history=f"the document: expected an array, found {found}")


NO_NODE = "HTTP 200: expected the status of a Patroni node, found no key 'patroni'"

#: Bodies that no document can have, and what is said of them.
BODIES: dict[str, tuple[bytes, dict[str, str]]] = {
    "empty": (b"", no_json(0)),
    "white": (b" \n", no_json(2)),
    "not UTF-8": (b"\xff\xfe\xfd", no_json(3)),
    "not UTF-8 inside": (b'{"state": "\xff"}', no_json(14)),
    "HTML": (b"<html>\n<title>Sign in</title>", no_json(29)),
    "cut": (NODE[:300], no_json(300)),
    "two documents": (b"{}{}", no_json(4)),
    "infinite": (b'{"timeline": Infinity}', no_json(22)),
    "deep array": (b"[" * MIB, no_json(MIB)),
    "deep array that ends": (b"[" * MIB + b"]" * MIB, no_json(2 * MIB)),
    "deep object": (b'{"a":' * MIB, no_json(5 * MIB)),
    "long number": (b"1" * MIB, no_json(MIB)),
    "null": (b"null", no_object("nothing")),
    "true": (b"true", no_object("True")),
    "number": (b"7", no_object("7")),
    "large number": (b"1e999", no_object("inf")),
    "text": (b'"personal"', no_object("a string")),
    "array": (b"[]", everywhere("the document: expected an object, found an array", history="")),
    "array of text": (
        b'["personal"]',
        everywhere(
            "the document: expected an object, found an array", history="[0]: expected an array, found a string"
        ),
    ),
    "empty object": (
        b"{}",
        {
            "node": NO_NODE,
            "history": "the document: expected an array, found an object",
            **staytus("HTTP 200: expected status 'success', found nothing"),
        },
    ),
}


@pytest.mark.parametrize("name", list(BODIES))
def test_body_that_is_no_document_is_one_line_for_each(name: str, caplog: pytest.LogCaptureFixture) -> None:
    body, expected = BODIES[name]
    check(saying(whole(body)), expected, caplog)


def statuses(line: str, node: str, of_staytus: str) -> dict[str, str]:
    status = int(line.split()[0])
    return everywhere(f"HTTP {status}: expected 200", node=node.format(status), **staytus(of_staytus.format(status)))


HTML = b"<html>no"
NOT_JSON = "HTTP {}: expected valid JSON, found 8 bytes"
UNKNOWN = b'{"status":"invalid-controller-or-action"}'
NOT_PATRONI = "HTTP {}: expected the status of a Patroni node, found no key 'patroni'"
NOT_SUCCESS = "HTTP {}: expected status 'success', found invalid-controller-or-action"
STATUSES = (
    "300 Multiple Choices", "301 Moved Permanently", "302 Found", "304 Not Modified", "307 Temporary Redirect",
    "400 Bad Request", "401 Unauthorized", "403 Forbidden", "404 Not Found", "407 Proxy Authentication Required",
    "429 Too Many Requests", "499", "500 Internal Server Error", "501 Not Implemented", "503 Service Unavailable",
    "504 Gateway Timeout", "599", "999",
)  # fmt: skip


@pytest.mark.parametrize("line", [status for status in STATUSES if not status.startswith("304")])
def test_status_that_is_no_success_is_one_line_for_each_document(line: str, caplog: pytest.LogCaptureFixture) -> None:
    check(saying(whole(HTML, line, "Location: /elsewhere")), statuses(line, NOT_JSON, NOT_JSON), caplog)
    caplog.clear()
    check(saying(whole(UNKNOWN, line)), statuses(line, NOT_PATRONI, NOT_SUCCESS), caplog)


def test_status_without_a_body_is_one_line_for_each_document(caplog: pytest.LogCaptureFixture) -> None:
    empty = "HTTP {}: expected valid JSON, found 0 bytes"
    check(saying(b"HTTP/1.1 304 Not Modified\r\n\r\n"), statuses("304", empty, empty), caplog)
    caplog.clear()
    check(saying(b"HTTP/1.1 204 No Content\r\n\r\n"), statuses("204", empty, empty), caplog)


def test_bad_gateway_is_what_patroni_without_a_failsafe_topology_says(caplog: pytest.LogCaptureFixture) -> None:
    expected = statuses("502", NOT_JSON, NOT_JSON)
    del expected["failsafe"]
    check(saying(whole(HTML, "502 Bad Gateway")), expected, caplog)


def test_unavailable_with_the_json_of_a_node_is_the_node_and_no_other_document(
    caplog: pytest.LogCaptureFixture,
) -> None:
    expected = staytus("HTTP 503: expected status 'success', found nothing")
    check(saying(whole(NODE, "503 Service Unavailable")), expected, caplog)


def test_document_of_any_depth_is_read_by_all_collectors_or_refused_by_all(caplog: pytest.LogCaptureFixture) -> None:
    members = [{"name": "n1", "tags": {"deep": "?"}}]
    document = json.dumps({**json.loads(NODE), "members": members, "ttl": "?"})
    ups = []
    with Odd(saying(b"")) as server:
        app = application(server.url, PATRONI_EXPORTER_COLLECT="node,cluster,config")
        for depth in (100, *range(940, 1010), 100_000):  # Python gives up near 1000, here or there by who calls
            caplog.clear()
            body = document.replace('"?"', "[" * depth + "]" * depth).encode()
            server.behave = saying(whole(body))
            ups.append(scrape(app).told["patroni_up"][()])
            assert [record.getMessage() for record in caplog.records] == (
                ["patroni config: passed over ttl: expected a number, found an array"]
                if ups[-1]
                else [
                    f"patroni {collector}: {server.url}/{PATHS['patroni'][collector]}: "
                    f"HTTP 200: expected valid JSON, found {len(body)} bytes"
                    for collector in ("node", "cluster", "config")
                ]
            )
    assert ups == sorted(ups, reverse=True)
    assert (ups[0], ups[-1]) == (1.0, 0.0)


@pytest.mark.parametrize(
    "cluster",
    [
        {"members": [{"name": f"n{i}", "tags": {str(j): j for j in range(300)}} for i in range(300)]},
        {"members": [{"name": f"{i}" * 500_000} for i in range(10)]},
        {"scope": "s" * 3 * MIB, "members": [{"name": "n1"}]},
        {"scope": "s" * 20_000, "members": [{"name": f"{i}"} for i in range(1000)]},
    ],
    ids=["many tags", "long names", "long scope", "long scope and many members"],
)
def test_document_that_is_small_and_gives_large_metrics_is_refused(
    cluster: dict[str, object], caplog: pytest.LogCaptureFixture
) -> None:
    body = json.dumps(cluster).encode()
    with Odd(saying(whole(body))) as server:
        scraped = scrape(application(server.url, PATRONI_EXPORTER_COLLECT="cluster"))
        assert [record.getMessage() for record in caplog.records] == [
            f"patroni cluster: {server.url}/cluster: its samples would take more than 8 MiB"
        ]
    assert scraped.documented == []
    assert len(body) < 8 * MIB
