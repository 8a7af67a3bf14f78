"""GET /api/v1/services/all, and the errors of the Staytus API."""

import json

import pytest

from exporter.collectors.document import Answer, ParseError
from exporter.collectors.staytus_services import COLLECTOR, Service, Services, Status, parse
from tests.recorded import staytus


def test_services() -> None:
    assert parse(staytus("services_all_ok_minor_major_maintenance")) == Services(
        services=(
            Service("web-application", "Web Application", Status("ok", "operational", "Operational")),
            Service("api", "API", Status("minor", "degraded-performance", "Degraded Performance")),
            Service("public-website", "Public Website", Status("major", "major-outage", "Major Outage")),
            Service("customer-support", "Customer Support", Status("maintenance", "maintenance", "Maintenance")),
        ),
        warnings=(),
    )


def test_duplicate_permalink() -> None:
    model = parse(staytus("services_all_duplicate_permalink"))
    assert [service.name for service in model.services if service.permalink == "api"] == ["API"]
    assert list(COLLECTOR.warnings(model)) == ["duplicate service 'api'"]


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (staytus("auth_invalid_token"), "access-denied: Staytus does not accept this token and secret"),
        (
            staytus("db_down_services_all", 500),
            "HTTP 500: expected status 'success', found internal-server-error",
        ),
        (
            staytus("path_unknown_action", 400),
            "HTTP 400: expected status 'success', found invalid-controller-or-action",
        ),
        (staytus("json_content_type_get_no_body", 400), "HTTP 400: expected status 'success', found invalid-json"),
        (staytus("record_not_found"), "HTTP 200: expected status 'success', found not-found"),
        (Answer(200, b'{"status":"secret"}'), "HTTP 200: expected status 'success', found a string"),
        (Answer(200, b'{"data":[]}'), "HTTP 200: expected status 'success', found nothing"),
        (staytus("services_all_empty", 201), "HTTP 201: expected 200"),
        (Answer(404, b"<p>", "text/html"), "HTTP 404: expected valid JSON, found 3 bytes of text/html"),
        (Answer(200, b'{"status":"success","data":{}}'), "data: expected an array, found an object"),
        (Answer(200, b'{"status":"success","data":[7]}'), "data[0]: expected an object, found 7"),
        (Answer(200, b'{"status":"success","data":[{}]}'), "data[0].permalink: expected a string, found nothing"),
        (
            Answer(200, b'{"status":"success","data":[{"permalink":"api","status":{}}]}'),
            "data[0].status.status_type: expected a string, found nothing",
        ),
    ],
)
def test_errors(answer: Answer, message: str) -> None:
    with pytest.raises(ParseError) as caught:
        parse(answer)
    assert str(caught.value) == message


def test_new_keys_are_ignored() -> None:
    document = json.loads(staytus("services_all_empty").body)
    document["tomorrow"] = {"anything": 1}
    assert parse(Answer(200, json.dumps(document).encode())) == Services((), ())
