"""The issues of a Staytus site: `GET /api/v1/issues/all`. Their users are personal data and are not read."""

from collections import Counter
from dataclasses import dataclass

from exporter.collectors.base import Collector, Family, Number, Values, gauges, info
from exporter.collectors.document import Answer, Fields, distinct
from exporter.collectors.staytus import envelope

#: The maximum number of open issues that are exported one by one.
OPEN_LIMIT = 100

# Model


@dataclass(frozen=True)
class Issue:
    """One issue; `status` is a permalink, `created` and `updated` are Unix seconds."""

    identifier: str
    title: str
    state: str
    status: str
    created: float | None
    updated: float | None


@dataclass(frozen=True)
class Issues:
    """All issues, the newest first."""

    issues: tuple[Issue, ...]
    warnings: tuple[str, ...]

    @property
    def open(self) -> tuple[Issue, ...]:
        """The newest issues that are not resolved."""
        return tuple(issue for issue in self.issues if issue.state != "resolved")[:OPEN_LIMIT]


def parse(answer: Answer) -> Issues:
    """Returns the issues, of those with the same identifier the first; raises ParseError if it is no list of them."""
    return Issues(*distinct("issue", map(_issue, envelope(answer)), lambda issue: issue.identifier))


def _issue(item: Fields) -> Issue:
    status = item.fields("service_status")
    return Issue(
        identifier=item.required_text("identifier"),
        title=item.text("title") or "",
        state=item.required_text("state"),
        status=(status.text("permalink") if status else None) or "",
        created=item.timestamp("created_at"),
        updated=item.timestamp("updated_at"),
    )


# Families


def _by_state(model: Issues) -> list[tuple[Values, Number]]:
    count = Counter({"investigating": 0, "identified": 0, "monitoring": 0, "resolved": 0})
    count.update(issue.state for issue in model.issues)
    return [((state,), number) for state, number in count.items()]


FAMILIES: tuple[Family[Issues], ...] = (
    gauges("staytus_issues", "Number of issues in this state.", ("state",), _by_state),
    info("staytus_open_issue_info",
        f"Issue that is not resolved, always 1, for the newest {OPEN_LIMIT}; `status` is the permalink of its status.",
        ("identifier", "title", "state", "status"),
        lambda model: [(issue.identifier, issue.title, issue.state, issue.status) for issue in model.open]),
    gauges("staytus_open_issue_created_timestamp_seconds",
        f"Creation time of the open issue in Unix seconds, for the newest {OPEN_LIMIT}; absent if unknown.",
        ("identifier",), lambda model: [((issue.identifier,), issue.created) for issue in model.open]),
    gauges("staytus_open_issue_updated_timestamp_seconds",
        f"Time of the last update of the open issue in Unix seconds, for the newest {OPEN_LIMIT}; absent if unknown.",
        ("identifier",), lambda model: [((issue.identifier,), issue.updated) for issue in model.open]),
)  # fmt: skip

COLLECTOR = Collector(
    "issues",
    "api/v1/issues/all",
    parse,
    FAMILIES,
    warnings=lambda model: model.warnings,
    size_limit=8 * 1024 * 1024,  # it has all issues since the start
)
