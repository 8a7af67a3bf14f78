"""The members that the primary must reach in failsafe mode: `GET /failsafe`."""

from dataclasses import dataclass

from exporter.collectors.base import Collector, CommonLabels, Family, Samples
from exporter.collectors.document import Answer, NotSupported
from exporter.collectors.patroni import SCOPE_NAME, require_ok

# Model


@dataclass(frozen=True)
class Failsafe:
    """The names of the members in the failsafe topology."""

    members: frozenset[str]


def parse(answer: Answer) -> Failsafe:
    """Returns the topology; raises NotSupported before Patroni 3.0, and ParseError if it is not a topology."""
    # Failsafe mode was never enabled; Patroni keeps the topology after it is disabled (patroni/ha.py).
    if answer.status == 502:
        return Failsafe(frozenset())
    try:
        return Failsafe(frozenset(name for name, _ in require_ok(answer, "3.0.0").fields()))
    except NotSupported:
        raise NotSupported(Failsafe(frozenset())) from None


# Families


def _is_member(failsafe: Failsafe, labels: CommonLabels) -> Samples:
    if failsafe.members and not labels["name"]:
        return []  # Patroni before 3.2 does not report the node's own name
    return [((), float(labels["name"] in failsafe.members))]


FAMILIES: tuple[Family[Failsafe], ...] = (
    Family("patroni_failsafe_member",
        "1 if this node is in the failsafe topology, which Patroni keeps after failsafe mode is disabled, 0 otherwise; "
        "absent before Patroni 3.2 if there is a topology.", (), _is_member, "3.0.0", SCOPE_NAME),
)  # fmt: skip

COLLECTOR = Collector("failsafe", "failsafe", parse, FAMILIES)
