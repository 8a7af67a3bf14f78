"""/sd: the members of a cluster in the form of Prometheus' HTTP service discovery, and its errors."""

import json
import re
import time
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import quote

import pytest
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from exporter.collectors.document import Answer
from tests.conftest import Upstream
from tests.limits.servers import Odd, silent
from tests.live.processes import until
from tests.recorded import VERSIONS, moments
from tests.web.test_probe import client_of


@pytest.fixture
def client(tmp_path: Path) -> FlaskClient:
    return client_of(tmp_path)


def sd(client: FlaskClient, *targets: str, module: str = "patroni") -> TestResponse:
    return client.get(f"/sd?module={module}" + "".join(f"&target={quote(target, safe='')}" for target in targets))


def cluster(*members: Mapping[str, object], **more: object) -> dict[str, Answer]:
    return {"/cluster": Answer(200, json.dumps({"members": members, "scope": "lab", **more}).encode())}


MEMBER = {"name": "n1", "role": "leader", "state": "running", "api_url": "http://192.0.2.1:8008/patroni"}


def test_target_groups(upstream: Upstream, client: FlaskClient) -> None:
    tags = {"nofailover": True, "zone-A": "b c", "zone.A": "other", "ü": 1, "empty": ""}
    upstream.serve(
        cluster(
            {**MEMBER, "host": "192.0.2.1", "port": 5432, "timeline": 7, "tags": tags},
            {"name": "n2", "role": "replica", "api_url": "https://[fd00::2]:8008/patroni", "timeline": "unknown"},
            {"name": "n3", "role": "replica", "state": "starting"},
            *(
                {"name": url, "role": "replica", "api_url": url}
                for url in ("http://[::1", "http://", "n6:8008", "x://h")
            ),
        )
    )
    response = sd(client, upstream.url)
    assert (response.status_code, response.content_type) == (200, "application/json")
    leader = {
        "scope": "lab",
        "name": "n1",
        "role": "leader",
        "state": "running",
        "timeline": "7",
        "host": "192.0.2.1",
        "port": "5432",
        "scheme": "http",
        "tag_nofailover": "true",
        "tag_zone_A": "b c",
        "tag__": "1",
        "cluster_view": "false",
    }
    replica = {"scope": "lab", "name": "n2", "role": "replica", "scheme": "https", "cluster_view": "true"}
    assert response.json == [
        {"targets": [address], "labels": {f"__meta_patroni_{name}": value for name, value in labels.items()}}
        for address, labels in (("192.0.2.1:8008", leader), ("[fd00::2]:8008", replica))
    ]
    assert upstream.paths == ["/cluster"]


@pytest.mark.parametrize("version", VERSIONS)
def test_recorded_versions(version: str, upstream: Upstream, client: FlaskClient) -> None:
    """Before Patroni 3.2 /cluster does not have the scope, and /patroni is requested too."""
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


def test_cluster_without_members(upstream: Upstream, client: FlaskClient) -> None:
    upstream.serve(cluster())
    assert (sd(client, upstream.url).status_code, sd(client, upstream.url).json) == (200, [])


def test_first_response_counts(upstream: Upstream, client: FlaskClient) -> None:
    """All targets are requested at once, each one once."""
    upstream.serve(cluster(MEMBER))
    with Odd(silent) as hung:
        start = time.monotonic()
        response = sd(client, hung.url, "http://127.0.0.1:1", upstream.url, hung.url, upstream.url)
        assert time.monotonic() - start < 2
        assert until(lambda: hung.connections) == 1
    assert [group["targets"] for group in response.json or ()] == [["192.0.2.1:8008"]]
    assert upstream.paths == ["/cluster"]


def test_all_targets_fail(upstream: Upstream, client: FlaskClient) -> None:
    upstream.serve({"/cluster": Answer(503, b'{"patroni": {}}')})
    response = sd(client, "http://127.0.0.1:1", upstream.url)
    prefix, _, reasons = response.text.strip().partition(": ")
    assert (response.status_code, response.headers["Retry-After"], prefix) == (
        503,
        "1",
        "no target returned its cluster",
    )
    assert sorted(reasons.split("; ")) == [
        "http://127.0.0.1:1: no connection: connection refused",
        f"{upstream.url}: this version of Patroni has no /cluster",
    ]


def test_refresh_interval_is_the_deadline(client: FlaskClient) -> None:
    with Odd(silent) as hung:
        headers = {"X-Prometheus-Refresh-Interval-Seconds": "0.4"}
        response = client.get(f"/sd?module=patroni&target={hung.url}", headers=headers)
        reason = rf"no target returned its cluster: {hung.url}: no response within 0\.(1\d*|2) s\n"
        assert response.status_code == 503
        assert re.fullmatch(reason, response.text)


def test_scope_is_not_known(upstream: Upstream, client: FlaskClient) -> None:
    upstream.serve(cluster(MEMBER, scope=None))
    response = sd(client, upstream.url)
    reason = f"no target returned its cluster: {upstream.url}: the scope of its cluster is not known\n"
    assert (response.status_code, response.text) == (503, reason)


NO_TARGET = "expected one or more parameters target, each a node of the cluster: module patroni has no discovery"
EMPTY = "expected the parameter target to be a node of the cluster, found an empty one"
NOT_ALLOWED = "target 127.0.0.2:8008 is not among the targets of this module"


@pytest.mark.parametrize(
    ("query", "status", "sentence"),
    [
        ("", 400, "expected one parameter module, the name of a module in the modules file"),
        ("?module=other&target=127.0.0.1", 400, "unknown module 'other': it is not in the modules file"),
        ("?module=status&target=a", 400, "module status is for Staytus, which has no members to discover"),
        ("?module=patroni", 400, NO_TARGET),
        ("?module=patroni&target=", 400, EMPTY),
        (
            "?module=patroni" + "".join(f"&target=10.0.0.{number}" for number in range(51)),
            400,
            "expected at most 50 parameters target, found 51",
        ),
        ("?module=patroni&target=127.0.0.1&target=127.0.0.2", 403, NOT_ALLOWED),
    ],
    ids=["no module", "unknown module", "Staytus", "no target", "empty target", "51 targets", "not allowed"],
)
def test_rejected_request(client: FlaskClient, query: str, status: int, sentence: str) -> None:
    response = client.get(f"/sd{query}")
    assert (response.status_code, response.text, response.mimetype) == (status, sentence + "\n", "text/plain")
