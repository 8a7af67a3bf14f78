"""/health, /-/healthy and /-/ready."""

import json

import pytest

from exporter import create_app
from exporter.config.settings import Settings
from tests.conftest import Upstream
from tests.recorded import moment, staytus


def settings(upstream: Upstream) -> Settings:
    return Settings.load(
        {
            "PATRONI_EXPORTER_URL": f"{upstream.url}/patroni",
            "STAYTUS_API_URL": upstream.url,
            "STAYTUS_API_TOKEN": "token",
            "STAYTUS_API_SECRET": "secret",
        }
    )


def test_health_is_200_when_all_modules_answer(upstream: Upstream) -> None:
    upstream.answers["/patroni"] = (200, moment("4.1.5", "healthy-async", "n1").answers["/patroni"].body)
    upstream.answers["/api/v1/services/all"] = (200, staytus("services_all_empty").body)
    answer = create_app(settings(upstream)).test_client().get("/health")
    body = json.loads(answer.data)
    seconds = [module.pop("seconds") for module in body["modules"].values()]
    assert (answer.status_code, body) == (
        200,
        {
            "status": "healthy",
            "modules": {"patroni": {"state": "up", "reason": None}, "staytus": {"state": "up", "reason": None}},
        },
    )
    assert all(0 < second < 5 for second in seconds)


def test_health_is_503_and_names_who_does_not_answer_and_why(upstream: Upstream) -> None:
    upstream.answers["/patroni"] = (200, moment("4.1.5", "healthy-async", "n1").answers["/patroni"].body)
    upstream.answers["/api/v1/services/all"] = (200, staytus("auth_invalid_token").body)
    answer = create_app(settings(upstream)).test_client().get("/health")
    body = json.loads(answer.data)
    for module in body["modules"].values():
        del module["seconds"]
    assert (answer.status_code, body) == (
        503,
        {
            "status": "unhealthy",
            "modules": {
                "patroni": {"state": "up", "reason": None},
                "staytus": {
                    "state": "down",
                    "reason": "access-denied: Staytus does not accept this token and secret",
                },
            },
        },
    )


@pytest.mark.parametrize("path", ["/-/healthy", "/-/ready"])
def test_process_tells_that_it_answers_without_asking_anybody(upstream: Upstream, path: str) -> None:
    answer = create_app(settings(upstream)).test_client().get(path)
    assert (answer.status_code, answer.text, upstream.paths) == (200, "OK\n", [])
