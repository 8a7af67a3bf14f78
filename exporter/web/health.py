"""/health requests each module; /-/healthy and /-/ready only show that this process answers."""

from flask import Blueprint, Response, jsonify

from exporter.scrape.scrape import Scrape
from exporter.upstream.client import Client
from exporter.upstream.target import Module


def health_blueprint(modules: tuple[Module, ...], client: Client) -> Blueprint:
    """Returns the endpoints for load balancers and containers."""
    blueprint = Blueprint("health", __name__)

    @blueprint.get("/health")
    def health() -> tuple[Response, int]:
        """200 when the first document of each module was fetched, else 503, with the state of each module."""
        results = Scrape(modules, client, only_first=True).results()
        healthy = all(result.up for result in results)
        states = {
            result.module.name: {
                "state": "up" if result.up else "down",
                "reason": result.documents[0].failure,
                "seconds": round(result.documents[0].seconds, 6),
            }
            for result in results
        }
        return jsonify(status="healthy" if healthy else "unhealthy", modules=states), 200 if healthy else 503

    @blueprint.get("/-/ready")
    @blueprint.get("/-/healthy")
    def alive() -> Response:
        return Response("OK\n", mimetype="text/plain")

    return blueprint
