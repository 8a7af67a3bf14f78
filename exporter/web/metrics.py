"""/metrics: the collectors that prometheus_client's WSGI app collects from, and the scrape that it does so within."""

import gzip
import logging
import math
import os
import re
from collections.abc import Callable, Iterable, Iterator
from contextvars import ContextVar
from functools import partial
from typing import Any
from urllib.parse import parse_qs
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from prometheus_client import GC_COLLECTOR, PLATFORM_COLLECTOR, PROCESS_COLLECTOR, CollectorRegistry
from prometheus_client.exposition import gzip_accepted
from prometheus_client.metrics_core import Metric
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector
from werkzeug.exceptions import BadRequest

from exporter.log import Event
from exporter.scrape.families import families_of, metric_of, metrics
from exporter.scrape.scrape import Scrape
from exporter.upstream.client import Client
from exporter.upstream.headers import Headers
from exporter.upstream.target import Module
from exporter.web.processes import ProcessesCollector

log = logging.getLogger(__name__)

#: Takes half of the time of the highest level, which prometheus_client uses, for a tenth more bytes.
GZIP_LEVEL = 3

_scrape: ContextVar[Scrape] = ContextVar("scrape")


class ModuleCollector(Collector):
    """Collects the families of one module from the scrape of this request; describing them fetches nothing."""

    def __init__(self, module: Module) -> None:
        self._module = module

    def describe(self) -> Iterator[Metric]:
        return map(metric_of, families_of(self._module))

    def collect(self) -> Iterator[Metric]:
        return metrics(_scrape.get().result(self._module))


def registry_of(modules: Iterable[Module], state: Collector, counters: Iterable[Collector]) -> CollectorRegistry:
    """Returns a registry with a collector for each module, that of the exporter's state, and those of its process.

    In prometheus_client's multiprocess mode the families are those of all processes; `python_gc_*` is left out.
    """
    registry = CollectorRegistry(auto_describe=True)
    if "PROMETHEUS_MULTIPROC_DIR" in os.environ:
        all_counters = MultiProcessCollector(None)  # type: ignore[no-untyped-call]
        process: tuple[Collector, ...] = (all_counters, ProcessesCollector(), PLATFORM_COLLECTOR)
    else:
        process = (*counters, PROCESS_COLLECTOR, PLATFORM_COLLECTOR, GC_COLLECTOR)
    for collector in (*map(ModuleCollector, modules), state, *process):
        registry.register(collector)
    return registry


def scraping(exposition: WSGIApplication, modules: tuple[Module, ...], client: Client) -> WSGIApplication:
    """Returns prometheus_client's WSGI app with a scrape around each request.

    prometheus_client collects from one module after the other. So the scrape sends the requests of all modules before.
    """

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        check_names(parse_qs(environ.get("QUERY_STRING", ""), keep_blank_values=True).get("name[]", []))
        # It refuses HEAD, for which the server sends the header alone.
        request = {**environ, "REQUEST_METHOD": "GET", "HTTP_ACCEPT": accept(environ)}
        encode, encoding = compression(environ)

        def respond(status: str, headers: list[tuple[str, str]], *error: Any) -> Callable[[bytes], object]:
            return start_response(status, [*headers, *encoding], *error)

        token = _scrape.set(Scrape(modules, client, scrape_seconds(environ)))
        try:
            return map(encode, exposition(request, respond))  # it collects before it returns
        finally:
            _scrape.reset(token)

    return app


def compression(environ: WSGIEnvironment) -> tuple[Callable[[bytes], bytes], Headers]:
    """Returns what compresses the body of a response, if the request accepts it, and the headers that say so."""
    if gzip_accepted(environ.get("HTTP_ACCEPT_ENCODING", "")):
        return partial(gzip.compress, compresslevel=GZIP_LEVEL), (("Content-Encoding", "gzip"),)
    return bytes, ()


def check_names(names: Iterable[str]) -> None:
    """Raises BadRequest when a parameter `name[]` is not the name of a metric."""
    for name in names:
        if not re.fullmatch("[a-zA-Z_:][a-zA-Z0-9_:]*", name):
            raise BadRequest("name[] must be the name of a metric: letters, digits, _ and :")


def accept(environ: WSGIEnvironment) -> str:
    """Returns the Accept header, empty when prometheus_client would fail to read a version in it, or repeat it."""
    text = str(environ.get("HTTP_ACCEPT", ""))
    return "" if re.search(r"version=(?!\d{1,3}\.\d{1,3}\.\d{1,3} *([;,]|$))", text, re.ASCII) else text


def scrape_seconds(environ: WSGIEnvironment, header: str = "X-Prometheus-Scrape-Timeout-Seconds") -> float:
    """Returns the seconds for this request: the timeout of Prometheus less half a second for the response.

    Infinite without the header, which Prometheus sends since version 2.
    """
    text = environ.get(f"HTTP_{header.upper().replace('-', '_')}", "")
    try:
        seconds = float(text or "inf")
    except ValueError:
        seconds = math.nan
    if not seconds > 0:
        log.debug(Event("header ignored", header=header, value=text[:40]))
        return math.inf
    return max(seconds - 0.5, seconds / 2)
