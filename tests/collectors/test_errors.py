"""The documents that the collectors refuse, and why."""

import pytest

from exporter.collectors import COLLECTORS
from exporter.collectors.document import Answer, NotSupported, ParseError
from exporter.collectors.patroni import UnknownPath
from exporter.collectors.patroni_failsafe import Failsafe
from tests.recorded import staytus

PARSE = {collector.name: collector.parse for collectors in COLLECTORS.values() for collector in collectors}


def ok(body: str) -> Answer:
    return Answer(200, body.encode())


@pytest.mark.parametrize(
    ("collector", "answer", "message"),
    [
        ("node", ok("{}"), "HTTP 200: expected the status of a Patroni node, found no key 'patroni'"),
        ("node", ok('{"patroni": {}}'), "role: expected a string, found nothing"),
        ("node", ok('{"patroni": {"version": "4.1.5"}, "role": "replica", "state": "x"}'),
            "patroni.scope: expected a string, found nothing"),
        ("cluster", Answer(503, b"overloaded"), "HTTP 503: expected 200"),
        ("cluster", Answer(503, b"{}"), "HTTP 503: expected 200"),
        ("cluster", Answer(404, b"{}"), "HTTP 404: expected 200"),
        ("cluster", Answer(500, b'{"patroni": {"version": "1.6.0"}}'), "HTTP 500: expected 200"),
        ("cluster", ok('{"members": {}}'), "members: expected an array, found an object"),
        ("cluster", ok('{"members": [{}]}'), "members[0].name: expected a string, found nothing"),
        ("cluster", ok('{"members": [{"name": "n1", "lsn": "nowhere"}]}'),
            "members[0].lsn: expected an LSN of the form X/Y, found a string"),
        ("cluster", ok('{"members": [{"name": "n1", "lag": "much"}]}'),
            "members[0].lag: expected an integer, found a string"),
        ("config", Answer(502, b"<!DOCTYPE HTML>"), "HTTP 502: expected 200"),
        ("config", ok("[]"), "the document: expected an object, found an array"),
        ("history", ok("{}"), "the document: expected an array, found an object"),
        ("history", ok("[7]"), "[0]: expected an array, found 7"),
        ("history", ok("[[1, 7, 7]]"), "[0].reason: expected a string, found 7"),
        ("history", ok('[[1, 7, "x", "soon"]]'), "[0].time: expected a timestamp, found a string"),
        ("history", Answer(502, b""), "HTTP 502: expected 200"),
        ("failsafe", Answer(500, b""), "HTTP 500: expected 200"),
        ("issues", staytus("auth_invalid_token"), "access-denied: Staytus does not accept this token and secret"),
        ("services", staytus("auth_invalid_token"), "access-denied: Staytus does not accept this token and secret"),
        ("services", staytus("db_down_services_all", 500),
            "HTTP 500: expected status 'success', found internal-server-error"),
        ("services", staytus("path_unknown_action", 400),
            "HTTP 400: expected status 'success', found invalid-controller-or-action"),
        ("services", staytus("json_content_type_get_no_body", 400),
            "HTTP 400: expected status 'success', found invalid-json"),
        ("services", staytus("record_not_found"), "HTTP 200: expected status 'success', found not-found"),
        ("services", ok('{"status":"secret"}'), "HTTP 200: expected status 'success', found a string"),
        ("services", ok('{"data":[]}'), "HTTP 200: expected status 'success', found nothing"),
        ("services", staytus("services_all_empty", 201), "HTTP 201: expected 200"),
        ("services", Answer(404, b"<p>", "text/html"), "HTTP 404: expected valid JSON, found 3 bytes of text/html"),
        ("services", ok('{"status":"success","data":{}}'), "data: expected an array, found an object"),
        ("services", ok('{"status":"success","data":[7]}'), "data[0]: expected an object, found 7"),
        ("services", ok('{"status":"success","data":[{}]}'), "data[0].permalink: expected a string, found nothing"),
        ("services", ok('{"status":"success","data":[{"permalink":"api","status":{}}]}'),
            "data[0].status.status_type: expected a string, found nothing"),
    ],
)  # fmt: skip
def test_refused_document(collector: str, answer: Answer, message: str) -> None:
    with pytest.raises(ParseError) as caught:
        PARSE[collector](answer)
    assert str(caught.value) == message


def status_of(version: str, status: int) -> Answer:
    """The response of this version of Patroni to an unknown path."""
    return Answer(status, f'{{"role": "replica", "patroni": {{"version": "{version}", "scope": "lab"}}}}'.encode())


@pytest.mark.parametrize(("collector", "since", "before"), [
    ("cluster", "1.6.1", "1.6.0"), ("history", "1.6.1", "1.6.0"), ("config", "1.0.0", "0.99.0"),
    ("failsafe", "3.0.0", "2.1.7"), ("cluster", "4.2.0beta1", "unknown"),
])  # fmt: skip
@pytest.mark.parametrize("status", [200, 503])
def test_unknown_path(collector: str, since: str, before: str, status: int) -> None:
    """Patroni sends its status, with 200 if the path contains the name of a health check such as /health/cluster."""
    with pytest.raises(NotSupported):
        PARSE[collector](status_of(before, status))
    with pytest.raises(UnknownPath, match=r"^not a path of Patroni's REST API: expected a URL such as http://"):
        PARSE[collector](status_of(since, status))


def test_other_documents_with_the_key_patroni() -> None:
    assert PARSE["failsafe"](ok('{"patroni": "http://h:8008/patroni"}')) == Failsafe(frozenset({"patroni"}))
    cluster = PARSE["cluster"](ok('{"members": [{"name": "n1", "tags": {"patroni": {"version": "4.1.5"}}}]}'))
    assert cluster.members[0].tags == (("patroni", '{"version": "4.1.5"}'),)
