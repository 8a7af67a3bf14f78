"""The HEALTHCHECK of the image: requests /-/healthy on the exporter's own address, exit status 0 if it is healthy.

The argument is the file with the command line of the exporter, /proc/1/cmdline, because the address can be set by
arguments. With `docker run --init` they are in this file too.

With a web configuration file, an exporter that requires a password or a client certificate is healthy as well.
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
if "exporter" in command:  # not if the command is gunicorn
    into_environment(command[command.index("exporter") + 1 :])
settings = Settings.load()
address = settings.listen()
alive = (200, 401, 429) if settings.web_config_file else (200,)  # without a password, or beyond rate_limit
try:
    tls = bool(settings.web_config_file) and read_web_config(settings.web_config_file).tls.is_on
except ConfigError:
    tls = True  # the exporter keeps the last valid file; status_over_tls finds out


def status(connection: http.client.HTTPConnection) -> int:
    """Returns the status of one response."""
    connection.request("GET", "/-/healthy")
    return connection.getresponse().status


def status_over_tls() -> int:
    """Returns the status over TLS without verifying the certificate; 401 if the handshake is refused."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    try:
        return status(http.client.HTTPSConnection(address, timeout=4, context=context))
    except ssl.SSLError as error:
        if "ALERT" in (error.reason or ""):  # the server requires a client certificate
            return 401
        if error.reason == "WRONG_VERSION_NUMBER":  # the exporter was started without TLS
            return status(http.client.HTTPConnection(address, timeout=4))
        raise


try:
    code = status_over_tls() if tls else status(http.client.HTTPConnection(address, timeout=4))
except OSError as error:
    sys.exit(f"{address}: {error}")
sys.exit(0 if code in alive else f"{address}: HTTP {code}")
