"""The timeline history of a Patroni cluster: `GET /history`."""

from dataclasses import dataclass

from exporter.collectors.base import Collector, Family, gauge, gauges, info, with_labels
from exporter.collectors.document import Answer, Fields
from exporter.collectors.patroni import SCOPE, require_ok

#: The maximum length of the label reason, which is free text of PostgreSQL.
REASON_LIMIT = 120

# Model


@dataclass(frozen=True)
class History:
    """The number of timeline switches, and the time of the last one in Unix seconds, its new leader and its reason."""

    switches: int
    last: float | None
    leader: str
    reason: str


def parse(answer: Answer) -> History:
    """Returns the history, empty on the first timeline; raises ParseError if the document is not a list of rows."""
    rows = require_ok(answer, "1.6.1").rows()
    if not rows:
        return History(0, None, "", "")
    # The time is missing if Patroni lost it; the leader is missing before Patroni 2.1.1.
    row = dict(zip(("timeline", "lsn", "reason", "time", "leader"), rows[-1], strict=False))
    last = Fields(row, f"[{len(rows) - 1}]")
    reason = last.text("reason") or ""
    return History(len(rows), last.timestamp("time"), last.text("leader") or "", reason[:REASON_LIMIT])


# Families

FAMILIES: tuple[Family[History], ...] = with_labels(
    SCOPE,
    gauge("patroni_timeline_switches", "Number of timeline switches in Patroni's history.",
        lambda history: history.switches),
    gauges("patroni_last_timeline_switch_timestamp_seconds",
        "Time of the last timeline switch in Unix seconds; `leader` is the new leader, empty before Patroni 2.1.1; "
        "absent if there was no switch or its time is unknown.",
        ("leader",), lambda history: [((history.leader,), history.last)]),
    info("patroni_last_timeline_switch_info", "New leader and reason of the last timeline switch, always 1; "
        f"`reason` has at most {REASON_LIMIT} characters; absent if there is no reason.",
        ("leader", "reason"), lambda history: [(history.leader, history.reason)] if history.reason else []),
)  # fmt: skip

COLLECTOR = Collector("history", "history", parse, FAMILIES, size_limit=16 * 1024 * 1024)
