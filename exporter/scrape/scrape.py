"""One scrape: requests all documents at once, waits until its deadline, and logs what failed."""

import logging
import math
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from functools import partial
from itertools import islice
from typing import Any

from exporter.collectors.base import AnyCollector, CommonLabels
from exporter.collectors.document import Answer, NotSupported, ParseError
from exporter.log import Event
from exporter.scrape.families import collectors_of
from exporter.scrape.results import DocumentResult, ModuleResult
from exporter.upstream.client import Client, Response, Result
from exporter.upstream.errors import FetchError
from exporter.upstream.redaction import without_secrets
from exporter.upstream.target import Module

log = logging.getLogger(__name__)

#: Bytes, about, that the samples of one document may take in the exposition: writing more outlasts the scrape.
TEXT_LIMIT = 8 * 1024 * 1024

#: Characters of the scope, or of the name of a node, which all samples of a scrape have.
LABEL_LIMIT = 256

#: Warnings about one document that are logged.
MOST_WARNINGS = 10


class Scrape:
    """A scrape of some modules. Creating it sends the requests of all modules; `result` waits for those of one.

    `seconds` is the deadline of the whole scrape; each module has its own timeout within it. With `only_first` a module
    has one document, the one that decides whether it is up.
    """

    def __init__(
        self, modules: Sequence[Module], client: Client, seconds: float = math.inf, *, only_first: bool = False
    ) -> None:
        self._start = time.monotonic()
        self._seconds = seconds
        self._modules = modules
        self._requests = {}
        for module in modules:
            collectors = collectors_of(module)[: 1 if only_first else None]
            documents = [(each.path, each.size_limit, partial(_read, module, each)) for each in collectors]
            self._requests[module] = list(zip(collectors, client.begin(module.target, documents), strict=True))

    def results(self) -> list[ModuleResult]:
        """Returns the results of all modules."""
        return [self.result(module) for module in self._modules]

    def result(self, module: Module) -> ModuleResult:
        """Returns the result of this module, as soon as its documents are there and at the latest at the deadline."""
        documents = [self._document(module, *request) for request in self._requests[module]]
        result = ModuleResult(module, tuple(documents))
        _log_failures(result)
        return result

    def add_done_callback(self, module: Module, call: Callable[[], object]) -> None:
        """Calls `call` each time that a document of this module is there, in any thread."""
        for _, future in self._requests[module]:
            future.add_done_callback(lambda _: call())

    def _document(self, module: Module, collector: AnyCollector, future: Future[Result]) -> DocumentResult:
        seconds = min(self._seconds, module.target.options.timeout)
        try:
            result = future.result(max(0.0, self._start + seconds - time.monotonic()))
        except TimeoutError:  # the kind is that of the next scrapes, which do not wait for this request
            reason = f"no response within {round(seconds, 3):g} s"
            return DocumentResult(collector, time.monotonic() - self._start, failure=reason, kind="ReadTimeout")
        elapsed = max(0.0, result.ended - self._start)
        match result.error or result.value:
            case NotSupported(model=model):
                return DocumentResult(collector, elapsed, model, provided=False)
            case FetchError() | ParseError() as error:
                return DocumentResult(collector, elapsed, failure=str(error), kind=type(error).__name__)
            case Exception() as error:
                raise error
            case model:
                return DocumentResult(collector, elapsed, model)


def _log_failures(result: ModuleResult) -> None:
    """Logs a line for each document that failed, or one line when all failed for one reason or the URL is wrong."""
    target = result.module.target.url
    failed = [document for document in result.documents if document.failure]
    is_one = len(failed) > 1 and len({(document.kind, document.failure) for document in failed}) == 1
    is_one = is_one and (len(failed) == len(result.documents) or result.wrong_url is not None)
    for document in failed[: 1 if is_one else None]:
        collector, reason = document.collector, document.failure or ""
        where = {"url": target} if is_one else {"collector": collector.name, "url": f"{target}/{collector.path}"}
        key = (target, where["url"], document.kind)
        log.warning(Event("scrape failed", key=key, module=result.module.name, **where, reason=reason))


def _read(module: Module, collector: AnyCollector, response: Response) -> Any:
    """Returns the model of a document, or the NotSupported or ParseError, once for all scrapes that wait for it.

    The exception has no traceback, which would keep the response in memory. A document is also refused when it is
    small and its samples are large.
    """
    texts = response.content, response.headers.get("Content-Type", "").encode()
    body, content_type = without_secrets(texts, module.target.options.auth, response.request)
    try:
        expiry = getattr(response.raw, "certificate_not_after", None)
        model = collector.parse(Answer(response.status_code, body, content_type.decode(), expiry))
    except NotSupported as error:
        return NotSupported(error.model)
    except ParseError as error:
        return type(error)(str(error))
    labels = collector.common_labels(model)
    for name, value in labels.items():
        if len(value) > LABEL_LIMIT:
            return ParseError(f"{name}: expected at most {LABEL_LIMIT} characters, found {len(value)}")
    if _text_size(collector, model, labels, len(body)) > TEXT_LIMIT:
        return ParseError(f"its samples would take more than {TEXT_LIMIT // 1024 // 1024} MiB")
    for reason in islice(collector.warnings(model), MOST_WARNINGS):
        log.warning(Event("part of a document ignored", module=module.name, collector=collector.name, reason=reason))
    return model


def _text_size(collector: AnyCollector, model: Any, labels: CommonLabels, size: int) -> int:
    """Returns about how many bytes the samples take in the exposition; stops counting beyond the limit."""
    if size < TEXT_LIMIT // 1024:  # also with the longest scope and many short members
        return 0
    text = 0
    for family in collector.families:
        # With the family's name and the names of its labels. What this document does not have is in another one.
        common = 100 + sum(len(labels[name]) if name in labels else LABEL_LIMIT for name in family.common_labels)
        for values, _ in family.samples(model, defaultdict(str, labels)):
            text += common + sum(len(value) for value in values if value)
            if text > TEXT_LIMIT:
                break
    return text
