"""/sd: the members of a Patroni cluster as Prometheus discovers targets through HTTP, from the live `/cluster`."""

import re
import time
from dataclasses import replace

from flask import Blueprint, Response, jsonify, request
from werkzeug.exceptions import BadRequest, ServiceUnavailable

from exporter.collectors import patroni_cluster, patroni_node
from exporter.collectors.patroni_cluster import Cluster, Member
from exporter.config.modules_file import ModulesFile
from exporter.scrape.scrape import Reading, read
from exporter.upstream.client import Fetcher
from exporter.upstream.target import Module
from exporter.web.limit import AtOnce
from exporter.web.metrics import budget
from exporter.web.probe import asked_module, asked_target

#: The URL of a member's REST API, as far as a target of Prometheus can tell it.
URL = re.compile(r"(?P<scheme>https?)://(?P<address>(\[[0-9a-fA-F:.]+\]|[\w.-]+)(:\d+)?)(/.*)?")

#: What Prometheus discovers: the address of a target, and its labels.
Group = dict[str, list[str] | dict[str, str]]


def discovery_blueprint(file: ModulesFile | None, fetcher: Fetcher, at_once: AtOnce) -> Blueprint:
    """Returns the door for the http_sd_configs of Prometheus."""
    blueprint = Blueprint("discovery", __name__)

    @blueprint.get("/sd")
    def discover() -> Response:
        """200 with the members, or else an error, so that Prometheus keeps those that it has."""
        module = asked_module(file)
        if module.service != "patroni":
            raise BadRequest(f"module {module.name} asks Staytus, which has no members to discover")
        texts = request.args.getlist("target")
        if not all(texts) or not texts:
            raise BadRequest("expected a parameter target for each node that can be asked for its cluster")
        modules = [asked_target(module, text) for text in texts]
        with at_once.one():
            return jsonify(_first_answer(modules, fetcher))

    return blueprint


def _first_answer(modules: list[Module], fetcher: Fetcher) -> list[Group]:
    """Asks one node after the other until one tells its cluster; raises ServiceUnavailable when none does."""
    end = time.monotonic() + budget(request.environ, "X-Prometheus-Refresh-Interval-Seconds")
    reasons = []
    for module in modules:
        document = _document(module, patroni_cluster.COLLECTOR.name, fetcher, end)
        if document.success:
            return _groups(document.model, document.model.scope or _scope(module, fetcher, end))
        reasons.append(f"{module.target.url}: {document.failure or 'this is no Patroni that knows /cluster'}")
    raise ServiceUnavailable(f"no target tells its cluster: {'; '.join(reasons)}")


def _document(module: Module, collector: str, fetcher: Fetcher, end: float) -> Reading:
    left = max(0.0, end - time.monotonic())
    return read([replace(module, collect=(collector,))], fetcher, left)[0].documents[0]


def _scope(module: Module, fetcher: Fetcher, end: float) -> str:
    """Returns the scope as the node says it, which /cluster does only since Patroni 3.2."""
    document = _document(module, patroni_node.COLLECTOR.name, fetcher, end)
    if not document.success:
        raise ServiceUnavailable(f"{module.target.url} does not tell the scope of its cluster: {document.failure}")
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
