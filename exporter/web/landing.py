"""/: the landing page, with the present state of each module and links to the other endpoints."""

import base64
import hashlib
import math
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from flask import Blueprint, render_template, request

from exporter.collectors.patroni_cluster import Cluster
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


#: The endpoints that take a module of the modules file and a target, and the labels of their forms.
FORMS = (("/probe", "Metrics of a target"), ("/sd", "Members of a cluster"))

#: A line at the top of a module: good, warn or bad, and a text.
Notice = tuple[str, str]


class View:
    """The documents of one module; None if the module does not have the document or its scrape failed."""

    def __init__(self, result: ModuleResult) -> None:
        models: dict[type, Any] = {type(document.model): document.model for document in result.documents}
        self.result = result
        self.node: Node | None = models.get(Node)
        self.cluster: Cluster | None = models.get(Cluster)
        self.history: History | None = models.get(History)
        self.config: Config | None = models.get(Config)
        self.services: Services | None = models.get(Services)
        self.issues: Issues | None = models.get(Issues)

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
        failed = [document for document in self.result.documents if document.failure]
        failures = [("bad", f"{document.collector.path}: {document.failure}") for document in failed]
        return [*failures, *self._patroni(), *self._staytus()]

    def _patroni(self) -> Iterator[Notice]:
        node, cluster = self.node, self.cluster
        if node and node.state != "running":
            yield "bad", f"PostgreSQL is not running on this node: {node.state}"
        if node and node.cluster_unlocked:
            yield "bad", "unlocked: no member holds the leader lock, or this node cannot read it"
        if node and node.failsafe_mode_is_active:
            yield "bad", "failsafe mode is active: the leader continues without the DCS"
        if cluster and len(leaders := [member.name for member in cluster.members if member.is_leader]) != 1:
            yield "bad", f"more than one leader: {', '.join(leaders)}" if leaders else "no leader"
        if (node and node.pause) or (cluster and cluster.paused):
            yield "warn", "paused: the cluster is in maintenance mode, without automatic failover"
        if cluster and (switchover := cluster.switchover):
            leader = f" from {switchover.leader}" if switchover.leader else ""
            candidate = f" to {switchover.candidate}" if switchover.candidate else ""
            yield "warn", f"switchover{leader}{candidate} is scheduled for {iso(switchover.at)}"

    def _staytus(self) -> Iterator[Notice]:
        services, issues = self.services, self.issues
        if services and issues and issues.open:
            statuses = {service.status.status_type if service.status else "" for service in services.services}
            if statuses <= {"ok"}:
                yield "warn", "an issue is open, but every service is ok"


def landing_blueprint(modules: tuple[Module, ...], client: Client, *, probes: bool) -> Blueprint:
    """Returns the landing page, which requests the modules as a scrape does.

    With `probes` it has forms for /probe and /sd, which need a modules file.
    """
    blueprint = Blueprint("landing", __name__, template_folder=".")
    for text in (iso, age, size, postgresql):
        blueprint.add_app_template_filter(text)

    @blueprint.get("/")
    def landing() -> tuple[str, dict[str, str]]:
        results = Scrape(modules, client, TIMEOUT).results() if request.method == "GET" else []
        page = render_template(
            "landing.html",
            version=__version__,
            style=STYLE,
            now=time.time(),
            most=MOST,
            views=[View(result) for result in results],
            families=[family.name for module in modules for family in families_of(module)],
            forms=FORMS if probes else (),
        )
        return page, {"Content-Security-Policy": POLICY}

    return blueprint


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
