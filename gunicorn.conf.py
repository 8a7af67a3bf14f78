"""How gunicorn serves the exporter; what can be set comes from the settings."""

import os
import sys
from pathlib import Path

if (folder := str(Path(__file__).resolve().parent)) not in sys.path:
    sys.path.append(folder)  # so that exporter and wsgi are found, whatever folder gunicorn is started in

from exporter.settings import Settings, settings_errors_exit

with settings_errors_exit():
    settings = Settings.load()
    bind = settings.listen()

workers = settings.workers
threads = settings.threads
worker_class = "gthread"
graceful_timeout = 2 + int(max(module.target.timeout for module in settings.modules))  # the longest scrape may end
control_socket_disable = True
loglevel = "debug" if settings.debug else "info"
worker_tmp_dir = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None  # a read-only root may have no other place
