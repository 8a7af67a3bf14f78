"""/metrics: one scrape of all modules, and what prometheus_client tells of the process."""

import gzip
import logging
import math
import platform
import re
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING
from urllib.parse import parse_qs

from prometheus_client import GC_COLLECTOR, PLATFORM_COLLECTOR, PROCESS_COLLECTOR, CollectorRegistry, make_wsgi_app
from prometheus_client.exposition import choose_encoder, gzip_accepted
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector
from prometheus_client.samples import Sample
from werkzeug.exceptions import BadRequest, MethodNotAllowed, NotFound
from werkzeug.wrappers import Response

from exporter.log import known
from exporter.scrape.exposition import exposition
from exporter.scrape.scrape import ModuleReading, expose, families, read
from exporter.upstream.client import Fetcher, Flight
from exporter.upstream.target import Module
from exporter.version import __version__

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

log = logging.getLogger(__name__)

#: Half the time of the highest level, for three per cent more of bytes.
GZIP_LEVEL = 4

METHODS = ("GET", "HEAD", "OPTIONS")

#: What prometheus_client tells of the process that answers.
PROCESS_COLLECTORS = (PROCESS_COLLECTOR, PLATFORM_COLLECTOR, GC_COLLECTOR)


class Scrape(Collector):
    """One scrape as prometheus_client collects it; describing it fetches nothing, so that `name[]` can choose."""

    def __init__(self, modules: tuple[Module, ...], readings: Iterable[ModuleReading]):
        self._modules = modules
        self.readings = readings

    def describe(self) -> Iterator[Metric]:
        return (Metric(family.name, family.help, "gauge") for family in families(self._modules))

    def collect(self) -> Iterator[Metric]:
        return expose(self.readings)


class BuildInfo(Collector):
    """What runs here."""

    def collect(self) -> Iterator[Metric]:
        name = "exporter_build_info"
        metric = Metric(name, "1, with the version of this exporter and of its Python.", "gauge")
        labels = {"version": __version__, "pythonversion": platform.python_version()}
        metric.samples.append(Sample(name, labels, 1.0, None, None))
        yield metric


def page(environ: "WSGIEnvironment", scrape: Scrape, *more: Collector) -> Response:
    """Returns what a scrape and these collectors tell, as the client wishes to have it."""
    accepted = accept(environ)
    if "name[]" in parse_qs(environ.get("QUERY_STRING", "")):
        asked = {**environ, "REQUEST_METHOD": "GET", "HTTP_ACCEPT": accepted}
        return Response.from_app(make_wsgi_app(_registry(scrape, *more)), asked, buffered=True)
    encoder, content_type = choose_encoder(accepted)
    body = exposition(scrape.readings, openmetrics=content_type.startswith("application/openmetrics-text")).encode()
    body += encoder(_registry(*more))  # which ends with the end of OpenMetrics
    response = Response(body, headers={"Content-Type": content_type})
    if gzip_accepted(environ.get("HTTP_ACCEPT_ENCODING", "")):
        response.data = gzip.compress(body, GZIP_LEVEL)
        response.headers["Content-Encoding"] = "gzip"
    return response


def _registry(*collectors: Collector) -> CollectorRegistry:
    registry = CollectorRegistry()
    for collector in collectors:
        registry.register(collector)
    return registry


def metrics_app(modules: tuple[Module, ...], fetcher: Fetcher, *more: Collector) -> "WSGIApplication":
    """Returns the application for /metrics, which answers 200 whatever becomes of the modules.

    `more` tell something of this exporter.
    """
    pages = _Pages()

    def app(environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        check(environ)
        if environ["REQUEST_METHOD"] == "OPTIONS":
            return Response(headers={"Allow": ", ".join(METHODS)}, mimetype="text/plain")(environ, start_response)
        readings = read(modules, fetcher, budget(environ))

        def write() -> Response:
            return page(environ, Scrape(modules, readings), BuildInfo(), *more, *PROCESS_COLLECTORS)

        return pages.get(readings, {**environ, "HTTP_ACCEPT": accept(environ)}, write)(environ, start_response)

    return app


def check(environ: "WSGIEnvironment") -> None:
    """Raises the HTTPException for a request that cannot be answered with metrics."""
    if environ.get("PATH_INFO", "") not in ("", "/"):
        raise NotFound("not found: the metrics are at /metrics")
    if environ["REQUEST_METHOD"] not in METHODS:
        raise MethodNotAllowed(METHODS)
    check_names(environ)


def check_names(environ: "WSGIEnvironment") -> None:
    """Raises BadRequest for a name[] that prometheus_client could not choose."""
    for name in parse_qs(environ.get("QUERY_STRING", ""), keep_blank_values=True).get("name[]", []):
        if not re.fullmatch("[a-zA-Z_:][a-zA-Z0-9_:]*", name):
            raise BadRequest("name[] is not the name of a metric, which has letters, digits, _ and : in it")


def accept(environ: "WSGIEnvironment") -> str:
    """Returns the Accept header, or nothing where prometheus_client would fail at a version in it, or repeat it."""
    text = str(environ.get("HTTP_ACCEPT", ""))
    return "" if re.search(r"version=(?!\d{1,3}\.\d{1,3}\.\d{1,3} *([;,]|$))", text, re.ASCII) else text


class _Pages:
    """The last pages that were written, for scrapes that waited for the same answers: to write one is most of the work.

    Nobody changes a page once it is written.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._answers: list[tuple[Flight, str | None]] = []
        self._pages: dict[tuple[str | None, ...], Response] = {}

    def get(self, readings: list[ModuleReading], environ: "WSGIEnvironment", write: Callable[[], Response]) -> Response:
        """Returns the page of the same answers and the same wishes of the client, else a new one."""
        answers = [(document.flight, document.failure) for reading in readings for document in reading.documents]
        if not answers or any(flight.ended is None for flight, _ in answers):
            return write()  # that of a request which hangs says how long this scrape has waited
        wishes = tuple(environ.get(wish) for wish in ("QUERY_STRING", "HTTP_ACCEPT", "HTTP_ACCEPT_ENCODING"))
        with self._lock:
            if self._answers != answers or len(self._pages) > 9:
                self._answers, self._pages = answers, {}
            if wishes not in self._pages:
                self._pages[wishes] = write()
            return self._pages[wishes]


def budget(environ: "WSGIEnvironment", header: str = "X-Prometheus-Scrape-Timeout-Seconds") -> float:
    """Returns the seconds that Prometheus leaves for this request: what it says less half a second for the way back.

    Without limit where nobody says. Prometheus sends the header of scrapes since version 2.
    """
    text = environ.get(f"HTTP_{header.upper().replace('-', '_')}", "")
    try:
        seconds = float(text or "inf")
    except ValueError:
        seconds = math.nan
    if not seconds > 0:
        told = known("header ignored", header=header, value=text[:40])
        log.debug("%s is ignored: %r is not a number of seconds", header, text[:40], extra=told)
        return math.inf
    return max(seconds - 0.5, seconds / 2)
