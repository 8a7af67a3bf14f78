"""Which members Patroni would have to reach in failsafe mode: `GET /failsafe`."""

from collections.abc import Iterable
from dataclasses import dataclass

from exporter.collectors.base import Collector, Family, Subject, Values
from exporter.collectors.document import Answer, NotProvided
from exporter.collectors.patroni import SCOPE_NAME, counting

# Model ----------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Failsafe:
    """The names of the members in the failsafe topology, none where failsafe mode was never on or is not known yet."""

    members: frozenset[str]


# parse ----------------------------------------------------------------------------------------------------------------


def parse(answer: Answer) -> Failsafe:
    """Returns the failsafe topology.

    Raises NotProvided before Patroni 3.0, and ParseError when the answer is no topology.
    """
    # No topology, as failsafe mode was never on: when it is switched off Patroni keeps what patroni/ha.py has written.
    if answer.status == 502:
        return Failsafe(frozenset())
    try:
        return Failsafe(frozenset(name for name, _ in counting(answer).fields()))
    except NotProvided:
        raise NotProvided(Failsafe(frozenset())) from None


# FAMILIES -------------------------------------------------------------------------------------------------------------


def _is_member(failsafe: Failsafe, subject: Subject) -> Iterable[tuple[Values, float]]:
    if failsafe.members and not subject["name"]:
        return []  # Patroni before 3.2 does not tell a node its own name
    return [((), float(subject["name"] in failsafe.members))]


FAMILIES: tuple[Family[Failsafe], ...] = (
    Family(
        "patroni_failsafe_member",
        "1 when this node is in the failsafe topology, which Patroni keeps when failsafe mode is switched off, else 0; "
        "absent when there is a topology and the node does not know its name (before Patroni 3.2).",
        SCOPE_NAME,
        (),
        _is_member,
        since="3.0.0",
    ),
)

# COLLECTOR ------------------------------------------------------------------------------------------------------------

COLLECTOR = Collector("failsafe", "failsafe", parse, FAMILIES)
