"""The application: the only place where rooms are wired together."""

import logging
from typing import TYPE_CHECKING

from flask import Flask
from werkzeug.exceptions import HTTPException
from werkzeug.middleware.dispatcher import DispatcherMiddleware

from exporter.config.settings import Settings
from exporter.log import known, log_to_standard_error
from exporter.upstream.client import Fetcher
from exporter.web.auth import locked
from exporter.web.discovery import discovery_blueprint
from exporter.web.health import health_blueprint
from exporter.web.landing import landing_blueprint
from exporter.web.limit import AtOnce
from exporter.web.metrics import metrics_app
from exporter.web.middleware import door, refusal
from exporter.web.probe import probe_blueprint
from exporter.web.reload import ReloadState, reload_blueprint

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication


def create_app(settings: Settings | None = None) -> Flask:
    """Returns the application with these settings, or with those of the environment.

    Asks nobody. Raises SettingsError for a setting that cannot be used.
    """
    settings = settings or Settings.load()
    log_to_standard_error(settings.log_level, settings.log_format)
    for module in settings.modules:
        if module.target.url.startswith("https:") and module.target.verify is False:
            told = known("TLS certificate is not verified", module=module.name, url=module.target.url)
            logging.getLogger(__name__).warning("%s: its TLS certificate is not verified", module.name, extra=told)
    file = settings.load_file()
    if file:
        file.log_state()

    fetcher = Fetcher()
    app = Flask("exporter", static_folder=None)
    app.config["PROPAGATE_EXCEPTIONS"] = True  # to the door
    app.register_error_handler(HTTPException, refusal)
    app.url_map.merge_slashes = False  # it would redirect to the host that the client names
    app.register_blueprint(health_blueprint(settings.modules, fetcher))
    app.register_blueprint(landing_blueprint(settings.modules, fetcher, probes=file is not None))
    at_once = AtOnce(settings.probes)
    app.register_blueprint(probe_blueprint(file, fetcher, at_once))
    app.register_blueprint(discovery_blueprint(file, fetcher, at_once))
    app.register_blueprint(reload_blueprint(file, settings.lifecycle))
    state = (ReloadState(file),) if file else ()
    metrics = {"/metrics": metrics_app(settings.modules, fetcher, *state)}
    doors: WSGIApplication = DispatcherMiddleware(app.wsgi_app, metrics)
    if settings.web_config_file:
        doors = locked(doors, settings.web_config_file, open_health=settings.open_health)
    app.wsgi_app = door(doors)  # type: ignore[assignment, method-assign]
    return app
