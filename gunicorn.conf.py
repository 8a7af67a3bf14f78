"""How gunicorn serves the exporter; what can be set comes from the settings."""

import contextlib
import gc
import logging
import os
import resource
import socket
import ssl
import sys
from collections.abc import Callable
from pathlib import Path

from gunicorn import util
from gunicorn.arbiter import Arbiter
from gunicorn.config import Config
from gunicorn.workers.base import Worker

if (folder := str(Path(__file__).resolve().parent)) not in sys.path:
    sys.path.append(folder)  # so that exporter and wsgi are found, whatever folder gunicorn is started in

from exporter.config.errors import ConfigError, exit_on_config_error
from exporter.config.modules_file import ModulesFile
from exporter.config.settings import Settings
from exporter.log import GunicornLogger, known
from exporter.web.web_config import ServerContext, WebConfigFile


def load() -> tuple[Settings, str, ModulesFile | None, ServerContext | None]:
    """Returns the settings, the address to listen on, and what comes of the two files that they can name.

    Before workers are forked, so that they have what was good of a file where it has become bad. Raises ConfigError.
    """
    settings = Settings.load()
    web = settings.web_config_file
    contexts = ServerContext.load(web) if web and WebConfigFile.load(web).get().tls.is_on else None
    return settings, settings.listen(), settings.load_file(), contexts


with exit_on_config_error():
    settings, bind, file, contexts = load()

if contexts:
    certfile = keyfile = settings.web_config_file  # to switch TLS on; what is served with comes of the context


def ssl_context(_: Config, default: Callable[[], ssl.SSLContext]) -> ssl.SSLContext:
    """Returns what a connection is served with: of the certificates as they are now."""
    return contexts.get() if contexts else default()


workers = settings.workers
threads = settings.threads
worker_class = "gthread"
timeouts = [module.target.options.timeout for module in settings.modules]
timeouts += [module.options.timeout for module in file.get().values()] if file else []
graceful_timeout = 2 + int(max(timeouts, default=0))  # the longest scrape may end
control_socket_disable = True
loglevel = settings.log_level
logger_class = GunicornLogger
GunicornLogger.form = settings.log_format
worker_tmp_dir = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None  # a read-only root may have no other place
_, most = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))  # a connection for each document of each target is a file
limit_request_line = 8190  # as Apache has it; the application refuses what is a little shorter


def on_starting(arbiter: Arbiter) -> None:
    """Lets a SIGHUP change nothing where a setting cannot be used, which would end gunicorn."""
    hang_up = arbiter.handle_hup

    def handle_hup() -> None:
        try:
            load()
        except ConfigError as error:
            logging.getLogger("gunicorn.error").error(
                "not reloaded: %s", error, extra=known("not reloaded", reason=str(error))
            )
        else:
            hang_up()

    arbiter.handle_hup = handle_hup  # type: ignore[method-assign]


_cpus: dict[int, int] = {}  # of the workers, by their age, which is their number


def pre_fork(arbiter: Arbiter, worker: Worker) -> None:
    """Lets the worker share this memory; where there are as many workers as CPUs, chooses it one that few others have.

    Its garbage collector would write to all that it inherits, and so copy it. Only one of its threads runs Python at a
    time, and to hand that on from CPU to CPU costs a third of all it does.
    """
    gc.unfreeze()
    gc.collect()
    gc.freeze()
    cpus = sorted(os.sched_getaffinity(0)) if sys.platform == "linux" else []
    if 1 < len(cpus) <= arbiter.num_workers:
        taken = [_cpus.get(other.age) for other in arbiter.WORKERS.values()]
        _cpus[worker.age] = min(cpus, key=taken.count)


def post_fork(_: Arbiter, worker: Worker) -> None:
    """Keeps the worker to its CPU."""
    if sys.platform == "linux" and worker.age in _cpus:
        with contextlib.suppress(OSError):  # a sandbox may forbid it
            os.sched_setaffinity(0, {_cpus[worker.age]})


def write_error(sock: socket.socket, status_int: int, reason: str, mesg: str) -> None:  # noqa: ARG001
    """Refuses what is no request in one plain sentence; gunicorn's page would have `mesg` in it, which tells of it."""
    body = f"{reason.lower()}: the log of the exporter tells more\n"
    head = f"HTTP/1.1 {status_int} {reason}\r\nConnection: close\r\nContent-Type: text/plain; charset=utf-8\r\n"
    util.write_nonblock(sock, f"{head}Content-Length: {len(body)}\r\n\r\n{body}".encode())


util.write_error = write_error  # for which gunicorn has no setting
