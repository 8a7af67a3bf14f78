"""The WSGI entry for gunicorn, uWSGI and Apache mod_wsgi."""

from exporter import create_app
from exporter.settings import settings_errors_exit

with settings_errors_exit():
    application = app = create_app()
