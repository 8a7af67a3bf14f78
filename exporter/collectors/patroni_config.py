"""The dynamic configuration of a Patroni cluster: `GET /config`, of which only what is needed is ever exported."""

import hashlib
import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from exporter.collectors.base import Collector, Family, Number, gauge, stateset
from exporter.collectors.document import Answer
from exporter.collectors.patroni import SCOPE, SCOPE_NAME, counting

T = TypeVar("T")

# Model ----------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Config:
    """The configuration; None means that it is not set. `remarks` tell of values that Patroni cannot use either."""

    ttl: float | None
    loop_wait: float | None
    retry_timeout: float | None
    maximum_lag_on_failover: float | None
    maximum_lag_on_syncnode: float | None
    primary_start_timeout: float | None
    synchronous_mode: str | None
    synchronous_mode_strict: bool | None
    synchronous_node_count: float | None
    failsafe_mode: bool | None
    standby_cluster: bool | None
    hash: int
    remarks: tuple[str, ...]


# parse ----------------------------------------------------------------------------------------------------------------


def parse(answer: Answer) -> Config:
    """Returns the configuration.

    Raises ParseError when the answer is no configuration. Whoever writes it can write anything, so that a value of
    another type is remarked and not an error.
    """
    values = dict(counting(answer).fields())
    remarks: list[str] = []

    def number(*keys: str) -> float | None:
        return _read(values, keys, _number, "a number", remarks)

    def flag(key: str) -> bool | None:
        return _read(values, (key,), _flag, "true or false", remarks)

    return Config(
        ttl=number("ttl"),
        loop_wait=number("loop_wait"),
        retry_timeout=number("retry_timeout"),
        maximum_lag_on_failover=number("maximum_lag_on_failover"),
        maximum_lag_on_syncnode=number("maximum_lag_on_syncnode"),
        primary_start_timeout=number("primary_start_timeout", "master_start_timeout"),  # the latter until Patroni 4.0
        synchronous_mode=_read(values, ("synchronous_mode",), _mode, "true, false or quorum", remarks),
        synchronous_mode_strict=flag("synchronous_mode_strict"),
        synchronous_node_count=number("synchronous_node_count"),
        failsafe_mode=flag("failsafe_mode"),
        standby_cluster=_read(values, ("standby_cluster",), _standby_cluster, "an object", remarks),
        hash=_hash(values),
        remarks=tuple(remarks),
    )


def _read(
    values: dict[str, object],
    keys: tuple[str, ...],
    read: Callable[[object], T | None],
    expected: str,
    remarks: list[str],
) -> T | None:
    """Returns what is read from the first of the keys that is set."""
    key = next((key for key in keys if values.get(key) is not None), None)
    if key is None:
        return None
    value = read(values[key])
    if value is None:
        remarks.append(f"{key}, which is not {expected}")
    return value


def _number(value: object) -> float | None:
    """Follows patroni/utils.py, where a number can also stand in quotes."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def _flag(value: object) -> bool | None:
    """Follows parse_bool of patroni/utils.py."""
    word = str(value).lower() if isinstance(value, bool | int | str) else ""
    return True if word in ("on", "true", "1", "yes") else False if word in ("off", "false", "0", "no") else None


def _mode(value: object) -> str | None:
    if isinstance(value, str) and value.lower() == "quorum":
        return "quorum"
    flag = _flag(value)
    return None if flag is None else "on" if flag else "off"


def _standby_cluster(value: object) -> bool | None:
    """Follows patroni/global_config.py: a standby cluster is one that names from where it replicates."""
    if not isinstance(value, dict):
        return None
    return any(value.get(key) for key in ("host", "port", "restore_command"))


def _hash(values: dict[str, object]) -> int:
    """Returns a number that a float holds to the last digit, whatever the order of the keys."""
    digest = hashlib.sha256(json.dumps(values, sort_keys=True).encode()).digest()
    return int.from_bytes(digest[:6])


# FAMILIES -------------------------------------------------------------------------------------------------------------


def _set(name: str, help: str, value: Callable[[Config], Number], *, since: str = "") -> Family[Config]:
    return gauge(name, f"{help}; absent when it is not set.", value, subject=SCOPE, since=since)


FAMILIES: tuple[Family[Config], ...] = (
    gauge(
        "patroni_failsafe_mode_enabled",
        "1 when failsafe mode is switched on in the dynamic configuration, else 0.",
        lambda config: config.failsafe_mode or False,
        subject=SCOPE_NAME,
        since="3.0.0",
    ),
    _set(
        "patroni_config_ttl_seconds",
        "Seconds that the leader lock lives without being renewed",
        lambda config: config.ttl,
    ),
    _set(
        "patroni_config_loop_wait_seconds",
        "Seconds that Patroni sleeps between two looks at its cluster",
        lambda config: config.loop_wait,
    ),
    _set(
        "patroni_config_retry_timeout_seconds",
        "Seconds that Patroni tries its DCS and PostgreSQL again before it gives up",
        lambda config: config.retry_timeout,
    ),
    _set(
        "patroni_config_maximum_lag_on_failover_bytes",
        "Bytes that a replica can lag and still take part in a leader race",
        lambda config: config.maximum_lag_on_failover,
    ),
    _set(
        "patroni_config_maximum_lag_on_syncnode_bytes",
        "Bytes that a synchronous standby can lag before another one is chosen",
        lambda config: config.maximum_lag_on_syncnode,
    ),
    _set(
        "patroni_config_primary_start_timeout_seconds",
        "Seconds that a primary has to start after a failure before its cluster fails over",
        lambda config: config.primary_start_timeout,
    ),
    stateset(
        "patroni_config_synchronous_mode",
        "1 for the mode of synchronous replication, 0 for the others; absent when it is not set.",
        ("mode",),
        ("off", "on", "quorum"),
        lambda config: [] if config.synchronous_mode is None else [(config.synchronous_mode,)],
        subject=SCOPE,
    ),
    _set(
        "patroni_config_synchronous_mode_strict",
        "1 when commits wait for a synchronous standby even if there is none, else 0",
        lambda config: config.synchronous_mode_strict,
    ),
    _set(
        "patroni_config_synchronous_node_count",
        "How many synchronous standbys Patroni looks for",
        lambda config: config.synchronous_node_count,
    ),
    _set(
        "patroni_config_failsafe_mode",
        "1 when the leader may go on without the DCS if all members agree, else 0",
        lambda config: config.failsafe_mode,
        since="3.0.0",
    ),
    _set(
        "patroni_config_standby_cluster",
        "1 when this cluster replicates from another one, else 0",
        lambda config: config.standby_cluster,
    ),
    gauge(
        "patroni_config_hash",
        "A number that changes when anything in the dynamic configuration does, and only then.",
        lambda config: config.hash,
        subject=SCOPE,
    ),
)

# COLLECTOR ------------------------------------------------------------------------------------------------------------

COLLECTOR = Collector("config", "config", parse, FAMILIES, remarks=lambda config: config.remarks)
