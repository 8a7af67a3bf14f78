"""One set of counters for all workers of gunicorn: prometheus_client's multiprocess mode.

https://prometheus.github.io/client_python/multiprocess/
"""

import contextlib
import fcntl
import os
import shutil
import tempfile
from functools import cache
from itertools import count
from pathlib import Path

from gunicorn.arbiter import Arbiter
from gunicorn.workers.base import Worker
from prometheus_client import values
from prometheus_client.mmap_dict import MmapedDict
from prometheus_client.multiprocess import mark_process_dead

VARIABLE = "PROMETHEUS_MULTIPROC_DIR"

#: The beginning of the names of the directories.
PREFIX = "patroni-staytus-exporter-"


class SharedCounters:
    """The files of the counters, two for each worker, in a directory of this server.

    They are named after the number of the worker instead of its process ID, so that a worker continues the files of an
    earlier one. Otherwise each worker that ends would leave a file, which each scrape reads.
    """

    def __init__(self, folder: str | None) -> None:
        self._directory, self._lock = new_directory(folder)
        os.environ[VARIABLE] = self._directory
        self._numbers: dict[int, int] = {}  # by the age of the worker
        self._number = 0  # of this process; the server itself counts what it does if it loads the application
        values.ValueClass = values.MultiProcessValue(lambda: self._number)  # type: ignore[no-untyped-call]

    def add(self, arbiter: Arbiter, worker: Worker) -> None:
        """Gives a new worker the first free number and its files, in the server."""
        taken = [self._numbers.get(other.age) for other in arbiter.WORKERS.values()]
        number = self._numbers[worker.age] = next(number for number in count(1) if number not in taken)
        os.chown(self._directory, arbiter.cfg.uid, arbiter.cfg.gid)
        for kind in ("counter", "gauge_livesum"):
            path = Path(self._directory, f"{kind}_{number}.db")
            if not path.exists():
                # prometheus_client cannot read a file that another worker has only begun.
                new = path.with_suffix(".new")
                MmapedDict(str(new)).close()  # type: ignore[no-untyped-call]
                os.chown(new, arbiter.cfg.uid, arbiter.cfg.gid)
                new.rename(path)

    def start(self, worker: Worker) -> None:
        """Lets this process, which is the worker, count in its files."""
        self._number = self._numbers[worker.age]

    def end(self, worker: Worker) -> None:
        """Removes the gauges of a worker that has ended; its counters stay."""
        number = self._numbers.pop(worker.age, None)  # a worker can be older than the counters
        mark_process_dead(number, self._directory)  # type: ignore[no-untyped-call]

    def remove(self) -> None:
        """Removes the directory."""
        shutil.rmtree(self._directory, ignore_errors=True)
        os.close(self._lock)


def new_directory(folder: str | None) -> tuple[str, int]:
    """Returns a new directory and a descriptor that locks it; removes those of servers that were killed.

    All workers have the descriptor, so the directory is locked as long as one of them runs.
    """
    parent = Path(folder or tempfile.gettempdir())
    for other in parent.glob(f"{PREFIX}*"):
        with contextlib.suppress(OSError):  # it is locked, or another user's
            descriptor = os.open(other, os.O_RDONLY | os.O_NOFOLLOW)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(other)
            finally:
                os.close(descriptor)
    unlocked = Path(tempfile.mkdtemp(dir=parent))
    descriptor = os.open(unlocked, os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    return str(unlocked.rename(parent / f"{PREFIX}{unlocked.name}")), descriptor


@cache
def shared_counters(folder: str | None) -> SharedCounters:
    """Returns the counters of this server, which are the same ones after a reload. `folder` has the directory."""
    return SharedCounters(folder)
