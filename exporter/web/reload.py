"""/-/reload reloads the modules file."""

from flask import Blueprint, Response
from werkzeug.exceptions import BadRequest, Forbidden, InternalServerError

from exporter.config.modules_file import ModulesFile


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
