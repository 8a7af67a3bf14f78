"""The landing page: the state of each module."""

import json
import re
from collections.abc import Mapping

import pytest

from exporter.collectors.document import Answer
from exporter.web.landing import age, iso, postgresql, size
from tests.conftest import Upstream
from tests.limits.scrapes import STAYTUS
from tests.recorded import Moment, moment, moments, staytus
from tests.web.page import LAG, Reader, seen


@pytest.fixture
def lag(upstream: Upstream) -> Reader:
    """The page for a replica that lags."""
    return seen(upstream, LAG)


def test_members(lag: Reader) -> None:
    assert lag.tables["Members of lab"] == [
        ("Member", "Role", "State", "Lag", "Timeline"),
        ("n1 127.0.0.1:18221", "leader", "✓ running", "–", "1"),
        ("n2 127.0.0.1:18222", "replica", "✓ streaming", "0 B 3.7 MiB not replayed", "1"),
        ("n3 127.0.0.1:18223", "replica", "✓ streaming", "3.7 MiB", "1"),
    ]
    assert lag.notices == []


def test_node_and_configuration(upstream: Upstream) -> None:
    page = seen(upstream, {**moment("4.1.5", "history-4-timelines", "n1").answers, **STAYTUS})
    assert page.facts.pop("DCS last seen")[-4:] == " ago"
    assert page.facts.pop("Last timeline switch").startswith("2026-11-21 00:54:24 UTC (")
    assert page.facts == {
        "Cluster": "lab",
        "Role": "primary",
        "PostgreSQL": "running",
        "Patroni version": "4.1.5",
        "PostgreSQL version": "15.18",
        "Timeline": "4",
        "Standbys": "2",
        "Synchronous mode": "off",
        "Failsafe mode": "off",
        "Maximum lag on failover": "1.0 MiB",
        "TTL of the leader lock": "20 s",
    }


def test_services_and_open_issues(lag: Reader) -> None:
    assert lag.tables["Services"] == [
        ("Service", "Status", "Status name"),
        ("Web Application web-application", "✓ ok", "Operational"),
        ("API api", "! minor", "Degraded Performance"),
        ("Public Website public-website", "✗ major", "Major Outage"),
        ("Customer Support customer-support", "! maintenance", "Maintenance"),
    ]
    assert [(*row[:-1], row[-1][:23]) for row in lag.tables["Open issues"]] == [
        ("Issue", "State", "Status", "Updated"),
        ("Slow logins", "monitoring", "degraded-performance", "2026-11-20 23:35:51 UTC"),
        ('Public website unreachable "503" — недоступен', "identified", "major-outage", "2026-11-20 23:35:51 UTC"),
        ("API errors", "investigating", "partial-outage", "2026-11-20 23:35:51 UTC"),
    ]
    assert "admin@example.com" not in lag.text


@pytest.mark.parametrize(
    ("state", "notices"),
    [
        ("healthy-async", []),
        ("paused", ["! paused: the cluster is in maintenance mode, without automatic failover"]),
        ("scheduled", ["! switchover from n1 to n2 is scheduled for 2026-11-22T00:53:19Z"]),
        (
            "dcs-down",
            [
                *(f"✗ {path}: HTTP 404: expected 200" for path in ("cluster", "history", "config")),
                "✗ unlocked: no member holds the leader lock, or this node cannot read it",
            ],
        ),
        ("start-failed", ["✗ PostgreSQL is not running on this node: start failed"]),
    ],
)
def test_notices(upstream: Upstream, state: str, notices: list[str]) -> None:
    node = "n2" if state == "start-failed" else "n1"
    assert seen(upstream, {**moment("4.1.5", state, node).answers, **STAYTUS}).notices == notices


def test_open_issue_without_an_affected_service(upstream: Upstream) -> None:
    ok = json.loads(LAG["/api/v1/services/all"].body)
    ok["data"] = ok["data"][:1]
    page = seen(upstream, {**LAG, "/api/v1/services/all": Answer(200, json.dumps(ok).encode())})
    assert page.notices == ["! an issue is open, but every service is ok"]


def members(*given: Mapping[str, object]) -> Answer:
    """A document with these members."""
    return Answer(200, json.dumps({"scope": "lab", "members": given}).encode())


@pytest.mark.parametrize(
    ("document", "notice"),
    [
        (members({"name": "n1", "role": "replica", "state": "streaming"}), "✗ no leader"),
        (members({"name": "n1", "role": "master", "state": "running"}), "✗ no leader"),
        (
            members({"name": "n1", "role": "leader"}, {"name": "n2", "role": "standby_leader"}),
            "✗ more than one leader: n1, n2",
        ),
    ],
)
def test_number_of_leaders(upstream: Upstream, document: Answer, notice: str) -> None:
    assert seen(upstream, {**LAG, "/cluster": document}).notices == [notice]


def test_member_with_problems(upstream: Upstream) -> None:
    document = members(
        {"name": "n1", "role": "leader", "state": "running", "timeline": 3},
        {
            "name": "n2",
            "role": "tomorrows_role",
            "state": "start failed",
            "timeline": 2,
            "lag": "unknown",
            "pending_restart": True,
            "pending_restart_reason": {"max_connections": {}},
            "tags": {"nofailover": True},
        },
        {"name": "n3"},
    )
    page = seen(upstream, {**LAG, "/cluster": document})
    assert page.tables["Members of lab"][1:] == [
        ("n1", "leader", "✓ running", "–", "3"),
        (
            "n2 nofailover: true",
            "tomorrows role",
            "✗ start failed pending restart: max_connections",
            "unknown",
            "! 2, behind",
        ),
        ("n3", "unknown", "✗ unknown", "unknown", "unknown"),
    ]


def test_table_has_at_most_200_rows(upstream: Upstream) -> None:
    document = members(
        *({"name": f"n{number}", "role": "leader" if not number else "replica"} for number in range(205))
    )
    page = seen(upstream, {**LAG, "/cluster": document})
    assert [row[0] for row in page.tables["Members of lab"][-2:]] == ["n199", "and 5 more"]
    assert len(page.tables["Members of lab"]) == 202


def test_modules_are_down(upstream: Upstream) -> None:
    page = seen(upstream, {"/api/v1/services/all": staytus("auth_invalid_token")})
    up_or_down = re.findall(r"^(patroni|staytus) . (\w+)$", page.text, re.MULTILINE)
    assert up_or_down == [("patroni", "down"), ("staytus", "down")]
    assert page.notices == [
        "✗ patroni: HTTP 404: expected valid JSON, found 25 bytes",
        *(f"✗ {path}: HTTP 404: expected 200" for path in ("cluster", "history", "config", "failsafe")),
        "✗ api/v1/services/all: access-denied: Staytus does not accept this token and secret",
        "✗ api/v1/issues/all: HTTP 404: expected valid JSON, found 25 bytes",
    ]
    assert page.tables == {}


@pytest.mark.parametrize("recorded", [m for v in ("1.6.5", "4.1.5") for m in moments(v) if m.node == "n2"], ids=str)
def test_recorded_moments(upstream: Upstream, recorded: Moment) -> None:
    page = seen(upstream, recorded.answers)
    assert ("Role" in page.facts) == ("/patroni" in recorded.answers)


def test_age() -> None:
    seconds = (None, 1000.0, 1000.9, 881.0, 880.0, 1000.0 - 7200, 1000.0 - 86400 * 30, 1000.0 + 7300)
    texts = ["", "0 s ago", "0 s ago", "119 s ago", "2 min ago", "2 h ago", "30 d ago", "in 2 h"]
    assert [age(second, 1000.0) for second in seconds] == texts


def test_size() -> None:
    texts = ["unknown", "0 B", "1023 B", "1.0 KiB", "3.7 MiB", "8388608.0 TiB"]
    assert [size(number) for number in (None, 0, 1023, 1024, 3928392, 2**63)] == texts


def test_postgresql_version() -> None:
    assert [postgresql(number) for number in (150018, 100023, 90624, 0, None)] == ["15.18", "10.23", "9.6.24", "", ""]


def test_iso() -> None:
    assert [iso(1795222469.5), iso(1e20)] == ["2026-11-21T00:54:29Z", "1e+20"]
