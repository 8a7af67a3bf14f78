"""The exporter's own families on /metrics: its version, the modules file, the discovery, and its counters."""

import platform
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from exporter.collectors.base import Family, Names, Number, Values, gauges
from exporter.config.modules_file import ModulesFile
from exporter.counters import COUNTED, Counted
from exporter.discovery.state import DiscoveryState, Summary
from exporter.scrape.families import labels_of, metric_of
from exporter.version import __version__


@dataclass(frozen=True)
class State:
    """What all workers of the server have in common: the modules file, or None, and what was discovered by module."""

    file: ModulesFile | None
    discovered: Mapping[str, Summary]


def _file(state: State, value: Callable[[ModulesFile], float]) -> list[tuple[Values, Number]]:
    return [((), value(state.file))] if state.file else []


def _by_module(state: State, value: Callable[[Summary], int]) -> list[tuple[Values, Number]]:
    return [((module,), value(summary)) for module, summary in state.discovered.items()]


def _renamed(
    name: str, help: str, labels: Names, values: Callable[[State], Iterable[tuple[Values, Number]]]
) -> Iterator[Family[State]]:
    """Returns a family under its present name and under its first one, which had a shorter prefix."""
    present = f"patroni_staytus_{name}"
    yield gauges(present, f"{help}.", labels, values)
    yield gauges(name, f"{help}. Replaced by {present}.", labels, values)


#: A family without a sample is left out.
STATE: tuple[Family[State], ...] = (
    *_renamed("exporter_build_info", "1, with the version of this exporter and of its Python",
        ("version", "pythonversion"), lambda _: [((__version__, platform.python_version()), 1)]),
    *_renamed("exporter_config_last_reload_successful",
        "1 if the last reload of the modules file succeeded, 0 otherwise; absent without a modules file", (),
        lambda state: _file(state, lambda file: file.failure is None)),
    *_renamed("exporter_config_last_reload_success_timestamp_seconds",
        "When the modules file was last loaded, in Unix seconds; absent without a modules file", (),
        lambda state: _file(state, lambda file: file.loaded_at)),
    gauges("patroni_staytus_exporter_discovery_clusters",
        "Clusters that /sd knows for a module of the modules file.", ("module",),
        lambda state: _by_module(state, lambda summary: summary.clusters)),
    gauges("patroni_staytus_exporter_discovery_clusters_stale",
        "Clusters that the last discovery could not find, whose last known members /sd returns.", ("module",),
        lambda state: _by_module(state, lambda summary: summary.stale)),
    gauges("patroni_staytus_exporter_discovery_targets_refused",
        "Members that /sd returns whose address the module does not allow, so that /probe refuses them.", ("module",),
        lambda state: _by_module(state, lambda summary: summary.refused)),
)  # fmt: skip

OWN_FAMILIES: tuple[Family[State] | Counted, ...] = (*STATE, *COUNTED)


class StateCollector(Collector):
    """Collects the families of STATE; describing them reads nothing."""

    def __init__(self, file: ModulesFile | None, discovery: DiscoveryState | None) -> None:
        self._file = file
        self._discovery = discovery

    def describe(self) -> Iterator[Metric]:
        return map(metric_of, STATE)

    def collect(self) -> Iterator[Metric]:
        if self._file:
            self._file.get()  # reloads a changed file
        state = State(self._file, self._discovery.summaries() if self._discovery else {})
        for family in STATE:
            if samples := [(labels_of(family.labels, values), n) for values, n in family.samples(state, {})]:
                yield metric_of(family, samples)
