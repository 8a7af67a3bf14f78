"""GET /patroni: Patroni's own /metrics at the same moment, and what the recordings do not contain."""

import json

import pytest
from prometheus_client.parser import text_string_to_metric_families

from exporter.collectors import patroni_node
from exporter.collectors.document import Answer
from exporter.collectors.patroni import version_number
from exporter.collectors.patroni_node import OWN_FAMILIES, STATES, Node, Standby, parse
from tests.conftest import COMPARED
from tests.recorded import VERSIONS, Moment, moment, moments, samples

#: Patroni pages that cannot be parsed: `patroni_postgres_timeline{…} None`, fixed in 3.3.3 and 4.0.2.
INVALID = {"2.1.7 timeline-null n2", "3.0.4 timeline-null n2"}

UNLOCKED = {"patroni_cluster_unlocked"}
STOPPED = {
    *("patroni_postgres_running", "patroni_postmaster_start_time", "patroni_postgres_server_version"),
    *("patroni_postgres_timeline", "patroni_postgres_state"),
}
REPLAYING = {"patroni_xlog_received_location", "patroni_xlog_replayed_location"}

#: Recordings whose node changed between the responses to /patroni and /metrics, and the families that differ.
MOVED = {
    "3.3.11 switchover-during-02 n1": UNLOCKED,
    "3.3.11 switchover-during-02 n2": UNLOCKED,
    "3.3.11 switchover-during-02 n3": UNLOCKED,
    "4.0.11 lag n1": {"patroni_xlog_location"},
    "4.0.11 lag n2": {"patroni_xlog_received_location"},
    "4.0.11 leader-killed-during-01 n2": {"patroni_postgres_streaming"},
    "4.0.11 leader-killed-during-03 n2": UNLOCKED,
    "4.0.11 leader-killed-during-03 n3": UNLOCKED,
    "4.0.11 switchover-during-03 n3": UNLOCKED,
    "4.1.5 bootstrap-06 n1": UNLOCKED,
    "4.1.5 postgres-crash-leader-01 n1": STOPPED | {"patroni_xlog_location"},
    "4.1.5 postgres-crash-leader-01 n2": {"patroni_postgres_streaming"},
    "4.1.5 postgres-crash-leader-02 n1": STOPPED | {"patroni_xlog_location"},
    "4.1.5 postgres-crash-replica-01 n3": STOPPED | REPLAYING | {"patroni_postgres_streaming"},
    "4.1.5 restart-during-01 n1": STOPPED - {"patroni_postgres_running", "patroni_postgres_state"}
    | {"patroni_xlog_location"},
    "4.1.5 restart-during-01 n2": REPLAYING,
    "4.1.5 switchover-during-06 n2": UNLOCKED,
}

Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


def read_samples(text: str) -> Samples:
    """The samples of an exposition by name and labels; an empty label is a missing label, as in Prometheus."""
    return {
        (sample.name, tuple(sorted((label, value) for label, value in sample.labels.items() if value))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def differences(moment: Moment) -> set[str]:
    """The families of Patroni's own page without a sample of ours with the same name, labels and value."""
    ours = read_samples(samples("patroni", (patroni_node.COLLECTOR, moment.answers["/patroni"])))
    differing = set()
    for key, value in read_samples(moment.answers["/metrics"].body.decode()).items():
        # /metrics was requested about a second after /patroni; the HA loop may have run in between.
        tolerance = 10 if key[0] == "patroni_dcs_last_seen" else 0
        if key not in ours or abs(ours[key] - value) > tolerance:
            differing.add(key[0])
    return differing


@pytest.mark.parametrize("version", [version for version in VERSIONS if not version.startswith(("1.", "2.0"))])
def test_same_samples_as_patroni(version: str) -> None:
    found, expected = {}, {}
    for recorded in moments(version):
        if "/metrics" not in recorded.answers or str(recorded) in INVALID:
            continue
        COMPARED[version] += 1
        if differing := differences(recorded):
            found[str(recorded)] = differing
        if str(recorded) in MOVED:
            expected[str(recorded)] = MOVED[str(recorded)]
    assert COMPARED[version] > 0
    assert found == expected


@pytest.mark.parametrize("name", sorted(INVALID))
def test_zero_where_the_page_of_patroni_is_invalid(name: str) -> None:
    recorded = moment(*name.split())
    own = recorded.answers["/metrics"].body.decode()
    assert 'patroni_postgres_timeline{scope="lab"} None\n' in own
    with pytest.raises(ValueError, match="None"):
        read_samples(own)
    rest = own.replace('patroni_postgres_timeline{scope="lab"} None\n', 'patroni_postgres_timeline{scope="lab"} 0\n')
    valid = Moment(
        recorded.version, recorded.state, recorded.node, {**recorded.answers, "/metrics": Answer(200, rest.encode())}
    )
    assert differences(valid) == set()


@pytest.mark.parametrize("version", VERSIONS)
def test_every_recording_has_all_own_families(version: str) -> None:
    for recorded in moments(version):
        if "/patroni" in recorded.answers:
            ours = read_samples(samples("patroni", (patroni_node.COLLECTOR, recorded.answers["/patroni"])))
            assert {family.name for family in OWN_FAMILIES} <= {name for name, _ in ours}


def node(**changes: object) -> Node:
    """The recorded leader of 4.1.5 with changed keys; None removes a key."""
    document = json.loads(moment("4.1.5", "healthy-async", "n1").answers["/patroni"].body)
    document.update(changes)
    document = {key: value for key, value in document.items() if value is not None}
    return parse(Answer(200, json.dumps(document).encode()))


def value(family: str, model: Node) -> list[float]:
    return [number for row in patroni_node.FAMILIES if row.name == family for _, number in row.samples(model, {})]


def test_status_503_is_parsed() -> None:
    answer = moment("4.1.5", "healthy-async", "n2").answers["/patroni"]
    assert parse(Answer(503, answer.body)) == parse(answer)


@pytest.mark.parametrize(("role", "primary"), [("master", 1.0), ("primary", 1.0), ("replica", 0.0), ("demoted", 0.0)])
def test_primary_and_master_are_the_same(role: str, primary: float) -> None:
    model = node(role=role)
    assert (value("patroni_primary", model), value("patroni_master", model)) == ([primary], [primary])


def test_role_is_exported_as_reported() -> None:
    info = next(family for family in patroni_node.FAMILIES if family.name == "patroni_patroni_info")
    assert list(info.samples(node(role="master"), {})) == [(("4.1.5", "lab", "n1", "master", "running"), 1.0)]


@pytest.mark.parametrize(
    ("tags", "priority"),
    [
        (None, 1),
        ({}, 1),
        ({"nofailover": True}, 0),
        ({"nofailover": True, "failover_priority": 7}, 0),
        ({"failover_priority": 7}, 7),
        ({"failover_priority": 0}, 0),
        ({"failover_priority": "7"}, 7),
        ({"failover_priority": "high"}, 1),
        ({"failover_priority": True}, 1),
        ({"failover_priority": " -7 "}, -7),
        ({"failover_priority": 10**18 - 1}, 10**18 - 1),
        ({"failover_priority": 10**18}, 1),
    ],
)
def test_failover_priority(tags: object, priority: int) -> None:
    assert node(tags=tags).failover_priority == priority


@pytest.mark.parametrize(("number", "state"), [*enumerate(STATES), (0, "initalizing new cluster"), (-1, "new state")])
def test_state_number(number: int, state: str) -> None:
    assert value("patroni_postgres_state", node(state=state)) == [number]


@pytest.mark.parametrize(
    ("version", "number"), [("4.1.5", 40105), ("1.6", 10600), ("4.1.0.dev1", 40100), ("10.20.30", 102030)]
)
def test_version_number(version: str, number: int) -> None:
    assert version_number(version) == number


def test_version_that_is_not_numeric() -> None:
    assert value("patroni_version", node(patroni={"version": "main", "scope": "lab"})) == []


def test_identical_standbys_are_one_sample() -> None:
    row = dict(zip(Standby._fields, ("replicator", "pg_basebackup", None, "backup", "sync", 1), strict=True))
    standby = Standby("replicator", "pg_basebackup", "", "backup", "sync", "1")
    assert node(replication=[row, row]).replication == (standby,)


def test_problems_are_absent_unless_reported() -> None:
    families = ("patroni_watchdog_failed", "patroni_logger_records_lost")
    assert [value(family, node()) for family in families] == [[], []]
    assert [value(family, node(watchdog_failed=True, logger_records_lost=7)) for family in families] == [[1.0], [7.0]]


def test_certificate() -> None:
    body = moment("4.1.5", "healthy-async", "n1").answers["/patroni"].body
    models = [parse(Answer(200, body, certificate_not_after=seconds)) for seconds in (7.0, None)]
    family = "patroni_tls_certificate_not_after_timestamp_seconds"
    assert [value(family, model) for model in models] == [[7.0], []]


def test_postgresql_info_with_missing_values() -> None:
    info = next(family for family in patroni_node.FAMILIES if family.name == "patroni_postgresql_info")
    assert list(info.samples(node(server_version=None), {})) == [(("", "7710421396321073731"), 1.0)]
    assert list(info.samples(node(server_version=None, database_system_identifier=None), {})) == []


def test_new_keys_are_ignored() -> None:
    assert node(tomorrow={"anything": [1, {}]}) == node()
