"""The application: the only place where rooms are wired together."""

import logging

from flask import Flask
from werkzeug.middleware.dispatcher import DispatcherMiddleware

from exporter.fetch import Fetcher
from exporter.logs import log_to_standard_error
from exporter.settings import Settings
from exporter.web.auth import locked
from exporter.web.health import health_blueprint
from exporter.web.landing import landing_blueprint
from exporter.web.metrics import metrics_app


def create_app(settings: Settings | None = None) -> Flask:
    """Returns the application with these settings, or with those of the environment.

    Asks nobody. Raises SettingsError for a setting that cannot be used.
    """
    settings = settings or Settings.load()
    log_to_standard_error(settings.debug)
    for module in settings.modules:
        if module.target.url.startswith("https:") and module.target.verify is False:
            logging.getLogger(__name__).warning("%s: its TLS certificate is not verified", module.name)

    fetcher = Fetcher()
    app = Flask("exporter", static_folder=None)
    app.register_blueprint(health_blueprint(settings.modules, fetcher))
    app.register_blueprint(landing_blueprint(settings.modules))
    app.wsgi_app = DispatcherMiddleware(  # type: ignore[method-assign]
        app.wsgi_app, {"/metrics": metrics_app(settings.modules, fetcher)}
    )
    if settings.web_config_file:  # around all of it
        app.wsgi_app = locked(  # type: ignore[method-assign,assignment]
            app.wsgi_app, settings.web_config_file, open_health=settings.open_health
        )
    return app
