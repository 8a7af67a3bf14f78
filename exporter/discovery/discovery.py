"""One discovery: from the seeds of a module, or its etcd, to its clusters and to the targets of Prometheus."""

import json
import logging
import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from operator import itemgetter
from urllib.parse import urlsplit

from exporter.config.allow_list import NotAllowed, TargetError
from exporter.config.discovery import NAME_PREFIXES, Discovery, Etcd
from exporter.config.modules import ProbeModule
from exporter.discovery.clusters import FoundCluster, KnownCluster, KnownClusters
from exporter.discovery.etcd import EtcdError
from exporter.discovery.etcd import clusters as clusters_in_etcd
from exporter.discovery.run import Run
from exporter.discovery.search import Search, representative, search_known, search_seeds, search_view
from exporter.discovery.seeds import SeedError, resolve
from exporter.discovery.state import DiscoveryState
from exporter.log import Event
from exporter.upstream.client import Client

log = logging.getLogger(__name__)

#: Seconds after which a seed of a known cluster is requested again: its node can be a member of another one by now.
SEED_INTERVAL = 600.0

#: Names that are looked up in the DNS at once.
LOOKUPS = 16

#: Refused targets that a line of the log names.
MOST_NAMED = 20

#: A target group of Prometheus in JSON: the addresses of its targets, and their labels. There can be thousands, and an
#: object takes four times the memory.
Group = str

#: Whether a search failed the last time, when that was, the known cluster, and the seeds.
_Waiting = tuple[bool, float, KnownCluster | None, list[str]]


class DiscoveryError(Exception):
    """No cluster is known; the message is a sentence with the reasons."""


class ClusterDiscovery:
    """Finds the clusters of modules, and remembers them in the state of the server.

    `end` is the deadline in monotonic seconds. Clusters that were not requested by then stay as they were.
    """

    def __init__(self, client: Client, state: DiscoveryState) -> None:
        self._client = client
        self._state = state
        self._resolved: dict[str, list[str]] = {}  # the addresses of a seed
        self._failed: dict[str, dict[str, float]] = {}  # when seeds of a module failed, in monotonic seconds
        self._allowed: dict[str, tuple[ProbeModule, str]] = {}  # the URLs of members, by module

    def of_targets(self, module: ProbeModule, urls: Sequence[str], end: float) -> list[Group]:
        """Returns the members of the cluster of the nodes with these URLs, which the module allows.

        Raises DiscoveryError when no node responds and the cluster is not known.
        """
        run = Run(module, self._client, end)
        known = [each for each in self._state.clusters(module.name, of_targets=True) if each.has_seed(urls)]
        results = list(run.results((each, search_known(each)) for each in known))
        moved = None
        if not any(found and found.urls.intersection(urls) for _, found in results):
            # The nodes can be members of another cluster by now.
            moved = next((found for _, found in run.results([(None, search_seeds(urls))])), None)

        def change(clusters: KnownClusters) -> None:
            clusters.remove_expired((module.discovery or Discovery()).keep_missing)
            if moved:
                clusters.remove_seeds(urls)
            for each, found in [(None, moved)] if moved else results:
                clusters.update(each, found, urls)

        clusters = self._state.update_of_targets(module.name, change)
        self._state.summarize(module.name, clusters, self._refused(module, clusters))
        wanted = [each for each in clusters if each.has_seed(urls)]
        if not wanted and any(url in run.failures for url in urls):
            raise DiscoveryError(f"no target returned its cluster: {run.reasons(urls)}")
        return list(_groups(wanted))

    def of_module(self, module: ProbeModule, discovery: Discovery, end: float) -> list[Group]:
        """Returns the members of all clusters of a module, and the seeds that lead to no cluster.

        Raises DiscoveryError when nothing is known.
        """
        clusters = self._state.clusters(module.name)
        clusters.remove_expired(discovery.keep_missing)
        run = Run(module, self._client, end)
        if discovery.etcd:
            self._update_from_etcd(module, discovery.etcd, clusters, run, end)
            unknown = []
        else:
            unknown = self._update_from_seeds(module, discovery, clusters, run, end)
        self._state.write(module.name, clusters)
        self._state.summarize(module.name, clusters, self._refused(module, clusters))
        groups = list(_groups(clusters))
        addresses = {member.address for cluster in clusters for member in cluster.members.values()}
        seeds = [url for url in map(urlsplit, unknown) if url.netloc not in addresses]
        groups += [_group(url.netloc, scheme=url.scheme, stale="true") for url in seeds]
        if not groups and run.failures:
            raise DiscoveryError(f"no cluster was found: {run.reasons()}")
        return groups

    def _update_from_etcd(self, module: ProbeModule, etcd: Etcd, clusters: KnownClusters, run: Run, end: float) -> None:
        """Updates the clusters from etcd, or from their members when etcd cannot be read."""
        try:
            present = clusters_in_etcd(etcd, (end - time.monotonic()) / 2)
        except EtcdError as error:
            log.warning(Event("etcd not read", module=module.name, reason=str(error)))
            run.failures["etcd"] = str(error)
            self._update(module, clusters, run)
            return
        paths = {each.path for each in present}
        for gone in [each for each in clusters if each.path not in paths]:
            clusters.update(gone, FoundCluster(gone.scope, (), ""))
        found = [replace(each, view=representative(each.members)) for each in present]
        for cluster in found:  # all members are known now; whether the view responds is not
            clusters.update(clusters.at(cluster.path), cluster)
        for path, with_view in run.results((cluster.path, search_view(cluster)) for cluster in found):
            clusters.update(clusters.at(path), with_view)

    def _update_from_seeds(
        self, module: ProbeModule, discovery: Discovery, clusters: KnownClusters, run: Run, end: float
    ) -> list[str]:
        """Updates the clusters from their members and the seeds; returns the URLs of seeds that lead to no cluster."""
        urls = dict.fromkeys(self._urls(module, discovery, run, end))
        clusters.remove_without_seed(urls)
        self._update(module, clusters, run, urls)
        known = {url for cluster in clusters for url in cluster.seeds}
        unknown = [url for url in urls if url not in known]
        failed = self._failed[module.name]
        self._failed[module.name] = {url: failed[url] for url in unknown if url in failed}
        return unknown

    def _update(self, module: ProbeModule, clusters: KnownClusters, run: Run, seeds: Iterable[str] = ()) -> None:
        """Finds the known clusters again, and those of the seeds.

        What failed comes last, because it can take all the time. Otherwise the first is what has waited longest.
        """
        due = time.monotonic() - SEED_INTERVAL
        covered = {url for known in clusters for url in known.covered(due)}
        waiting: list[_Waiting] = [(known.stale, known.requested, known, []) for known in clusters]
        failed = self._failed.setdefault(module.name, {})
        waiting += [(url in failed, failed.get(url, 0.0), None, [url]) for url in seeds if url not in covered]
        searches = _searches(deque(sorted(waiting, key=itemgetter(0, 1))))
        del waiting  # so that clusters that have been updated take no memory
        for (known, urls), found in run.results(searches):
            clusters.update(known, found, urls)
            if not found:
                failed |= dict.fromkeys(urls, time.monotonic())

    def _urls(self, module: ProbeModule, discovery: Discovery, run: Run, end: float) -> Iterator[str]:
        """Returns the URLs of all seeds, with the last known addresses of a name that cannot be resolved now."""
        lookups = [seed for seed in discovery.seeds if seed.startswith(NAME_PREFIXES)]
        with ThreadPoolExecutor(LOOKUPS) as pool:
            list(pool.map(lambda seed: self._resolve(module, seed, end), lookups))
        for seed in discovery.seeds:
            for target in self._resolved.get(seed, []) if seed.startswith(NAME_PREFIXES) else [seed]:
                try:
                    yield module.at(target).target.url
                except (NotAllowed, TargetError) as error:
                    log.warning(
                        Event("seed refused", key=(target,), module=module.name, seed=target, reason=str(error))
                    )
                    run.failures[target] = str(error)

    def _refused(self, module: ProbeModule, clusters: KnownClusters) -> int:
        """Returns how many members have a REST API that the module does not allow, and logs which ones.

        What was allowed the last time is not checked again while the modules file stays the same.
        """
        members = {member.url: member.address for cluster in clusters for member in cluster.members.values()}
        last, allowed = self._allowed.get(module.name, (module, ""))
        known = set(allowed.split()) if last is module else ()
        refused = {url for url in members if url not in known and _is_refused(module, url)}
        self._allowed[module.name] = module, " ".join(members.keys() - refused)
        addresses = sorted({members[url] for url in refused})
        if addresses:
            names = ", ".join(addresses[:MOST_NAMED]) + ", …" * (len(addresses) > MOST_NAMED)
            reason = "the targets of this module do not have these addresses, under which Patroni lists its members"
            log.warning(Event("members refused", key=(module.name,), module=module.name, targets=names, reason=reason))
        return len(addresses)

    def _resolve(self, module: ProbeModule, seed: str, end: float) -> None:
        try:
            self._resolved[seed] = resolve(seed, (end - time.monotonic()) / 2)
        except SeedError as error:
            log.warning(Event("seed not resolved", key=(seed,), module=module.name, seed=seed, reason=str(error)))


def _is_refused(module: ProbeModule, url: str) -> bool:
    try:
        module.at(url)
    except (NotAllowed, TargetError):
        return True
    return False


def _searches(waiting: deque[_Waiting]) -> Iterator[tuple[tuple[KnownCluster | None, list[str]], Search]]:
    while waiting:
        *_, known, urls = waiting.popleft()
        yield (known, urls), search_known(known) if known else search_seeds(urls)


def _groups(clusters: Iterable[KnownCluster]) -> Iterator[Group]:
    for cluster in clusters:
        for name, member in cluster.members.items():
            yield _group(
                member.address,
                scope=cluster.scope,
                **member.labels,
                cluster_view="true" if name == cluster.view else "false",
                missing="true" if cluster.is_missing(name) else "",
                stale="true" if cluster.stale else "",
            )


def _group(address: str, **labels: str) -> Group:
    meta = {f"__meta_patroni_{name}": value for name, value in labels.items() if value}
    return json.dumps({"targets": [address], "labels": meta}, separators=(",", ":"))
