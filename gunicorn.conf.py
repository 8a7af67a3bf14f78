"""How gunicorn serves the exporter; what can be set comes from the settings."""

import os
import ssl
import sys
from collections.abc import Callable
from pathlib import Path

from gunicorn.config import Config

if (folder := str(Path(__file__).resolve().parent)) not in sys.path:
    sys.path.append(folder)  # so that exporter and wsgi are found, whatever folder gunicorn is started in

from exporter.settings import Settings, settings_errors_exit
from exporter.web_config import read_web_config, reread_context

with settings_errors_exit():
    settings = Settings.load()
    bind = settings.listen()
    web = settings.web_config_file
    contexts = reread_context(web) if web and read_web_config(web).tls.is_on else None

if contexts:
    certfile = keyfile = web  # that there are such switches TLS on; what is in them comes of the context


def ssl_context(_: Config, default: Callable[[], ssl.SSLContext]) -> ssl.SSLContext:
    """Returns what a connection is served with: of the certificates as they are now."""
    return contexts.get() if contexts else default()


workers = settings.workers
threads = settings.threads
worker_class = "gthread"
graceful_timeout = 2 + int(max(module.target.timeout for module in settings.modules))  # the longest scrape may end
control_socket_disable = True
loglevel = "debug" if settings.debug else "info"
worker_tmp_dir = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None  # a read-only root may have no other place
