"""The exporter's own families on /metrics: its version, the modules file, and what its limits refused."""

import platform
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from exporter.collectors.base import Family, Names, Number, Values, gauge, gauges
from exporter.config.modules_file import ModulesFile
from exporter.discovery.state import DiscoveryState, Summary
from exporter.scrape.families import labels_of, metric_of
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
    discovery: DiscoveryState | None = None
    passwords: PasswordCache | None = None
    limiter: RateLimiter | None = None


def _file(sources: Sources, value: Callable[[ModulesFile], float]) -> list[tuple[Values, Number]]:
    return [((), value(sources.file))] if sources.file else []


def _by_reason(counter: Mapping[str, int]) -> list[tuple[Values, Number]]:
    return [((reason,), count) for reason, count in counter.items()]


def _by_module(sources: Sources, value: Callable[[Summary], int]) -> list[tuple[Values, Number]]:
    summaries = sources.discovery.summaries() if sources.discovery else {}
    return [((module,), value(summary)) for module, summary in summaries.items()]


def _renamed(
    name: str, help: str, labels: Names, values: Callable[[Sources], Iterable[tuple[Values, Number]]]
) -> Iterator[Family[Sources]]:
    """Returns a family under its present name and under its first one, which had a shorter prefix."""
    present = f"patroni_staytus_{name}"
    yield gauges(present, f"{help}.", labels, values)
    yield gauges(name, f"{help}. Replaced by {present}.", labels, values)


#: A family without a sample is left out.
OWN_FAMILIES: tuple[Family[Sources], ...] = (
    *_renamed("exporter_build_info", "1, with the version of this exporter and of its Python",
        ("version", "pythonversion"), lambda _: [((__version__, platform.python_version()), 1)]),
    *_renamed("exporter_config_last_reload_successful",
        "1 if the last reload of the modules file succeeded, 0 otherwise; absent without a modules file", (),
        lambda sources: _file(sources, lambda file: file.failure is None)),
    *_renamed("exporter_config_last_reload_success_timestamp_seconds",
        "When the modules file was last loaded, in Unix seconds; absent without a modules file", (),
        lambda sources: _file(sources, lambda file: file.loaded_at)),
    gauge("patroni_staytus_exporter_requests_in_flight",
        "Requests to Patroni and Staytus that have not ended, also those that no scrape waits for any more.",
        lambda sources: sources.client.in_flight),
    gauges("patroni_staytus_exporter_requests_refused_total",
        "Requests to Patroni and Staytus that were not sent because too many were in flight: to the same host and port "
        "(host), or in this process (total).", ("reason",), lambda sources: _by_reason(sources.client.refused)),
    gauge("patroni_staytus_exporter_requests_abandoned_total",
        "Requests to Patroni and Staytus whose connection was closed because they were not answered within a minute.",
        lambda sources: sources.client.abandoned),
    gauges("patroni_staytus_exporter_probes_refused_total",
        "Requests of /probe and /sd with status 503: EXPORTER_PROBES of them were being served (probes), or too many "
        "requests to Patroni and Staytus were in flight (requests).",
        ("reason",), lambda sources: _by_reason(sources.probes.refused)),
    gauges("patroni_staytus_exporter_discovery_clusters",
        "Clusters that /sd knows for a module of the modules file.", ("module",),
        lambda sources: _by_module(sources, lambda summary: summary.clusters)),
    gauges("patroni_staytus_exporter_discovery_clusters_stale",
        "Clusters that the last discovery could not find, whose last known members /sd returns.", ("module",),
        lambda sources: _by_module(sources, lambda summary: summary.stale)),
    gauges("patroni_staytus_exporter_discovery_targets_refused",
        "Members that /sd returns whose address the module does not allow, so that /probe refuses them.", ("module",),
        lambda sources: _by_module(sources, lambda summary: summary.refused)),
    gauges("patroni_staytus_exporter_connections_closed_total",
        "Connections of clients that gunicorn's worker closed: at the deadline of a TLS handshake, a request or a "
        "response, and the oldest one at the limit of connections or of memory for responses.",
        ("reason",), lambda _: _by_reason(closed_connections)),
    gauges("patroni_staytus_exporter_logins_refused_total",
        "Requests without a login (missing), with a wrong one (wrong), and with one that was not verified because too "
        "many were waiting (busy); absent without a web configuration file.",
        ("reason",), lambda sources: _by_reason(sources.passwords.refused) if sources.passwords else []),
    gauge("patroni_staytus_exporter_http_requests_rate_limited_total",
        "Requests refused by the rate_limit of the web configuration file; absent without this file.",
        lambda sources: sources.limiter.refused if sources.limiter else None),
)  # fmt: skip


class OwnCollector(Collector):
    """Collects the exporter's own families; describing them reads nothing."""

    def __init__(self, sources: Sources) -> None:
        self._sources = sources

    def describe(self) -> Iterator[Metric]:
        return map(metric_of, OWN_FAMILIES)

    def collect(self) -> Iterator[Metric]:
        if self._sources.file:
            self._sources.file.get()  # reloads a changed file
        for family in OWN_FAMILIES:
            if samples := [(labels_of(family, values), n) for values, n in family.samples(self._sources, {})]:
                yield metric_of(family, samples)
