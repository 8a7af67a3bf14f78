"""The HEALTHCHECK of the image: ends with 0 when the exporter answers /-/healthy where its settings let it listen.

Arguments do not show in the environment, so they are read from the command line of the exporter's process, in the file
that the argument names: /proc/1/cmdline. With `docker run --init` they stand there too.

Where a web configuration file locks the exporter, it answers also when it asks for a password, or for a certificate.
"""

import http.client
import ssl
import sys
from pathlib import Path

from exporter.__main__ import into_environment
from exporter.config.errors import ConfigError
from exporter.config.settings import Settings
from exporter.web.web_config import read_web_config

command = Path(sys.argv[1]).read_text().split("\0")[:-1]
if "exporter" in command:  # not so where gunicorn is started in its place
    into_environment(command[command.index("exporter") + 1 :])
settings = Settings.load()
address = settings.listen()
alive = (200, 401) if settings.web_config_file else (200,)
try:
    tls = bool(settings.web_config_file) and read_web_config(settings.web_config_file).tls.is_on
except ConfigError:
    tls = True  # what was there before counts; to be seen below


def status(connection: http.client.HTTPConnection) -> int:
    """Returns the status of one answer."""
    connection.request("GET", "/-/healthy")
    return connection.getresponse().status


def status_over_tls() -> int:
    """Returns the same over TLS, whose certificate is for another name than that of this address; 401 when refused."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    try:
        return status(http.client.HTTPSConnection(address, timeout=4, context=context))
    except ssl.SSLError as error:
        if "ALERT" in (error.reason or ""):  # it says that it does not let us in, as one without a certificate
            return 401
        if error.reason == "WRONG_VERSION_NUMBER":  # the file asks for TLS since it started without
            return status(http.client.HTTPConnection(address, timeout=4))
        raise


try:
    code = status_over_tls() if tls else status(http.client.HTTPConnection(address, timeout=4))
except OSError as error:
    sys.exit(f"{address}: {error}")
sys.exit(0 if code in alive else f"{address}: HTTP {code}")
