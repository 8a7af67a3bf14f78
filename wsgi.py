"""The WSGI application for gunicorn, uWSGI and Apache mod_wsgi."""

import os
import sys
from collections.abc import Iterable
from pathlib import Path
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from exporter import create_app
from exporter.config.errors import exit_on_config_error

application: WSGIApplication


def _not_configured(_: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """Responds with 500 to every request."""
    start_response("500 Internal Server Error", [("Content-Type", "text/plain; charset=utf-8")])
    return [b"The settings are not valid: see the log of the server.\n"]


def _restarts_endlessly() -> bool:
    """Whether the server would load this file again each time that it exits."""
    uwsgi = sys.modules.get("uwsgi")
    in_lazy_uwsgi_worker = uwsgi is not None and uwsgi.masterpid() and uwsgi.worker_id()
    return "mod_wsgi" in sys.modules or bool(in_lazy_uwsgi_worker)


if (env := Path(__file__).resolve().with_name(".env")).is_file() and not os.environ.get("EXPORTER_ENV_FILE"):
    os.environ["EXPORTER_ENV_FILE"] = str(env)  # the package can be installed in another directory

try:
    with exit_on_config_error():
        application = create_app()
except SystemExit as error:
    if not _restarts_endlessly():
        if "gunicorn.arbiter" in sys.modules:
            error.code = 3  # ends gunicorn; after 2 it would start another worker
        raise
    application = _not_configured

app = application
