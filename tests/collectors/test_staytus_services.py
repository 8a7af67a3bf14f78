"""GET /api/v1/services/all: what Staytus says, and how it refuses, most often with HTTP 200."""

import json

import pytest

from exporter.collectors.document import Answer, ParseError
from exporter.collectors.staytus_services import COLLECTOR, Service, Services, Status, parse
from tests.recorded import staytus


def test_services_are_read_with_their_status() -> None:
    assert parse(staytus("services_all_ok_minor_major_maintenance")) == Services(
        services=(
            Service("web-application", "Web Application", Status("ok", "operational", "Operational")),
            Service("api", "API", Status("minor", "degraded-performance", "Degraded Performance")),
            Service("public-website", "Public Website", Status("major", "major-outage", "Major Outage")),
            Service("customer-support", "Customer Support", Status("maintenance", "maintenance", "Maintenance")),
        ),
        repeated=(),
    )


def test_of_two_services_with_one_permalink_the_first_counts_and_the_second_is_remarked() -> None:
    model = parse(staytus("services_all_duplicate_permalink"))
    assert [service.name for service in model.services if service.permalink == "api"] == ["API"]
    assert list(COLLECTOR.remarks(model)) == ["a second service with the permalink 'api'"]


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (staytus("auth_invalid_token"), "access-denied: Staytus does not accept this token and secret"),
        (staytus("db_down_services_all", 500), "HTTP 500 with status 'internal-server-error', not 'success'"),
        (staytus("path_unknown_action", 400), "HTTP 400 with status 'invalid-controller-or-action', not 'success'"),
        (staytus("json_content_type_get_no_body", 400), "HTTP 400 with status 'invalid-json', not 'success'"),
        (staytus("record_not_found"), "HTTP 200 with status 'not-found', not 'success'"),
        (staytus("services_all_empty", 201), "HTTP 201, not 200"),
        (Answer(301, b"<html>You are being redirected</html>"), "HTTP 301"),
        (Answer(404, b"<!DOCTYPE html>"), "HTTP 404"),
        (Answer(500, b"An unhandled lowlevel error occurred."), "HTTP 500"),
        (Answer(200, b"<!DOCTYPE html>"), "HTTP 200 with a body that is not JSON: b'<!DOCTYPE html>'"),
        (Answer(200, b'{"status":"success","data":{}}'), "data: expected an array, found an object"),
        (Answer(200, b'{"status":"success","data":[7]}'), "data[0]: expected an object, found 7"),
        (Answer(200, b'{"status":"success","data":[{}]}'), "data[0].permalink: expected a string, found nothing"),
        (
            Answer(200, b'{"status":"success","data":[{"permalink":"api","status":{}}]}'),
            "data[0].status.status_type: expected a string, found nothing",
        ),
        (Answer(200, b'{"data":[]}'), "HTTP 200 with status 'nothing', not 'success'"),
    ],
)
def test_refusal_is_told_in_one_line(answer: Answer, message: str) -> None:
    with pytest.raises(ParseError) as caught:
        parse(answer)
    assert str(caught.value) == message


def test_unknown_keys_never_matter() -> None:
    document = json.loads(staytus("services_all_empty").body)
    document["tomorrow"] = {"anything": 1}
    assert parse(Answer(200, json.dumps(document).encode())) == Services((), ())
