"""/probe: one scrape of one target of a module of the modules file, as in the blackbox exporter."""

import logging
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import lru_cache
from logging.handlers import BufferingHandler
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from prometheus_client.exposition import choose_encoder
from werkzeug.datastructures import MultiDict
from werkzeug.exceptions import BadRequest, Forbidden
from werkzeug.wrappers import Request, Response

from exporter.config.allow_list import NotAllowed, TargetError
from exporter.config.modules import ProbeModule
from exporter.config.modules_file import ModulesFile
from exporter.config.readers import boolean
from exporter.scrape.exposition import exposition
from exporter.scrape.results import ModuleResult
from exporter.scrape.scrape import Scrape
from exporter.upstream.client import Client
from exporter.upstream.redaction import without_secrets
from exporter.upstream.target import Module
from exporter.web.limit import ConcurrencyLimit
from exporter.web.metrics import accept, check_names, compression, scrape_seconds

#: The parameters of a query.
Args = MultiDict[str, str]


def requested_module(file: ModulesFile | None, args: Args) -> ProbeModule:
    """Returns the module that the request names; raises BadRequest when there is none."""
    if file is None:
        raise BadRequest("no modules: EXPORTER_CONFIG_FILE or --config.file is not set")
    parameters = args.getlist("module")
    if len(parameters) != 1 or not parameters[0]:
        raise BadRequest("expected one parameter module, the name of a module in the modules file")
    module = file.get().get(parameters[0])
    if module is None:
        raise BadRequest(f"unknown module {ascii(parameters[0])[:120]}: it is not in the modules file")
    return module


def requested_target(module: ProbeModule, text: str) -> Module:
    """Returns the module with this target; raises BadRequest when it is not valid, Forbidden when it is not allowed."""
    try:
        return module.at(text)
    except TargetError as error:
        raise BadRequest(str(error)) from None
    except NotAllowed as error:
        raise Forbidden(str(error)) from None


def probe_app(file: ModulesFile | None, client: Client, limit: ConcurrencyLimit) -> WSGIApplication:
    """Returns the endpoint for Prometheus jobs that name the target in a parameter.

    It is not one of Flask's, which takes a tenth of the CPU time of a probe that requests one document.
    """

    def probe(request: Request) -> Response:
        check_names(wanted := request.args.getlist("name[]"))
        template = requested_module(file, request.args)
        targets = request.args.getlist("target")
        if len(targets) != 1 or not targets[0]:
            raise BadRequest("expected one parameter target, the host and port to probe")
        module = replace(requested_target(template, targets[0]), collect=_collect(template, request.args))
        debug = _debug(request.args)
        seconds = scrape_seconds(request.environ)
        with limit.one():
            if debug:
                return Response(_debug_page(module, client, seconds), mimetype="text/plain")
            results = Scrape([module], client, seconds).results()
            if refusal := results[0].refusal:
                limit.refuse("requests", refusal)
            return _response(results, wanted, request.environ)

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        return probe(Request(environ))(environ, start_response)

    return app


def _collect(module: ProbeModule, args: Args) -> tuple[str, ...]:
    """Returns the collectors that the request names, all of the module by default; raises BadRequest.

    `collect` is for the relabeling of Prometheus, in which a parameter cannot have brackets.
    """
    wanted = args.getlist("collect[]") + args.getlist("collect")
    for name in wanted:
        if name not in module.collect:
            expected = ", ".join(module.collect)
            raise BadRequest(f"collect[]={ascii(name)[:120]}: expected a collector of module {module.name}: {expected}")
    return tuple(name for name in module.collect if name in wanted) or module.collect


def _response(results: list[ModuleResult], wanted: list[str], environ: WSGIEnvironment) -> Response:
    """Returns the families in the format and encoding that the request accepts."""
    content_type = _content_type(accept(environ))
    is_openmetrics = content_type.startswith("application/openmetrics-text")
    body = exposition(results, openmetrics=is_openmetrics, names=wanted).encode()
    encode, encoding = compression(environ)
    return Response(encode(body), headers=[("Content-Type", content_type), *encoding])


@lru_cache(maxsize=8)
def _content_type(accept: str) -> str:
    return choose_encoder(accept)[1]


# debug=true


def _debug(args: Args) -> bool:
    try:
        return boolean(args.get("debug") or "false")
    except ValueError:
        raise BadRequest("expected debug=true or debug=false") from None


@contextmanager
def _log_of_this_thread() -> Iterator[list[logging.LogRecord]]:
    """Collects what this thread logs."""
    thread = threading.get_ident()
    log, handler = logging.getLogger("exporter"), BufferingHandler(capacity=1000)
    handler.addFilter(lambda record: record.thread == thread)
    log.addHandler(handler)
    try:
        yield handler.buffer
    finally:
        log.removeHandler(handler)


def _debug_page(module: Module, client: Client, seconds: float) -> str:
    target, options = module.target, module.target.options
    with _log_of_this_thread() as records:
        results = Scrape([module], client, seconds).results()
    documents = [
        f"{document.collector.name}: {target.url}/{document.collector.path}: {document.description} "
        f"({document.seconds:.3f} s)"
        for document in results[0].documents
    ]
    settings = {
        "target": target.url,
        "timeout": f"{min(options.timeout, seconds):g} s",
        "interval": f"{options.interval:g} s",
        "verify": options.verify,
        "server name": options.server_name,
        "client certificate": options.cert,
        "credentials": ", ".join(map(str, options.auth.parts)),
    }
    parts = {
        f"Log of this probe of module {module.name}": documents + [f"{r.levelname} {r.getMessage()}" for r in records],
        "Request": [f"{name}: {value}" for name, value in settings.items() if value not in ("", None)],
        "Samples": exposition(results).splitlines(),
    }
    text = "\n".join(f"{head}:\n{chr(10).join(body)}\n" for head, body in parts.items())
    with suppress(OSError, ValueError):  # a file of a secret cannot be read
        text = without_secrets([text.encode()], options.auth, *target.requests([""]))[0].decode()
    return text
