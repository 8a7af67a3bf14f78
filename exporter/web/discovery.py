"""/sd: the members of a Patroni cluster for Prometheus' HTTP service discovery, from the live `/cluster`."""

import re
import time
from dataclasses import replace

from flask import Blueprint, Response, jsonify, request
from werkzeug.exceptions import BadRequest, ServiceUnavailable

from exporter.collectors import patroni_cluster, patroni_node
from exporter.collectors.patroni_cluster import Member
from exporter.config.modules_file import ModulesFile
from exporter.scrape.scrape import Scrape
from exporter.upstream.client import Client
from exporter.upstream.target import Module
from exporter.web.limit import RETRY_AFTER, ConcurrencyLimit
from exporter.web.metrics import scrape_seconds
from exporter.web.probe import requested_module, requested_target

#: The URL of a member's REST API, as far as a Prometheus target can represent it.
URL = re.compile(r"(?P<scheme>https?)://(?P<address>(\[[0-9a-fA-F:.]+\]|[\w.-]+)(:\d+)?)(/.*)?")

#: Parameters `target` of a request, and seconds that it takes at most.
MOST_TARGETS = 50
DEADLINE = 10.0

#: A target group of Prometheus: the address of a target, and its labels.
Group = dict[str, list[str] | dict[str, str]]


def discovery_blueprint(file: ModulesFile | None, client: Client, limit: ConcurrencyLimit) -> Blueprint:
    """Returns the endpoint for the http_sd_configs of Prometheus."""
    blueprint = Blueprint("discovery", __name__)

    @blueprint.get("/sd")
    def discover() -> Response:
        """200 with the members; else an error, with which Prometheus keeps the targets that it has."""
        module = requested_module(file)
        if module.service != "patroni":
            raise BadRequest(f"module {module.name} is for Staytus, which has no members to discover")
        texts = dict.fromkeys(request.args.getlist("target"))
        if not texts or "" in texts:
            raise BadRequest("expected one or more parameters target, each a node of the cluster")
        if len(texts) > MOST_TARGETS:
            raise BadRequest(f"expected at most {MOST_TARGETS} parameters target, found {len(texts)}")
        modules = [requested_target(module, text) for text in texts]
        seconds = min(scrape_seconds(request.environ, "X-Prometheus-Refresh-Interval-Seconds"), DEADLINE)
        with limit.one():
            return jsonify(_discover(modules, client, time.monotonic() + seconds))

    return blueprint


def _discover(modules: list[Module], client: Client, end: float) -> list[Group]:
    """Requests the cluster of all nodes at once and returns the members with an address of the first that responds.

    `end` is in monotonic seconds. Raises ServiceUnavailable when none responds.
    """
    failures = {}
    for result in _scrape(modules, patroni_cluster.COLLECTOR.name, client, end).as_completed():
        document = result.documents[0]
        if not document.success:
            failures[result.module.target.url] = document.failure or "this version of Patroni has no /cluster"
        elif scope := document.model.scope or _scope(result.module, client, end):
            members = document.model.members
            return [_group(each, scope, url) for each in members if (url := URL.fullmatch(each.api_url))]
        else:
            failures[result.module.target.url] = "the scope of its cluster is not known"
    reasons = "; ".join(f"{url}: {reason}" for url, reason in failures.items())
    raise ServiceUnavailable(f"no target returned its cluster: {reasons}", retry_after=RETRY_AFTER)


def _scrape(modules: list[Module], collector: str, client: Client, end: float) -> Scrape:
    seconds = max(0.0, end - time.monotonic())
    return Scrape([replace(module, collect=(collector,)) for module in modules], client, seconds)


def _scope(module: Module, client: Client, end: float) -> str:
    """Returns the scope from /patroni, because /cluster has it only since Patroni 3.2; empty when it failed."""
    document = _scrape([module], patroni_node.COLLECTOR.name, client, end).results()[0].documents[0]
    return str(document.model.scope) if document.success else ""


def _group(member: Member, scope: str, url: re.Match[str]) -> Group:
    labels = {
        "scope": scope,
        "name": member.name,
        "role": member.role,
        "state": member.state,
        "timeline": None if member.timeline is None else str(member.timeline),
        "host": member.host,
        "port": member.port,
        "scheme": url["scheme"],
    }
    for tag, value in member.tags:
        labels.setdefault(f"tag_{re.sub(r'[^a-zA-Z0-9_]', '_', tag)}", value)
    given = {f"__meta_patroni_{name}": value for name, value in labels.items() if value}
    return {"targets": [url["address"]], "labels": given}
