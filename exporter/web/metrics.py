"""/metrics: one scrape of all modules through the WSGI application of prometheus_client."""

import logging
import math
import platform
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

from prometheus_client import GC_COLLECTOR, PLATFORM_COLLECTOR, PROCESS_COLLECTOR, CollectorRegistry, make_wsgi_app
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector
from prometheus_client.samples import Sample

from exporter.fetch import Fetcher
from exporter.scrape import ModuleReading, expose, families, read
from exporter.settings import Module
from exporter.version import __version__

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

log = logging.getLogger(__name__)

#: What prometheus_client tells of the process that answers.
PROCESS_COLLECTORS = (PROCESS_COLLECTOR, PLATFORM_COLLECTOR, GC_COLLECTOR)


class Scrape(Collector):
    """One scrape as prometheus_client collects it; describing it fetches nothing, so that `name[]` can choose."""

    def __init__(self, modules: tuple[Module, ...], readings: Iterable[ModuleReading]):
        self._modules = modules
        self._readings = readings

    def describe(self) -> Iterator[Metric]:
        return (Metric(family.name, family.help, "gauge") for family in families(self._modules))

    def collect(self) -> Iterator[Metric]:
        return expose(self._readings)


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
    pages = _Pages()

    def app(environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        if environ.get("PATH_INFO", "") not in ("", "/"):
            start_response("404 Not Found", [("Content-Type", "text/plain; charset=utf-8")])
            return [b"Not found: the metrics are at /metrics\n"]
        readings = read(modules, fetcher, budget(environ)) if environ["REQUEST_METHOD"] == "GET" else []

        def page() -> _Page:
            registry = CollectorRegistry()
            for collector in (Scrape(modules, readings), BuildInfo(), *PROCESS_COLLECTORS):
                registry.register(collector)
            return _page(make_wsgi_app(registry), environ)

        status, headers, body = pages.get(_shared_by(readings, environ), page)
        start_response(status, list(headers))
        return [body]

    return app


_Page = tuple[str, tuple[tuple[str, str], ...], bytes]


def _page(app: "WSGIApplication", environ: "WSGIEnvironment") -> _Page:
    started: list[tuple[str, tuple[tuple[str, str], ...]]] = []

    def start_response(status: str, headers: list[tuple[str, str]], _: object = None) -> Callable[[bytes], object]:
        started.append((status, tuple(headers)))
        return lambda _: None

    body = b"".join(app(environ, start_response))
    return (*started[0], body)


def _shared_by(readings: Iterable[ModuleReading], environ: "WSGIEnvironment") -> tuple[Any, ...] | None:
    """Returns what scrapes have in common that may be given the same page, None where this one is given its own.

    That is the same answers, which those have that joined the same requests, and the same wishes of the client.
    """
    documents = [document for reading in readings for document in reading.documents]
    if not documents or any(document.flight.ended is None for document in documents):
        return None
    # One that ended only when this scrape had given it up is another answer for those that waited longer.
    answers = [(document.flight, document.failure) for document in documents]
    wishes = ("REQUEST_METHOD", "QUERY_STRING", "HTTP_ACCEPT", "HTTP_ACCEPT_ENCODING")
    return (*answers, *(environ.get(wish) for wish in wishes))


class _Pages:
    """The last page that was written, for the scrapes that waited for the same answers: writing it is most of the work.

    Pages are bytes and nobody can change them.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._key: tuple[Any, ...] | None = None
        self._page: _Page | None = None

    def get(self, key: tuple[Any, ...] | None, page: Callable[[], _Page]) -> _Page:
        """Returns the last page when it has this key, else a new one."""
        if key is None:
            return page()
        with self._lock:
            if self._page is None or self._key != key:
                self._page, self._key = page(), key
            return self._page


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
