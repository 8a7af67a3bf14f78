"""How the timelines of a Patroni cluster ended: `GET /history`."""

from dataclasses import dataclass

from exporter.collectors.base import Collector, Family, gauge, gauges
from exporter.collectors.document import Answer, Fields
from exporter.collectors.patroni import SCOPE, counting

# Model ----------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class History:
    """How many switches the cluster remembers; when the last one was, in Unix seconds, and to whom."""

    switches: int
    last: float | None
    leader: str


# parse ----------------------------------------------------------------------------------------------------------------


def parse(answer: Answer) -> History:
    """Returns the history, which is empty while the cluster is on its first timeline.

    Raises ParseError when the answer is not a list of rows.
    """
    rows = counting(answer).rows()
    if not rows:
        return History(0, None, "")
    # Timeline, position and reason; the time where the cluster's own record of it is not lost; the leader since 2.1.1.
    row = dict(zip(("timeline", "lsn", "reason", "time", "leader"), rows[-1], strict=False))
    last = Fields(row, f"[{len(rows) - 1}]")
    return History(len(rows), last.moment("time"), last.text("leader") or "")


# FAMILIES -------------------------------------------------------------------------------------------------------------

FAMILIES: tuple[Family[History], ...] = (
    gauge(
        "patroni_timeline_switches",
        "How many switches to another timeline Patroni remembers.",
        lambda history: history.switches,
        subject=SCOPE,
    ),
    gauges(
        "patroni_last_timeline_switch_timestamp_seconds",
        "When the last switch to another timeline was, in Unix seconds; absent when none was or its time is lost. "
        "`leader` is who led then, empty before Patroni 2.1.1.",
        ("leader",),
        lambda history: [((history.leader,), history.last)],
        subject=SCOPE,
    ),
)

# COLLECTOR ------------------------------------------------------------------------------------------------------------

COLLECTOR = Collector("history", "history", parse, FAMILIES)
