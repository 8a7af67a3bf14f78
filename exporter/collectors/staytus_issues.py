"""What Staytus says of its issues: `GET /api/v1/issues/all`. Who wrote them is personal data and is never read."""

from collections import Counter
from dataclasses import dataclass

from exporter.collectors.base import Collector, Family, Number, Values, gauges, info
from exporter.collectors.document import Answer, Fields, distinct
from exporter.collectors.staytus import envelope

#: How many open issues are told one by one, so that the number of series stays bounded.
OPEN_LIMIT = 100

# Model ----------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Issue:
    """One issue; `status` is the permalink of the status that it gives its services, times are Unix seconds."""

    identifier: str
    title: str
    state: str
    status: str
    created: float | None
    updated: float | None


@dataclass(frozen=True)
class Issues:
    """All issues ever, the newest first, and the identifiers of those that were passed over."""

    issues: tuple[Issue, ...]
    repeated: tuple[str, ...]

    @property
    def open(self) -> tuple[Issue, ...]:
        """The newest issues that are not resolved."""
        return tuple(issue for issue in self.issues if issue.state != "resolved")[:OPEN_LIMIT]


# parse ----------------------------------------------------------------------------------------------------------------


def parse(answer: Answer) -> Issues:
    """Returns the issues; of two with one identifier the first.

    Raises ParseError when Staytus refuses or the answer is not its list of issues.
    """
    return Issues(*distinct(map(_issue, envelope(answer)), lambda issue: issue.identifier))


def _issue(item: Fields) -> Issue:
    status = item.fields("service_status")
    return Issue(
        identifier=item.required_text("identifier"),
        title=item.text("title") or "",
        state=item.required_text("state"),
        status=(status.text("permalink") if status else None) or "",
        created=item.moment("created_at"),
        updated=item.moment("updated_at"),
    )


# FAMILIES -------------------------------------------------------------------------------------------------------------


def _by_state(model: Issues) -> list[tuple[Values, Number]]:
    count = Counter({"investigating": 0, "identified": 0, "monitoring": 0, "resolved": 0})
    count.update(issue.state for issue in model.issues)
    return [((state,), number) for state, number in count.items()]


FAMILIES: tuple[Family[Issues], ...] = (
    gauges(
        "staytus_issues",
        "How many issues there are in this state.",
        ("state",),
        _by_state,
    ),
    info(
        "staytus_open_issue_info",
        f"1 for each issue that is not resolved, the newest {OPEN_LIMIT}; status is the permalink of its status.",
        ("identifier", "title", "state", "status"),
        lambda model: [(issue.identifier, issue.title, issue.state, issue.status) for issue in model.open],
    ),
    gauges(
        "staytus_open_issue_created_timestamp_seconds",
        f"When the open issue was created, in Unix seconds, for the newest {OPEN_LIMIT}.",
        ("identifier",),
        lambda model: [((issue.identifier,), issue.created) for issue in model.open],
    ),
    gauges(
        "staytus_open_issue_updated_timestamp_seconds",
        f"When the open issue was last updated, in Unix seconds, for the newest {OPEN_LIMIT}.",
        ("identifier",),
        lambda model: [((issue.identifier,), issue.updated) for issue in model.open],
    ),
)

# COLLECTOR ------------------------------------------------------------------------------------------------------------

COLLECTOR = Collector(
    "issues",
    "api/v1/issues/all",
    parse,
    FAMILIES,
    remarks=lambda model: [f"a second issue with the identifier {identifier!r}" for identifier in model.repeated],
)
