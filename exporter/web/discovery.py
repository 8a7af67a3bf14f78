"""/sd: the members of a Patroni cluster for Prometheus' HTTP service discovery, from the live `/cluster`."""

import re
import time
from dataclasses import replace

from flask import Blueprint, Response, jsonify, request
from werkzeug.exceptions import BadRequest, ServiceUnavailable

from exporter.collectors import patroni_cluster, patroni_node
from exporter.collectors.patroni_cluster import Cluster, Member
from exporter.config.modules_file import ModulesFile
from exporter.scrape.results import DocumentResult
from exporter.scrape.scrape import Scrape
from exporter.upstream.client import Client
from exporter.upstream.target import Module
from exporter.web.limit import ConcurrencyLimit
from exporter.web.metrics import scrape_seconds
from exporter.web.probe import requested_module, requested_target

#: The URL of a member's REST API, as far as a Prometheus target can represent it.
URL = re.compile(r"(?P<scheme>https?)://(?P<address>(\[[0-9a-fA-F:.]+\]|[\w.-]+)(:\d+)?)(/.*)?")

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
            raise BadRequest(f"module {module.name} requests Staytus, which has no members to discover")
        texts = request.args.getlist("target")
        if not all(texts) or not texts:
            raise BadRequest("expected one or more parameters target, each a node of the cluster")
        modules = [requested_target(module, text) for text in texts]
        with limit.one():
            return jsonify(_first_response(modules, client))

    return blueprint


def _first_response(modules: list[Module], client: Client) -> list[Group]:
    """Requests one node after the other until one returns its cluster; raises ServiceUnavailable when none does."""
    end = time.monotonic() + scrape_seconds(request.environ, "X-Prometheus-Refresh-Interval-Seconds")
    reasons = []
    for module in modules:
        document = _document(module, patroni_cluster.COLLECTOR.name, client, end)
        if document.success:
            return _groups(document.model, document.model.scope or _scope(module, client, end))
        reasons.append(f"{module.target.url}: {document.failure or 'this version of Patroni has no /cluster'}")
    raise ServiceUnavailable(f"no target returned its cluster: {'; '.join(reasons)}")


def _document(module: Module, collector: str, client: Client, end: float) -> DocumentResult:
    left = max(0.0, end - time.monotonic())
    return Scrape([replace(module, collect=(collector,))], client, left).results()[0].documents[0]


def _scope(module: Module, client: Client, end: float) -> str:
    """Returns the scope from /patroni, because /cluster has it only since Patroni 3.2."""
    document = _document(module, patroni_node.COLLECTOR.name, client, end)
    if not document.success:
        raise ServiceUnavailable(f"{module.target.url} did not return the scope of its cluster: {document.failure}")
    return str(document.model.scope)


def _groups(cluster: Cluster, scope: str) -> list[Group]:
    """Returns a group for each member whose REST API has an address."""
    return [
        _group(member, scope, url["scheme"], url["address"])
        for member in cluster.members
        if (url := URL.fullmatch(member.api_url))
    ]


def _group(member: Member, scope: str, scheme: str, address: str) -> Group:
    labels = {
        "scope": scope,
        "name": member.name,
        "role": member.role,
        "state": member.state,
        "timeline": None if member.timeline is None else str(member.timeline),
        "host": member.host,
        "port": member.port,
        "scheme": scheme,
    }
    for tag, value in member.tags:
        labels.setdefault(f"tag_{re.sub(r'[^a-zA-Z0-9_]', '_', tag)}", value)
    return {
        "targets": [address],
        "labels": {f"__meta_patroni_{name}": value for name, value in labels.items() if value},
    }
