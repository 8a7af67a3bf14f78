"""/-/reload loads the modules file again; /metrics tells whether the last time went well."""

from collections.abc import Iterator

from flask import Blueprint, Response
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector
from werkzeug.exceptions import BadRequest, Forbidden, InternalServerError

from exporter.config.modules_file import ModulesFile


class ReloadState(Collector):
    """What became of the modules file."""

    def __init__(self, file: ModulesFile):
        self._file = file

    def describe(self) -> Iterator[Metric]:
        return self.collect()  # so that `name[]` can choose them

    def collect(self) -> Iterator[Metric]:
        self._file.modules()  # looks whether it has changed
        for name, help, value in (
            (
                "exporter_config_last_reload_successful",
                "1 when the modules file is loaded as it is now, 0 when it cannot be used and an older one counts.",
                float(self._file.failure is None),
            ),
            (
                "exporter_config_last_reload_success_timestamp_seconds",
                "When the modules file was last loaded, in Unix seconds.",
                self._file.loaded_at,
            ),
        ):
            metric = Metric(name, help, "gauge")
            metric.add_sample(name, {}, value)
            yield metric


def reload_blueprint(file: ModulesFile | None, lifecycle: bool) -> Blueprint:
    """Returns the door for whoever has changed the modules file and does not want to wait until that is noticed."""
    blueprint = Blueprint("reload", __name__)

    @blueprint.route("/-/reload", methods=["POST", "PUT"])
    def reload() -> Response:
        if not lifecycle:
            raise Forbidden("reloading is off: EXPORTER_WEB_ENABLE_LIFECYCLE or --web.enable-lifecycle switches it on")
        if file is None:
            raise BadRequest("there is nothing to load: EXPORTER_CONFIG_FILE or --config.file names no modules file")
        file.reload()
        if file.failure:
            raise InternalServerError(f"the modules stay as they were: {file.failure}")
        return Response("OK\n", mimetype="text/plain")

    return blueprint
