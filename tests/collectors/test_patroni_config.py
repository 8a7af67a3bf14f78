"""GET /config: Patroni stores any value."""

import json

import pytest

from exporter.collectors.document import Answer
from exporter.collectors.patroni_config import COLLECTOR, FAMILIES, Config, parse


def config(**values: object) -> Config:
    return parse(Answer(200, json.dumps(values).encode()))


def samples(model: Config) -> dict[str, dict[tuple[str | None, ...], float]]:
    """All families that have samples, except the hash."""
    every = {family.name: dict(family.samples(model, {"scope": "lab", "name": "n1"})) for family in FAMILIES}
    return {name: rows for name, rows in every.items() if rows and name != "patroni_config_hash"}


def test_unset_values_are_absent() -> None:
    assert samples(config()) == {"patroni_failsafe_mode_enabled": {(): 0.0}}
    assert samples(config(ttl=None, standby_cluster=None)) == samples(config())


def test_set_values() -> None:
    model = config(
        ttl=30,
        loop_wait="10",
        retry_timeout=10.5,
        maximum_lag_on_failover=1048576,
        maximum_lag_on_syncnode=-1,
        primary_start_timeout=300,
        synchronous_mode="quorum",
        synchronous_mode_strict="on",
        synchronous_node_count=2,
        failsafe_mode=True,
        standby_cluster={"host": "h"},
    )
    assert samples(model) == {
        "patroni_failsafe_mode_enabled": {(): 1.0},
        "patroni_config_ttl_seconds": {(): 30.0},
        "patroni_config_loop_wait_seconds": {(): 10.0},
        "patroni_config_retry_timeout_seconds": {(): 10.5},
        "patroni_config_maximum_lag_on_failover_bytes": {(): 1048576.0},
        "patroni_config_maximum_lag_on_syncnode_bytes": {(): -1.0},
        "patroni_config_primary_start_timeout_seconds": {(): 300.0},
        "patroni_config_synchronous_mode": {("off",): 0.0, ("on",): 0.0, ("quorum",): 1.0},
        "patroni_config_synchronous_mode_strict": {(): 1.0},
        "patroni_config_synchronous_node_count": {(): 2.0},
        "patroni_config_failsafe_mode": {(): 1.0},
        "patroni_config_standby_cluster": {(): 1.0},
    }
    assert list(COLLECTOR.warnings(model)) == []


def test_master_start_timeout_before_patroni_4() -> None:
    assert config(master_start_timeout=7).primary_start_timeout == 7.0
    assert config(master_start_timeout=7, primary_start_timeout=8).primary_start_timeout == 8.0


@pytest.mark.parametrize(
    ("value", "mode"),
    [(True, "on"), (False, "off"), ("on", "on"), ("off", "off"), ("Quorum", "quorum"), (1, "on"), ("maybe", None)],
)
def test_synchronous_mode(value: object, mode: str | None) -> None:
    assert config(synchronous_mode=value).synchronous_mode == mode


@pytest.mark.parametrize(
    ("value", "is_standby"),
    [
        ({"host": "h"}, True),
        ({"port": 5432}, True),
        ({"restore_command": "cp"}, True),
        ({"host": "", "create_replica_methods": ["basebackup"]}, False),
        ({}, False),
    ],
)
def test_standby_cluster(value: object, is_standby: bool) -> None:
    assert config(standby_cluster=value).standby_cluster is is_standby


def test_invalid_values_are_absent_with_a_warning() -> None:
    model = config(
        ttl="secret",
        loop_wait=True,
        retry_timeout="inf",
        synchronous_mode="secret",
        failsafe_mode=[],
        standby_cluster="secret",
        master_start_timeout={},
    )
    assert samples(model) == samples(config())
    assert list(COLLECTOR.warnings(model)) == [
        "ttl: expected a number, found a string",
        "loop_wait: expected a number, found True",
        "retry_timeout: expected a number, found a string",
        "master_start_timeout: expected a number, found an object",
        "synchronous_mode: expected a boolean or 'quorum', found a string",
        "failsafe_mode: expected a boolean, found an array",
        "standby_cluster: expected an object, found a string",
    ]


def test_number_beyond_the_range_of_a_float_is_invalid() -> None:
    assert list(COLLECTOR.warnings(config(ttl=10**400))) == [f"ttl: expected a number, found 1{'0' * 39}"]


def test_hash_changes_only_with_the_configuration() -> None:
    one = config(ttl=30, postgresql={"parameters": {"a": "1", "b": "2"}})
    assert one.hash == config(postgresql={"parameters": {"b": "2", "a": "1"}}, ttl=30).hash
    assert one.hash != config(ttl=30, postgresql={"parameters": {"a": "1", "b": "3"}}).hash
    assert one.hash == int(float(one.hash))
