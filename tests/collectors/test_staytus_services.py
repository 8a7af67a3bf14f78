"""GET /api/v1/services/all."""

import json

from exporter.collectors.document import Answer
from exporter.collectors.staytus_services import COLLECTOR, Service, Services, Status, parse
from tests.recorded import staytus


def test_duplicate_permalink() -> None:
    model = parse(staytus("services_all_duplicate_permalink"))
    assert [service.name for service in model.services if service.permalink == "api"] == ["API"]
    assert list(COLLECTOR.warnings(model)) == ["duplicate service 'api'"]


def test_service_with_required_keys_only() -> None:
    document = {"status": "success", "data": [{"permalink": "a", "status": {"status_type": "ok"}}]}
    model = parse(Answer(200, json.dumps(document).encode()))
    assert model == Services((Service("a", "", Status("ok", "", "")),), ())


def test_new_keys_are_ignored() -> None:
    document = json.loads(staytus("services_all_empty").body)
    document["tomorrow"] = {"anything": 1}
    assert parse(Answer(200, json.dumps(document).encode())) == Services((), ())
