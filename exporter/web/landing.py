"""/: the landing page, with the present state of each module and links to the other endpoints."""

import base64
import hashlib
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

from flask import Blueprint, render_template, request

from exporter.collectors.patroni_cluster import Cluster, Member
from exporter.collectors.patroni_config import Config
from exporter.collectors.patroni_history import History
from exporter.collectors.patroni_node import Node
from exporter.collectors.staytus_issues import Issues
from exporter.collectors.staytus_services import Services
from exporter.scrape.families import families_of
from exporter.scrape.results import ModuleResult
from exporter.scrape.scrape import Scrape
from exporter.upstream.client import Client
from exporter.upstream.target import Module
from exporter.version import __version__

M = TypeVar("M")

#: Seconds after which the page is rendered, also without the documents that are missing.
TIMEOUT = 2.0

#: Rows of a table.
MOST = 200

STYLE = Path(__file__).with_name("landing.css").read_text(encoding="utf-8")

#: The page may apply its own style and an empty icon; it cannot load anything else or run a script.
POLICY = (
    "default-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; img-src data:; "
    f"style-src 'sha256-{base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()}'"
)


@dataclass(frozen=True)
class Notice:
    """A line at the top of a module; `kind` is good, warn or bad."""

    kind: str
    text: str


@dataclass(frozen=True)
class Form:
    """An endpoint that takes a module of the modules file and a target."""

    endpoint: str
    label: str


FORMS = (Form("probe.probe", "Metrics of a target"), Form("discovery.discover", "Members of a cluster"))


@dataclass(frozen=True)
class View:
    """The documents of one module; None if the module does not have the document or its scrape failed."""

    result: ModuleResult
    node: Node | None
    cluster: Cluster | None
    history: History | None
    config: Config | None
    services: Services | None
    issues: Issues | None

    @classmethod
    def of(cls, result: ModuleResult) -> "View":
        """Returns the view of a result."""

        def model(kind: type[M]) -> M | None:
            return next((each.model for each in result.documents if isinstance(each.model, kind)), None)

        return cls(result, model(Node), model(Cluster), model(History), model(Config), model(Services), model(Issues))

    @property
    def scope(self) -> str:
        """The name of the cluster, empty if no document has it."""
        return self.result.common_labels.get("scope", "")

    @property
    def timeline(self) -> int:
        """The highest timeline of the members, 0 if none is known."""
        return max((member.timeline or 0 for member in self.cluster.members), default=0) if self.cluster else 0

    @property
    def notices(self) -> list[Notice]:
        """Failures, problems and scheduled actions."""
        return [*self._failures(), *self._patroni(), *self._staytus()]

    def _failures(self) -> Iterator[Notice]:
        for document in self.result.documents:
            if document.failure:
                yield Notice("bad", f"{document.collector.path}: {document.failure}")

    def _patroni(self) -> Iterator[Notice]:
        node, cluster = self.node, self.cluster
        if node and node.state != "running":
            yield Notice("bad", f"PostgreSQL is not running on this node: {node.state}")
        if node and node.cluster_unlocked:
            yield Notice("bad", "unlocked: no member holds the leader lock, or this node cannot read it")
        if node and node.failsafe_mode_is_active:
            yield Notice("bad", "failsafe mode is active: the leader continues without the DCS")
        if cluster and len(leaders := [member.name for member in cluster.members if leads(member)]) != 1:
            yield Notice("bad", f"more than one leader: {', '.join(leaders)}" if leaders else "no leader")
        if (node and node.pause) or (cluster and cluster.paused):
            yield Notice("warn", "paused: the cluster is in maintenance mode, without automatic failover")
        if cluster and (switchover := cluster.switchover):
            words = ["switchover", *(["from", switchover.leader] if switchover.leader else [])]
            words += ["to", switchover.candidate] if switchover.candidate else []
            yield Notice("warn", f"{' '.join(words)} is scheduled for {iso(switchover.at)}")

    def _staytus(self) -> Iterator[Notice]:
        services, issues = self.services, self.issues
        if services and issues and issues.open:
            statuses = {service.status.status_type if service.status else "" for service in services.services}
            if statuses <= {"ok"}:
                yield Notice("warn", "an issue is open, but every service is ok")


def landing_blueprint(modules: tuple[Module, ...], client: Client, *, probes: bool) -> Blueprint:
    """Returns the landing page, which requests the modules as a scrape does.

    With `probes` it has forms for /probe and /sd, which need a modules file.
    """
    blueprint = Blueprint("landing", __name__, template_folder=".")
    for name, text in (("iso", iso), ("age", age), ("bytes", size), ("postgresql", postgresql), ("severity", severity)):
        blueprint.add_app_template_filter(text, name)
    for predicate in (leads, replicates):
        blueprint.add_app_template_filter(predicate)

    @blueprint.get("/")
    def landing() -> tuple[str, dict[str, str]]:
        results = Scrape(modules, client, TIMEOUT).results() if request.method == "GET" else []
        page = render_template(
            "landing.html",
            version=__version__,
            style=STYLE,
            now=time.time(),
            most=MOST,
            views=[View.of(result) for result in results],
            families=[family.name for module in modules for family in families_of(module)],
            forms=FORMS if probes else (),
        )
        return page, {"Content-Security-Policy": POLICY}

    return blueprint


def leads(member: Member) -> bool:
    """Returns whether the member is the leader of its cluster or standby cluster."""
    return member.role in ("leader", "standby_leader")


def replicates(member: Member) -> bool:
    """Returns whether PostgreSQL is running on the member."""
    # Before Patroni 3.0.4 a replica that streams is "running".
    return member.state in ("running", "streaming", "in archive recovery")


def severity(status_type: str) -> str:
    """Returns the kind of mark for a status_type; warn for an unknown one."""
    return {"ok": "good", "major": "bad"}.get(status_type, "warn")


def iso(seconds: float) -> str:
    """Returns a time in Unix seconds as ISO 8601, or the number if it is out of range."""
    try:
        return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    except (ValueError, OverflowError, OSError):
        return f"{seconds:g}"


def age(seconds: float | None, now: float) -> str:
    """Returns the time since `seconds`, or until it; both are in Unix seconds."""
    if seconds is None:
        return ""
    apart = abs(now - seconds)
    unit, name = next(
        ((unit, name) for unit, name in ((86400, "d"), (3600, "h"), (60, "min")) if apart >= 2 * unit), (1, "s")
    )
    amount = f"{apart // unit:.0f} {name}"
    return f"in {amount}" if seconds > now + 1 else f"{amount} ago"


def size(number: float | None) -> str:
    """Returns a number of bytes with a binary unit."""
    if number is None:
        return "unknown"
    step = min(4, int(math.log2(abs(number)) // 10)) if abs(number) >= 1 else 0
    return f"{number:.0f} B" if not step else f"{number / 1024**step:.1f} {' KMGT'[step]}iB"


def postgresql(number: int | None) -> str:
    """Returns a server_version_num as a version: 150018 is 15.18, and 90624 is 9.6.24."""
    if not number:
        return ""
    major, rest = divmod(number, 10000)
    return f"{major}.{rest}" if major >= 10 else f"{major}.{rest // 100}.{rest % 100}"
