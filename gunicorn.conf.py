"""How gunicorn serves the exporter; what can be set comes from the settings."""

import os

from exporter.settings import Settings, settings_errors_exit

with settings_errors_exit():
    settings = Settings.load()
    bind = settings.listen()
    file = settings.load_file()  # before workers are forked, which take it from here when it has become bad

workers = settings.workers
threads = settings.threads
worker_class = "gthread"
timeouts = [module.target.timeout for module in settings.modules]
timeouts += [module.template.timeout for module in file.modules().values()] if file else []
graceful_timeout = 2 + int(max(timeouts, default=0))  # the longest scrape may end
control_socket_disable = True
loglevel = "debug" if settings.debug else "info"
worker_tmp_dir = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None  # a read-only root may have no other place
