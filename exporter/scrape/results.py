"""The results of a scrape: for each document its model, or the reason why there is none."""

from dataclasses import dataclass
from typing import Any

from exporter.collectors.base import AnyCollector, CommonLabels
from exporter.collectors.patroni import UnknownPath
from exporter.upstream.target import Module


@dataclass(frozen=True)
class DocumentResult:
    """One document after so many seconds: its model, or the reason why the scrape of it failed.

    `kind` is the kind of the failure, without what varies in its text. `provided` is False when this version of the
    service does not have the document.
    """

    collector: AnyCollector
    seconds: float
    model: Any = None
    failure: str | None = None
    kind: str = ""
    provided: bool = True

    @property
    def success(self) -> bool | None:
        """True or False; None for a document that this version of the service does not have."""
        return self.failure is None if self.provided else None

    @property
    def description(self) -> str:
        """What happened, as a person reads it."""
        return self.failure or ("answers" if self.provided else "does not exist in this version")


@dataclass(frozen=True)
class ModuleResult:
    """All documents of one module, in the order of its collectors."""

    module: Module
    documents: tuple[DocumentResult, ...]

    @property
    def up(self) -> bool:
        """Whether the first document was fetched and parsed."""
        return self.documents[0].success is True

    @property
    def wrong_url(self) -> str | None:
        """What is wrong with the URL of a target that is a Patroni, None if it has the path of its REST API."""
        return next((each.failure for each in self.documents if each.kind == UnknownPath.__name__), None)

    @property
    def refusal(self) -> str | None:
        """Why a document was not requested because of a limit, None when all were."""
        return next((document.failure for document in self.documents if document.kind == "TooManyRequests"), None)

    @property
    def common_labels(self) -> CommonLabels:
        """The labels that documents have in common; the first document that has a value for one counts."""
        labels: dict[str, str] = {}
        for document in self.documents:
            if document.model is not None:
                labels = {**document.collector.common_labels(document.model), **labels}
        return labels
