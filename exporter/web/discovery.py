"""/sd: the members of Patroni clusters for Prometheus' HTTP service discovery."""

import time

from flask import Blueprint, Response, request
from werkzeug.exceptions import BadRequest, ServiceUnavailable

from exporter.config.modules_file import ModulesFile
from exporter.discovery.discovery import ClusterDiscovery, DiscoveryError, Group
from exporter.web.limit import RETRY_AFTER, ConcurrencyLimit
from exporter.web.metrics import scrape_seconds
from exporter.web.probe import requested_module, requested_target

#: Parameters `target` of a request, and seconds that it takes at most.
MOST_TARGETS = 50
DEADLINE = 10.0


def discovery_blueprint(
    file: ModulesFile | None, discovery: ClusterDiscovery | None, limit: ConcurrencyLimit
) -> Blueprint:
    """Returns the endpoint for the http_sd_configs of Prometheus. Without a modules file it only explains the error."""
    blueprint = Blueprint("discovery", __name__)

    @blueprint.get("/sd")
    def discover() -> Response:
        """200 with the members; else an error, with which Prometheus keeps the targets that it has."""
        module = requested_module(file, request.args)
        if module.service != "patroni":
            raise BadRequest(f"module {module.name} is for Staytus, which has no members to discover")
        targets = list(dict.fromkeys(request.args.getlist("target")))
        if "" in targets:
            raise BadRequest("expected the parameter target to be a node of the cluster, found an empty one")
        if len(targets) > MOST_TARGETS:
            raise BadRequest(f"expected at most {MOST_TARGETS} parameters target, found {len(targets)}")
        urls = [requested_target(module, target).target.url for target in targets]
        end = time.monotonic() + min(scrape_seconds(request.environ, "X-Prometheus-Refresh-Interval-Seconds"), DEADLINE)
        with limit.one():
            try:
                if urls and discovery:
                    return _response(discovery.of_targets(module, urls, end))
                if module.discovery and discovery:
                    return _response(discovery.of_module(module, module.discovery, end))
            except DiscoveryError as error:
                raise ServiceUnavailable(str(error), retry_after=RETRY_AFTER) from None
        raise BadRequest(
            f"expected one or more parameters target, each a node of the cluster: module {module.name} has no discovery"
        )

    return blueprint


def _response(groups: list[Group]) -> Response:
    return Response(f"[{','.join(groups)}]\n", mimetype="application/json")
