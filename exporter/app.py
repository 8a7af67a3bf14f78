"""The application factory, which wires the packages together."""

import logging
from typing import cast
from wsgiref.types import WSGIApplication

from flask import Flask
from prometheus_client import make_wsgi_app
from werkzeug.exceptions import HTTPException
from werkzeug.middleware.dispatcher import DispatcherMiddleware

from exporter.config.settings import Settings
from exporter.discovery.discovery import ClusterDiscovery
from exporter.discovery.state import DiscoveryState
from exporter.log import Event, log_to_standard_error
from exporter.upstream.client import Client
from exporter.web.auth import PasswordCache, access_control
from exporter.web.discovery import discovery_blueprint
from exporter.web.health import health_blueprint
from exporter.web.landing import landing_blueprint
from exporter.web.limit import closed_connections, probe_limit
from exporter.web.metrics import registry_of, scraping
from exporter.web.middleware import endpoint, error_response, middleware
from exporter.web.probe import probe_app
from exporter.web.rate_limit import RateLimiter
from exporter.web.reload import reload_blueprint
from exporter.web.self_metrics import StateCollector
from exporter.web.web_config import WebConfigFile

log = logging.getLogger(__name__)


def create_app(settings: Settings | None = None) -> Flask:
    """Returns the application for these settings, or for those of the environment; sends no request.

    Raises ConfigError for a setting that cannot be used.
    """
    settings = settings or Settings.load()
    log_to_standard_error(settings.log_level, settings.log_format)
    settings.log_ignored()
    for module in settings.modules:
        log.info(
            Event(
                "module loaded",
                module=module.name,
                service=module.service,
                url=module.target.url,
                collectors=",".join(module.collect),
                timeout=module.target.options.timeout,
            )
        )
        if module.target.url.startswith("https:") and module.target.options.verify is False:
            log.warning(Event("TLS certificate is not verified", module=module.name, url=module.target.url))
    file = settings.load_file()
    if file:
        file.log_state()

    client = Client()
    limit = probe_limit(settings.probes, settings.threads)

    app = Flask("exporter", static_folder=None)
    app.config["PROPAGATE_EXCEPTIONS"] = True  # to the middleware
    app.register_error_handler(HTTPException, error_response)
    app.url_map.merge_slashes = False  # it would redirect to the host that the client names
    app.register_blueprint(health_blueprint(settings.modules, client))
    app.register_blueprint(landing_blueprint(settings.modules, client, probes=file is not None))
    state = DiscoveryState.load(file.path) if file else None
    app.register_blueprint(discovery_blueprint(file, ClusterDiscovery(client, state) if state else None, limit))
    app.register_blueprint(reload_blueprint(file, settings.lifecycle))

    counters = [*client.counters, limit.counter, closed_connections()]
    passwords = limiter = None
    if settings.web_config_file:
        web_config = WebConfigFile.load(settings.web_config_file)
        web_config.log_state()
        passwords = PasswordCache(settings.threads)
        limiter = RateLimiter()
        counters += [passwords.counter, limiter.counter]

    registry = registry_of(settings.modules, StateCollector(file, state), counters)
    exposition = scraping(make_wsgi_app(registry, disable_compression=True), settings.modules, client)
    mounts = {"/metrics": endpoint(exposition), "/probe": endpoint(probe_app(file, client, limit))}
    wsgi = cast(WSGIApplication, DispatcherMiddleware(app.wsgi_app, mounts))
    if passwords and limiter:
        wsgi = access_control(wsgi, web_config, limiter, passwords, open_health=settings.open_health)
        wsgi = middleware(wsgi, lambda: web_config.get().headers)
    else:
        wsgi = middleware(wsgi)
    app.wsgi_app = wsgi  # type: ignore[assignment, method-assign]
    return app
