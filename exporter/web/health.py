"""/health asks each module; /-/healthy and /-/ready only say that this process answers."""

import math

from flask import Blueprint, Response, jsonify

from exporter.scrape.scrape import read
from exporter.upstream.client import Fetcher
from exporter.upstream.target import Module


def health_blueprint(modules: tuple[Module, ...], fetcher: Fetcher) -> Blueprint:
    """Returns the doors for load balancers, containers and people who ask whether all is well."""
    blueprint = Blueprint("health", __name__)

    @blueprint.get("/health")
    def health() -> tuple[Response, int]:
        """200 when the first document of each module is there, else 503, and what became of each."""
        readings = read(modules, fetcher, math.inf, only_first=True)
        healthy = all(reading.up for reading in readings)
        states = {
            reading.module.name: {
                "state": "up" if reading.up else "down",
                "reason": reading.documents[0].failure,
                "seconds": round(reading.documents[0].seconds, 6),
            }
            for reading in readings
        }
        return jsonify(status="healthy" if healthy else "unhealthy", modules=states), 200 if healthy else 503

    @blueprint.get("/-/ready")
    @blueprint.get("/-/healthy")
    def alive() -> Response:
        return Response("OK\n", mimetype="text/plain")

    return blueprint
