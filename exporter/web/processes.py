"""`process_*` of /metrics with several worker processes: they describe the server, not the worker that responds."""

import contextlib
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from prometheus_client import PROCESS_COLLECTOR, ProcessCollector
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

#: The units of /proc/PID/stat: clock ticks of a second, and bytes of a page.
TICKS, PAGE = os.sysconf("SC_CLK_TCK"), os.sysconf("SC_PAGE_SIZE")

#: How often the processes are read again when one of them ended while they were read.
ATTEMPTS = 20


def server_pid() -> int | None:
    """Returns the process that started this worker and its siblings; None where it has other children too."""
    if uwsgi := sys.modules.get("uwsgi"):
        return int(uwsgi.masterpid()) or None
    return os.getppid() if "gunicorn.arbiter" in sys.modules else None


@dataclass(frozen=True)
class Status:
    """/proc/PID/stat of a process, with times in clock ticks: see proc_pid_stat(5)."""

    state: str
    cpu: int
    cpu_of_ended_children: int
    virtual_bytes: int
    resident_pages: int

    @classmethod
    def of(cls, pid: int | str) -> Self:
        """Raises OSError when there is no process."""
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
        utime, stime, cutime, cstime = map(int, fields[11:15])
        return cls(fields[0], utime + stime, cutime + cstime, int(fields[20]), int(fields[21]))


def workers_of(server: int) -> tuple[int, dict[int, Status]]:
    """Returns the clock ticks of the workers that ended, and the workers that did not.

    Raises OSError when they cannot be read. Each worker counts once, so that the CPU time of all never goes back: all
    is read again when the server waited for a worker at the same time.
    """
    for _ in range(ATTEMPTS):
        ended = Status.of(server).cpu_of_ended_children
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            children = Path(f"/proc/{server}/task/{server}/children").read_text().split()
            workers = {int(pid): Status.of(pid) for pid in children}
            is_complete = all(worker.state != "X" for worker in workers.values())
            if is_complete and Status.of(server).cpu_of_ended_children == ended:
                return ended, workers
    raise OSError(f"the workers of process {server} end too often")


def open_files(pid: int) -> int:
    """Returns the number of open file descriptors, 0 for a process that has ended or is not readable."""
    with contextlib.suppress(OSError):
        return len(list(Path(f"/proc/{pid}/fd").iterdir()))
    return 0


class ProcessesCollector(Collector):
    """Collects the families of PROCESS_COLLECTOR for a server and all its workers.

    CPU time and memory are sums over the workers; the CPU time is also that of workers that have ended. The open files
    are those of the worker that has most, because their limit is one of each process. The start time is that of the
    server. Without a server, or without its /proc, there is no family.
    """

    def __init__(self) -> None:
        self._collector = ProcessCollector(pid=lambda: server_pid() or "none", registry=None)

    def describe(self) -> Iterator[Metric]:
        return iter(PROCESS_COLLECTOR.collect())

    def collect(self) -> Iterator[Metric]:
        if (server := server_pid()) is None:
            return
        try:
            ended, workers = workers_of(server)
        except OSError:
            return
        values = {
            "process_virtual_memory_bytes": sum(worker.virtual_bytes for worker in workers.values()),
            "process_resident_memory_bytes": sum(worker.resident_pages for worker in workers.values()) * PAGE,
            "process_cpu_seconds": (ended + sum(worker.cpu for worker in workers.values())) / TICKS,
            "process_open_fds": max(map(open_files, workers), default=0),
        }
        for metric in self._collector.collect():
            if metric.name in values:
                metric.samples = [sample._replace(value=float(values[metric.name])) for sample in metric.samples]
            yield metric
