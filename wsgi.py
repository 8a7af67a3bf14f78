"""The WSGI entry for gunicorn, uWSGI and Apache mod_wsgi."""

import sys
from typing import TYPE_CHECKING

from exporter import create_app
from exporter.config.errors import exit_on_config_error

if TYPE_CHECKING:
    from collections.abc import Iterable

    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

application: "WSGIApplication"


def _refuse(_: "WSGIEnvironment", start_response: "StartResponse") -> "Iterable[bytes]":
    """Answers every request where a setting cannot be used and the process has to stay all the same."""
    start_response("500 Internal Server Error", [("Content-Type", "text/plain; charset=utf-8")])
    return [b"A setting cannot be used; the log of the server says which.\n"]


def _ends_in_vain() -> bool:
    """Tells whether the host would load this file again and again, and log it each time, for as long as it ends."""
    uwsgi = sys.modules.get("uwsgi")
    in_uwsgi_worker = uwsgi is not None and uwsgi.masterpid() and uwsgi.worker_id()  # under lazy-apps
    return "mod_wsgi" in sys.modules or bool(in_uwsgi_worker)


try:
    with exit_on_config_error():
        application = create_app()
except SystemExit as end:
    if not _ends_in_vain():
        if "gunicorn.arbiter" in sys.modules:
            end.code = 3  # with which a worker stops gunicorn, where 2 would let it start the next one
        raise
    application = _refuse

app = application
