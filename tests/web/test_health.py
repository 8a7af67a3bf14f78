"""/health, /-/healthy and /-/ready."""

import json

import pytest

from tests.conftest import Upstream
from tests.limits.scrapes import RECORDED, application
from tests.recorded import staytus


@pytest.mark.parametrize(
    ("services", "status", "health", "state", "reason"),
    [
        ("services_all_empty", 200, "healthy", "up", None),
        (
            "auth_invalid_token",
            *(503, "unhealthy", "down"),
            "access-denied: Staytus does not accept this token and secret",
        ),
    ],
)
def test_health(upstream: Upstream, services: str, status: int, health: str, state: str, reason: str | None) -> None:
    upstream.serve({**RECORDED, "/api/v1/services/all": staytus(services)})
    response = application(upstream.url, upstream.url).test_client().get("/health")
    body = json.loads(response.data)
    seconds = [module.pop("seconds") for module in body["modules"].values()]
    modules = {"patroni": {"state": "up", "reason": None}, "staytus": {"state": state, "reason": reason}}
    assert (response.status_code, body) == (status, {"status": health, "modules": modules})
    assert all(0 < second < 5 for second in seconds)
    assert sorted(upstream.paths) == ["/api/v1/services/all", "/patroni"]


@pytest.mark.parametrize("path", ["/-/healthy", "/-/ready"])
def test_process_health_sends_no_request(upstream: Upstream, path: str) -> None:
    response = application(upstream.url, upstream.url).test_client().get(path)
    assert (response.status_code, response.text, upstream.paths) == (200, "OK\n", [])
