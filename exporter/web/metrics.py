"""/metrics: one scrape of all modules through the WSGI application of prometheus_client."""

import logging
import math
import platform
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from prometheus_client import GC_COLLECTOR, PLATFORM_COLLECTOR, PROCESS_COLLECTOR, CollectorRegistry, make_wsgi_app
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector
from prometheus_client.samples import Sample

from exporter.fetch import Fetcher
from exporter.scrape import expose, families, read
from exporter.settings import Module
from exporter.version import __version__

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

log = logging.getLogger(__name__)


class Scrape(Collector):
    """One scrape as prometheus_client collects it; describing it fetches nothing, so that `name[]` can choose."""

    def __init__(self, modules: tuple[Module, ...], fetcher: Fetcher, budget: float):
        self._modules = modules
        self._fetcher = fetcher
        self._budget = budget

    def describe(self) -> Iterator[Metric]:
        return (Metric(family.name, family.help, "gauge") for family in families(self._modules))

    def collect(self) -> Iterator[Metric]:
        return expose(read(self._modules, self._fetcher, self._budget))


class BuildInfo(Collector):
    """What runs here."""

    def collect(self) -> Iterator[Metric]:
        name = "exporter_build_info"
        metric = Metric(name, "1, with the version of this exporter and of its Python.", "gauge")
        labels = {"version": __version__, "pythonversion": platform.python_version()}
        metric.samples.append(Sample(name, labels, 1.0, None, None))
        yield metric


def metrics_app(modules: tuple[Module, ...], fetcher: Fetcher) -> "WSGIApplication":
    """Returns the application for /metrics, which answers 200 whatever becomes of the modules."""

    def app(environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        if environ.get("PATH_INFO", "") not in ("", "/"):
            start_response("404 Not Found", [("Content-Type", "text/plain; charset=utf-8")])
            return [b"Not found: the metrics are at /metrics\n"]
        registry = CollectorRegistry()
        registry.register(Scrape(modules, fetcher, budget(environ)))
        for collector in (BuildInfo(), PROCESS_COLLECTOR, PLATFORM_COLLECTOR, GC_COLLECTOR):
            registry.register(collector)
        return make_wsgi_app(registry)(environ, start_response)  # type: ignore[no-any-return]

    return app


def budget(environ: "WSGIEnvironment") -> float:
    """Returns the seconds that Prometheus leaves for this scrape: what it says less half a second for the way back.

    Without limit where nobody says. Prometheus sends X-Prometheus-Scrape-Timeout-Seconds since version 2.
    """
    text = environ.get("HTTP_X_PROMETHEUS_SCRAPE_TIMEOUT_SECONDS", "")
    try:
        seconds = float(text or "inf")
    except ValueError:
        seconds = math.nan
    if not seconds > 0:
        log.debug("X-Prometheus-Scrape-Timeout-Seconds is ignored: %r is not a number of seconds", text[:40])
        return math.inf
    return max(seconds - 0.5, seconds / 2)
