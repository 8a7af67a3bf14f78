"""The HEALTHCHECK of the image: ends with 0 when the exporter answers /-/healthy where its settings let it listen.

Arguments do not show in the environment, so they are read from the command line of the exporter's process, in the file
that the argument names: /proc/1/cmdline. With `docker run --init` they stand there too.
"""

import http.client
import sys
from pathlib import Path

from exporter.__main__ import into_environment
from exporter.settings import Settings

command = Path(sys.argv[1]).read_text().split("\0")[:-1]
if "exporter" in command:  # not so where gunicorn is started in its place
    into_environment(command[command.index("exporter") + 1 :])
address = Settings.load().listen()
try:
    connection = http.client.HTTPConnection(address, timeout=4)
    connection.request("GET", "/-/healthy")
    status = connection.getresponse().status
except OSError as error:
    sys.exit(f"{address}: {error}")
sys.exit(0 if status == 200 else f"{address}: HTTP {status}")
