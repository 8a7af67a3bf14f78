"""/probe: one scrape of one target of a module of the file, as the blackbox exporter has it."""

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from flask import Blueprint, Response, request
from werkzeug.exceptions import BadRequest, Forbidden
from werkzeug.wrappers import Response as AnyResponse

from exporter.config.allow_list import NotAllowed, TargetError
from exporter.config.modules import ProbeModule
from exporter.config.modules_file import ModulesFile
from exporter.config.readers import switch
from exporter.scrape.exposition import exposition
from exporter.scrape.scrape import ModuleReading, read
from exporter.upstream.client import Fetcher
from exporter.upstream.redaction import without_secrets
from exporter.upstream.target import Module
from exporter.web.limit import AtOnce
from exporter.web.metrics import Scrape, budget, check_names, page


def asked_module(file: ModulesFile | None) -> ProbeModule:
    """Returns the module of the file that this request names; raises BadRequest when there is none."""
    if file is None:
        raise BadRequest("there are no modules: EXPORTER_CONFIG_FILE or --config.file names no file with them")
    names = request.args.getlist("module")
    if len(names) != 1 or not names[0]:
        raise BadRequest("expected one parameter module, the name of a module in the modules file")
    module = file.modules().get(names[0])
    if module is None:
        raise BadRequest(f"unknown module {ascii(names[0])[:120]}: it is not in the modules file")
    return module


def asked_target(module: ProbeModule, text: str) -> Module:
    """Returns the module with this target; raises BadRequest where it cannot be asked, Forbidden where it may not."""
    try:
        return module.at(text)
    except TargetError as error:
        raise BadRequest(str(error)) from None
    except NotAllowed as error:
        raise Forbidden(str(error)) from None


def probe_blueprint(file: ModulesFile | None, fetcher: Fetcher, at_once: AtOnce) -> Blueprint:
    """Returns the door for Prometheus jobs that name the target in a parameter."""
    blueprint = Blueprint("probe", __name__)

    @blueprint.get("/probe")
    def probe() -> AnyResponse:
        check_names(request.environ)
        template = asked_module(file)
        targets = request.args.getlist("target")
        if len(targets) != 1 or not targets[0]:
            raise BadRequest("expected one parameter target, the host and port of what is to be asked")
        module = asked_target(template, targets[0])
        debug = _asks_for_debug()
        limit = budget(request.environ)
        with at_once.one():
            if debug:
                with _log_of_this_thread() as lines:
                    readings = read([module], fetcher, limit)
                return Response(_debug_page(module, limit, lines, readings), mimetype="text/plain")
            return page(request.environ, Scrape((module,), read([module], fetcher, limit)))

    return blueprint


# debug=true -----------------------------------------------------------------------------------------------------------


def _asks_for_debug() -> bool:
    try:
        return switch(request.args.get("debug") or "false")
    except ValueError:
        raise BadRequest("expected debug=true or debug=false") from None


@contextmanager
def _log_of_this_thread() -> Iterator[list[str]]:
    """Gives the lines that this thread logs meanwhile."""
    lines: list[str] = []
    thread = threading.get_ident()

    class Lines(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if record.thread == thread:
                lines.append(f"{record.levelname} {record.getMessage()}")

    log, handler = logging.getLogger("exporter"), Lines()
    log.addHandler(handler)
    try:
        yield lines
    finally:
        log.removeHandler(handler)


def _debug_page(module: Module, limit: float, lines: list[str], readings: list[ModuleReading]) -> str:
    target = module.target
    became = {True: "was there", False: "failed", None: "does not exist in this version"}
    documents = [
        f"{document.collector.name}: {target.url}/{document.collector.path} {became[document.success]} "
        f"after {document.seconds:.3f} s{f': {document.failure}' if document.failure else ''}"
        for document in readings[0].documents
    ]
    shown = {
        "target": target.url,
        "timeout": f"{min(target.timeout, limit):g} s",
        "interval": f"{target.interval:g} s",
        "verify": target.verify,
        "server name": target.server_name,
        "client certificate": target.cert_file,
        "key of the certificate": target.key_file,
        "headers": ", ".join(f"{name}: ***" for name, _ in target.headers),
        "headers from files": ", ".join(file.path for file in target.header_files),
        "admitted networks": ", ".join(map(str, target.admits)),
        "refused networks": ", ".join(map(str, target.refuses)),
    }
    parts = {
        f"Log of this probe of module {module.name}": [*documents, *lines],
        "How it was asked": [f"{name}: {value}" for name, value in shown.items() if value != ""],
        "Samples": exposition(readings).splitlines(),
    }
    text = "\n".join(f"{head}:\n{chr(10).join(body)}\n" for head, body in parts.items())
    return without_secrets(text.encode(), target).decode()
