"""/sd: the members of a cluster as Prometheus reads them, and when it is to keep those that it has."""

import json
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import quote

import pytest
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from exporter.collectors.document import Answer
from tests.conftest import Upstream
from tests.recorded import VERSIONS, moment, moments
from tests.web.test_probe import client_of


@pytest.fixture
def client(tmp_path: Path) -> FlaskClient:
    return client_of(tmp_path)


def sd(client: FlaskClient, *targets: str, module: str = "patroni") -> TestResponse:
    return client.get(f"/sd?module={module}" + "".join(f"&target={quote(target, safe='')}" for target in targets))


def cluster(*members: Mapping[str, object], **more: object) -> dict[str, Answer]:
    return {"/cluster": Answer(200, json.dumps({"members": members, "scope": "lab", **more}).encode())}


MEMBER: dict[str, object] = {
    "name": "n1",
    "role": "leader",
    "state": "running",
    "api_url": "http://10.0.0.1:8008/patroni",
}


def test_each_member_is_a_target_with_what_the_cluster_says_of_it(upstream: Upstream, client: FlaskClient) -> None:
    tags = {"nofailover": True, "zone-a": "b c", "zone.a": "other", "ü": 1, "empty": ""}
    upstream.serve(
        cluster(
            {**MEMBER, "host": "10.0.0.1", "port": 5432, "timeline": 7, "tags": tags},
            {"name": "n2", "role": "replica", "api_url": "https://[fd00::2]:8008/patroni", "timeline": "unknown"},
            {"name": "n3", "role": "replica", "state": "starting"},
            *(
                {"name": url, "role": "replica", "api_url": url}
                for url in ("http://[::1", "http://", "n6:8008", "x://h")
            ),
        )
    )
    answer = sd(client, upstream.url)
    assert (answer.status_code, answer.content_type) == (200, "application/json")
    assert answer.json == [
        {
            "targets": ["10.0.0.1:8008"],
            "labels": {
                "__meta_patroni_scope": "lab",
                "__meta_patroni_name": "n1",
                "__meta_patroni_role": "leader",
                "__meta_patroni_state": "running",
                "__meta_patroni_timeline": "7",
                "__meta_patroni_host": "10.0.0.1",
                "__meta_patroni_port": "5432",
                "__meta_patroni_scheme": "http",
                "__meta_patroni_tag_nofailover": "true",
                "__meta_patroni_tag_zone_a": "b c",
                "__meta_patroni_tag__": "1",
            },
        },
        {
            "targets": ["[fd00::2]:8008"],
            "labels": {
                "__meta_patroni_scope": "lab",
                "__meta_patroni_name": "n2",
                "__meta_patroni_role": "replica",
                "__meta_patroni_scheme": "https",
            },
        },
    ]
    assert upstream.paths == ["/cluster"]


@pytest.mark.parametrize("version", VERSIONS)
def test_every_recorded_version_tells_its_members_with_their_scope(
    version: str, upstream: Upstream, client: FlaskClient
) -> None:
    """Before Patroni 3.2 /cluster does not name the scope, and /patroni is asked as well."""
    recorded = next(m for m in moments(version) if m.answers.get("/cluster", Answer(0, b"")).status == 200)
    upstream.serve(recorded.answers)
    members = json.loads(recorded.answers["/cluster"].body)["members"]
    scope = json.loads(recorded.answers["/patroni"].body)["patroni"]["scope"]
    found = [
        (group["targets"], group["labels"]["__meta_patroni_scope"], group["labels"]["__meta_patroni_name"])
        for group in sd(client, upstream.url).json or ()
    ]
    assert found == [([member["api_url"].split("/")[2]], scope, member["name"]) for member in members]
    assert found


def test_cluster_without_members_is_an_empty_list(upstream: Upstream, client: FlaskClient) -> None:
    upstream.serve(cluster())
    assert (sd(client, upstream.url).status_code, sd(client, upstream.url).json) == (200, [])


def test_first_target_that_answers_counts_and_the_next_is_not_asked(upstream: Upstream, client: FlaskClient) -> None:
    upstream.serve(cluster(MEMBER))
    answer = sd(client, "http://127.0.0.1:1", upstream.url, "http://127.0.0.1:2")
    assert [group["targets"] for group in answer.json or ()] == [["10.0.0.1:8008"]]


def test_nobody_who_answers_is_an_error_that_names_the_reasons(upstream: Upstream, client: FlaskClient) -> None:
    upstream.serve({"/cluster": Answer(503, b'{"patroni": {}}')})
    answer = sd(client, "http://127.0.0.1:1", upstream.url)
    assert (answer.status_code, answer.text) == (
        503,
        "no target tells its cluster: http://127.0.0.1:1: no connection: connection refused; "
        f"{upstream.url}: this is no Patroni that knows /cluster\n",
    )


def test_scope_that_nobody_tells_is_an_error(upstream: Upstream, client: FlaskClient) -> None:
    upstream.serve(cluster(MEMBER, scope=None))
    answer = sd(client, upstream.url)
    assert answer.status_code == 503
    assert answer.text.startswith(f"{upstream.url} does not tell the scope of its cluster: ")


@pytest.mark.parametrize(
    ("query", "status", "sentence"),
    [
        ("", 400, "expected one parameter module, the name of a module in the modules file"),
        ("?module=other&target=127.0.0.1", 400, "unknown module 'other': it is not in the modules file"),
        ("?module=status&target=127.0.0.1", 400, "module status asks Staytus, which has no members to discover"),
        ("?module=patroni", 400, "expected a parameter target for each node that can be asked for its cluster"),
        ("?module=patroni&target=", 400,
         "expected a parameter target for each node that can be asked for its cluster"),
        ("?module=patroni&target=127.0.0.2", 403, "target 127.0.0.2:8008 is not among the targets of this module"),
        ("?module=patroni&target=127.0.0.1&target=127.0.0.2", 403,
         "target 127.0.0.2:8008 is not among the targets of this module"),
    ],
)  # fmt: skip
def test_what_cannot_or_may_not_be_asked_is_refused_with_a_sentence(
    client: FlaskClient, query: str, status: int, sentence: str
) -> None:
    answer = client.get(f"/sd{query}")
    assert (answer.status_code, answer.text, answer.mimetype) == (status, sentence + "\n", "text/plain")


def test_moment_of_a_real_cluster_with_tags(upstream: Upstream, client: FlaskClient) -> None:
    upstream.serve(moment("4.1.5", "failsafe-enabled", "n1").answers)
    groups = sd(client, upstream.url).json or ()
    assert {group["labels"]["__meta_patroni_scope"] for group in groups} == {"lab"}
