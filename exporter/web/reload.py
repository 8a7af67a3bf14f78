"""/-/reload reloads the modules file; /metrics has the result of the last reload."""

from collections.abc import Iterator

from flask import Blueprint, Response
from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from werkzeug.exceptions import BadRequest, Forbidden, InternalServerError

from exporter.config.modules_file import ModulesFile


class ReloadState(Collector):
    """The result of the last reload."""

    def __init__(self, file: ModulesFile):
        self._file = file

    def describe(self) -> Iterator[Metric]:
        return self.collect()  # so that `name[]` can select them

    def collect(self) -> Iterator[Metric]:
        self._file.get()  # reloads a changed file
        yield GaugeMetricFamily(
            "exporter_config_last_reload_successful",
            "1 if the last reload of the modules file succeeded, 0 otherwise.",
            float(self._file.failure is None),
        )
        yield GaugeMetricFamily(
            "exporter_config_last_reload_success_timestamp_seconds",
            "Time of the last successful reload of the modules file, in Unix seconds.",
            self._file.loaded_at,
        )


def reload_blueprint(file: ModulesFile | None, lifecycle: bool) -> Blueprint:
    """Returns the endpoint that reloads the modules file at once."""
    blueprint = Blueprint("reload", __name__)

    @blueprint.route("/-/reload", methods=["POST", "PUT"])
    def reload() -> Response:
        if not lifecycle:
            raise Forbidden("reloading is off: set EXPORTER_WEB_ENABLE_LIFECYCLE or --web.enable-lifecycle")
        if file is None:
            raise BadRequest("there is no modules file: set EXPORTER_CONFIG_FILE or --config.file")
        file.reload()
        if file.failure:
            raise InternalServerError(f"not reloaded, the last good version stays in use: {file.failure}")
        return Response("OK\n", mimetype="text/plain")

    return blueprint
