"""The CPUs of gunicorn's workers, and how Linux schedules them."""

import contextlib
import os
import signal
from pathlib import Path

import pytest

from tests.conftest import Upstream
from tests.live.installed import needs
from tests.live.processes import Served, serving, until
from tests.live.test_gunicorn import command

pytestmark = pytest.mark.timeout(60)

#: Two CPUs, or the only one.
CPUS = sorted(os.sched_getaffinity(0))[:2]


def scheduling(exporter: Served) -> list[tuple[set[int], int]]:
    """The affinity and the scheduling policy of each worker."""
    each: list[tuple[set[int], int]] = []
    for pid in exporter.workers():
        with contextlib.suppress(ProcessLookupError):  # it has ended
            each.append((os.sched_getaffinity(pid), os.sched_getscheduler(pid)))
    return sorted(each, key=lambda worker: min(worker[0]))


@needs("taskset")
def test_one_cpu_for_each_worker(upstream: Upstream, tmp_path: Path, port: int) -> None:
    confined = ("taskset", "-c", ",".join(map(str, CPUS)), *command(upstream, port, "--workers", str(len(CPUS))))
    with serving(tmp_path, port, confined) as exporter:
        ended: set[int] = set()
        expected = [({cpu}, os.SCHED_BATCH if len(CPUS) > 1 else os.SCHED_OTHER) for cpu in CPUS]

        def has_one_each() -> bool:
            return exporter.workers().isdisjoint(ended) and scheduling(exporter) == expected

        until(has_one_each)
        for worker in exporter.workers():
            os.kill(worker, signal.SIGKILL)
            ended.add(worker)
            until(has_one_each)
        ended |= exporter.workers()
        exporter.process.send_signal(signal.SIGHUP)
        until(has_one_each)
        assert exporter.end() == 0


@needs("taskset")
def test_fewer_workers_use_all_cpus(upstream: Upstream, tmp_path: Path, port: int) -> None:
    with serving(tmp_path, port, ("taskset", "-c", ",".join(map(str, CPUS)), *command(upstream, port))) as exporter:
        assert scheduling(exporter) == [(set(CPUS), os.SCHED_OTHER)]
        assert exporter.end() == 0
