"""The dynamic configuration of a Patroni cluster: `GET /config`. Only values that are needed are exported."""

import hashlib
import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from exporter.collectors.base import Collector, Family, Number, gauge, stateset, with_labels
from exporter.collectors.document import Answer, kind_of
from exporter.collectors.patroni import SCOPE, SCOPE_NAME, require_ok

T = TypeVar("T")

# Model


@dataclass(frozen=True)
class Config:
    """The configuration; None means not set or not valid."""

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
    warnings: tuple[str, ...]


def parse(answer: Answer) -> Config:
    """Returns the configuration, with a warning for each value that is not valid: Patroni stores any value.

    Raises ParseError if the document is not an object.
    """
    values = dict(require_ok(answer, "1.0.0").fields())
    warnings: list[str] = []

    def read(key: str, convert: Callable[[object], T | None], expected: str) -> T | None:
        if (value := values.get(key)) is None:
            return None
        if (converted := convert(value)) is None:
            warnings.append(f"{key}: expected {expected}, found {kind_of(value)}")
        return converted

    def number(key: str) -> float | None:
        return read(key, _number, "a number")

    def flag(key: str) -> bool | None:
        return read(key, _flag, "a boolean")

    old_name = "master_start_timeout"  # until Patroni 4.0
    return Config(
        ttl=number("ttl"),
        loop_wait=number("loop_wait"),
        retry_timeout=number("retry_timeout"),
        maximum_lag_on_failover=number("maximum_lag_on_failover"),
        maximum_lag_on_syncnode=number("maximum_lag_on_syncnode"),
        primary_start_timeout=number(
            old_name if values.get("primary_start_timeout") is None else "primary_start_timeout"
        ),
        synchronous_mode=read("synchronous_mode", synchronous_mode, "a boolean or 'quorum'"),
        synchronous_mode_strict=flag("synchronous_mode_strict"),
        synchronous_node_count=number("synchronous_node_count"),
        failsafe_mode=flag("failsafe_mode"),
        standby_cluster=read("standby_cluster", standby_cluster, "an object"),
        hash=_hash(values),
        warnings=tuple(warnings),
    )


def _number(value: object) -> float | None:
    """Returns a number, which can be a string as in parse_int of patroni/utils.py."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def _flag(value: object) -> bool | None:
    """Returns a boolean as parse_bool of patroni/utils.py does."""
    word = str(value).lower() if isinstance(value, bool | int | str) else ""
    return True if word in ("on", "true", "1", "yes") else False if word in ("off", "false", "0", "no") else None


def synchronous_mode(value: object) -> str | None:
    """Returns "off", "on" or "quorum", or None for any other value, as patroni/global_config.py reads it."""
    if isinstance(value, str) and value.lower() == "quorum":
        return "quorum"
    return {True: "on", False: "off", None: None}[_flag(value)]


def standby_cluster(value: object) -> bool | None:
    """Returns whether the cluster is a standby cluster as patroni/global_config.py does: it needs a source."""
    if not isinstance(value, dict):
        return None
    return any(value.get(key) for key in ("host", "port", "restore_command"))


def _hash(values: dict[str, object]) -> int:
    """Returns 48 bits, which a float holds exactly; the order of the keys does not matter."""
    digest = hashlib.sha256(json.dumps(values, sort_keys=True).encode()).digest()
    return int.from_bytes(digest[:6])


# Families


def _set(name: str, help: str, value: Callable[[Config], Number], since: str = "") -> Family[Config]:
    return gauge(name, f"{help}; absent if not set.", value, since)


#: The name and labels of Patroni's own family.
OWN_FAMILIES: tuple[Family[Config], ...] = with_labels(
    SCOPE_NAME,
    gauge("patroni_failsafe_mode_enabled", "1 if failsafe mode is enabled in the dynamic configuration, 0 otherwise.",
        lambda config: config.failsafe_mode or False, "3.0.0"),
)  # fmt: skip

FAMILIES: tuple[Family[Config], ...] = OWN_FAMILIES + with_labels(
    SCOPE,
    _set("patroni_config_ttl_seconds", "TTL of the leader lock in seconds", lambda config: config.ttl),
    _set("patroni_config_loop_wait_seconds", "Seconds that Patroni sleeps between two runs of its HA loop",
        lambda config: config.loop_wait),
    _set("patroni_config_retry_timeout_seconds", "Timeout for retries of DCS and PostgreSQL operations in seconds",
        lambda config: config.retry_timeout),
    _set("patroni_config_maximum_lag_on_failover_bytes", "Maximum lag in bytes of a replica that can become the leader",
        lambda config: config.maximum_lag_on_failover),
    _set("patroni_config_maximum_lag_on_syncnode_bytes",
        "Maximum lag in bytes of a synchronous standby before Patroni replaces it",
        lambda config: config.maximum_lag_on_syncnode),
    _set("patroni_config_primary_start_timeout_seconds",
        "Seconds that a failed primary has to start before Patroni fails over",
        lambda config: config.primary_start_timeout),
    stateset("patroni_config_synchronous_mode",
        "1 for the mode of synchronous replication, 0 for the other modes; absent if not set.",
        ("mode",), ("off", "on", "quorum"),
        lambda config: [] if config.synchronous_mode is None else [(config.synchronous_mode,)]),
    _set("patroni_config_synchronous_mode_strict",
        "1 if the primary blocks writes when there is no synchronous standby, 0 otherwise",
        lambda config: config.synchronous_mode_strict),
    _set("patroni_config_synchronous_node_count", "Number of synchronous standbys that Patroni tries to maintain",
        lambda config: config.synchronous_node_count),
    _set("patroni_config_failsafe_mode", "1 if failsafe mode is enabled, 0 otherwise",
        lambda config: config.failsafe_mode, "3.0.0"),
    _set("patroni_config_standby_cluster", "1 if this cluster is a standby cluster, 0 otherwise",
        lambda config: config.standby_cluster),
    gauge("patroni_config_hash",
        "Hash of the dynamic configuration as a number; it changes if and only if the configuration changes.",
        lambda config: config.hash),
)  # fmt: skip

COLLECTOR = Collector("config", "config", parse, FAMILIES, warnings=lambda config: config.warnings)
