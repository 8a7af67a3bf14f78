"""The exporter's own families on /metrics: its version, the modules file, and what its limits refused."""

import platform
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from exporter.config.modules_file import ModulesFile
from exporter.upstream.client import Client
from exporter.version import __version__
from exporter.web.auth import PasswordCache
from exporter.web.limit import ConcurrencyLimit, closed_connections
from exporter.web.rate_limit import RateLimiter


@dataclass(frozen=True)
class Sources:
    """The parts of the application that have something to report; None where a part is not configured."""

    client: Client
    probes: ConcurrencyLimit
    file: ModulesFile | None = None
    passwords: PasswordCache | None = None
    limiter: RateLimiter | None = None


#: The values of a family by the values of its labels; None leaves the family out.
Values = Mapping[tuple[str, ...], float] | None


@dataclass(frozen=True)
class OwnFamily:
    """A row of the exporter's own families: a counter if the name ends in `_total`, else a gauge."""

    name: str
    help: str
    values: Callable[[Sources], Values]
    labels: tuple[str, ...] = ()

    @property
    def type(self) -> str:
        """The type of the family."""
        return "counter" if self.name.endswith("_total") else "gauge"

    def metric(self, values: Mapping[tuple[str, ...], float]) -> Metric:
        """Returns the family with its samples as prometheus_client represents them."""
        kind = CounterMetricFamily if self.type == "counter" else GaugeMetricFamily
        metric = kind(self.name, self.help, labels=self.labels)
        for labels, number in values.items():
            metric.add_metric(labels, number)
        return metric


def _build_info(_: Sources) -> Values:
    return {(__version__, platform.python_version()): 1.0}


def _reload_succeeded(sources: Sources) -> Values:
    return {(): float(sources.file.failure is None)} if sources.file else None


def _reloaded_at(sources: Sources) -> Values:
    return {(): sources.file.loaded_at} if sources.file else None


def _by_reason(counter: Mapping[str, float]) -> Values:
    return {(reason,): count for reason, count in counter.items()}


def _renamed(name: str, help: str, values: Callable[[Sources], Values], *labels: str) -> tuple[OwnFamily, OwnFamily]:
    """Returns a family under its present name and under its first one, which had a shorter prefix."""
    present = f"patroni_staytus_{name}"
    return (
        OwnFamily(present, f"{help}.", values, labels),
        OwnFamily(name, f"{help}. Replaced by {present}.", values, labels),
    )


OWN_FAMILIES: tuple[OwnFamily, ...] = (
    *_renamed(
        "exporter_build_info",
        "1, with the version of this exporter and of its Python",
        _build_info,
        "version",
        "pythonversion",
    ),
    *_renamed(
        "exporter_config_last_reload_successful",
        "1 if the last reload of the modules file succeeded, 0 otherwise; absent without a modules file",
        _reload_succeeded,
    ),
    *_renamed(
        "exporter_config_last_reload_success_timestamp_seconds",
        "When the modules file was last loaded, in Unix seconds; absent without a modules file",
        _reloaded_at,
    ),
    OwnFamily(
        "patroni_staytus_exporter_requests_in_flight",
        "Requests to Patroni and Staytus that have not ended, also those that no scrape waits for any more.",
        lambda sources: {(): sources.client.in_flight},
    ),
    OwnFamily(
        "patroni_staytus_exporter_requests_refused_total",
        "Requests to Patroni and Staytus that were not sent because too many were in flight: to the same host and port "
        "(host), or in this process (total).",
        lambda sources: _by_reason(sources.client.refused),
        ("reason",),
    ),
    OwnFamily(
        "patroni_staytus_exporter_requests_abandoned_total",
        "Requests to Patroni and Staytus whose connection was closed because they were not answered within a minute.",
        lambda sources: {(): sources.client.abandoned},
    ),
    OwnFamily(
        "patroni_staytus_exporter_probes_refused_total",
        "Requests of /probe and /sd with status 503: EXPORTER_PROBES of them were being served (probes), or too many "
        "requests to Patroni and Staytus were in flight (requests).",
        lambda sources: _by_reason(sources.probes.refused),
        ("reason",),
    ),
    OwnFamily(
        "patroni_staytus_exporter_connections_closed_total",
        "Connections of clients that gunicorn's worker closed: at the deadline of a TLS handshake, a request or a "
        "response, and the oldest one at the limit of connections or of memory for responses.",
        lambda _: _by_reason(closed_connections),
        ("reason",),
    ),
    OwnFamily(
        "patroni_staytus_exporter_logins_refused_total",
        "Requests without a login (missing), with a wrong one (wrong), and with one that was not verified because too "
        "many were waiting (busy); absent without a web configuration file.",
        lambda sources: _by_reason(sources.passwords.refused) if sources.passwords else None,
        ("reason",),
    ),
    OwnFamily(
        "patroni_staytus_exporter_http_requests_rate_limited_total",
        "Requests refused by the rate_limit of the web configuration file; absent without this file.",
        lambda sources: {(): sources.limiter.refused} if sources.limiter else None,
    ),
)


class OwnCollector(Collector):
    """Collects the exporter's own families; describing them reads nothing."""

    def __init__(self, sources: Sources) -> None:
        self._sources = sources

    def describe(self) -> Iterator[Metric]:
        return (family.metric({}) for family in OWN_FAMILIES)

    def collect(self) -> Iterator[Metric]:
        if self._sources.file:
            self._sources.file.get()  # reloads a changed file
        for family in OWN_FAMILIES:
            values = family.values(self._sources)
            if values is not None:
                yield family.metric(values)
