"""gunicorn's configuration: see `exporter reference settings` for what can be set."""

import contextlib
import gc
import os
import resource
import ssl
import sys
from collections.abc import Callable
from pathlib import Path

from gunicorn.arbiter import Arbiter
from gunicorn.config import Config

if (folder := str(Path(__file__).resolve().parent)) not in sys.path:
    sys.path.append(folder)  # for exporter and wsgi, in whatever folder gunicorn is started
if (env := Path(folder, ".env")).is_file() and not os.environ.get("EXPORTER_ENV_FILE"):
    os.environ["EXPORTER_ENV_FILE"] = str(env)  # the package can be installed in another directory

from exporter.config.errors import exit_on_config_error
from exporter.config.modules_file import ModulesFile
from exporter.config.settings import Settings
from exporter.discovery.state import DiscoveryState
from exporter.web.gunicorn import GunicornLogger, Worker, check_gunicorn, keep_running_on_wrong_settings
from exporter.web.memory import set_up_malloc
from exporter.web.web_config import ServerContext, WebConfigFile
from exporter.web.workers import VARIABLE, shared_counters


def load() -> tuple[Settings, str, ModulesFile | None, WebConfigFile | None, ServerContext | None]:
    """Returns the settings, the address to listen on, the modules file, the web configuration and its TLS context.

    Both files are read before workers are forked: a worker that starts while a file is invalid has its last valid
    version. Raises ConfigError.
    """
    settings = Settings.load()
    web = WebConfigFile.load(settings.web_config_file) if settings.web_config_file else None
    contexts = ServerContext.load(web.path) if web and web.get().tls.is_on else None
    return settings, settings.listen(), settings.load_file(), web, contexts


set_up_malloc()
with exit_on_config_error():
    check_gunicorn()
    settings, bind, file, web, contexts = load()

if file:
    DiscoveryState.load(file.path)  # before the workers are forked, which share it
if web:
    Worker.error_headers = staticmethod(lambda web=web: web.get().headers)
if contexts:
    certfile = keyfile = settings.web_config_file  # turns TLS on; the certificate is the one of the context


def ssl_context(_: Config, default: Callable[[], ssl.SSLContext]) -> ssl.SSLContext:
    """Returns the context for a new connection. It has the current certificates."""
    return contexts.get() if contexts else default()


workers = settings.workers
threads = settings.threads
worker_class = "exporter.web.gunicorn.Worker"
timeouts = [module.target.options.timeout for module in settings.modules]
timeouts += [module.options.timeout for module in file.get().values()] if file else []
graceful_timeout = 2 + int(max(timeouts, default=0))  # longer than the longest scrape
control_socket_disable = True
loglevel = settings.log_level
logger_class = GunicornLogger
GunicornLogger.form = settings.log_format
worker_tmp_dir = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None  # the root file system may be read-only
counters = shared_counters(worker_tmp_dir) if workers > 1 or VARIABLE in os.environ else None
_, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))  # each document of each target is a connection
worker_connections = min(2000, hard // 2)  # the other half is for connections to targets
limit_request_line = 8190  # as in Apache; longer than the limit of the application, which has an error text
sendfile = False  # `exporter.web.connections` sends responses from memory


def on_starting(arbiter: Arbiter) -> None:
    """Keeps gunicorn running when a SIGHUP finds wrong settings."""
    keep_running_on_wrong_settings(arbiter, load)


_cpus: dict[int, int] = {}  # by the age of the worker, which is its number


def pre_fork(arbiter: Arbiter, worker: Worker) -> None:
    """Prepares a worker: its counters, the memory that workers share, and its CPU if there is a worker for each.

    The garbage collector of a worker would write to all objects it inherits, and so copy them. Only one thread of a
    worker runs Python code at a time; moving between CPUs costs a third of the requests per second.
    """
    if counters:
        counters.add(arbiter, worker)
    gc.unfreeze()
    gc.collect()
    gc.freeze()
    cpus = sorted(os.sched_getaffinity(0)) if sys.platform == "linux" else []
    if 1 < len(cpus) <= arbiter.num_workers:
        taken = [_cpus.get(other.age) for other in arbiter.WORKERS.values()]
        _cpus[worker.age] = min(cpus, key=taken.count)


def post_fork(_: Arbiter, worker: Worker) -> None:
    """Lets the worker count in its files, and binds it to its CPU."""
    if counters:
        counters.start(worker)
    if sys.platform == "linux" and worker.age in _cpus:
        with contextlib.suppress(OSError):  # a sandbox may forbid it
            os.sched_setaffinity(0, {_cpus[worker.age]})
            # A thread that wakes another one has the GIL: the other one must not preempt it only to wait for the GIL.
            os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))


def child_exit(_: Arbiter, worker: Worker) -> None:
    """Removes the gauges of a worker that has ended."""
    if counters:
        counters.end(worker)


def pre_exec(arbiter: Arbiter) -> None:
    """Lets the new server of a SIGUSR2 have counters of its own."""
    arbiter.cfg.env_orig.pop(VARIABLE, None)


def on_exit(_: Arbiter) -> None:
    """Removes the counters."""
    if counters:
        counters.remove()
