"""The threads for requests: their number, and a host that starts no more."""

import threading
from pathlib import Path

import pytest

from exporter.web.threads import Threads
from tests.live.processes import MODULE, run, until

FULL = """
import resource, threading, time
from exporter.web.threads import Threads
resource.setrlimit(resource.RLIMIT_AS, (8 << 30, 8 << 30))
threading.stack_size(1 << 30)
threads, calls, end = Threads(20), [], threading.Event()
for number in range(20):
    threads.submit(lambda number=number: (end.wait(), calls.append(number)))
busy = threading.active_count() - 1
end.set()
while len(calls) < 20 or threading.active_count() > busy // 2 + 1:
    time.sleep(0.01)
resolver = threading.Thread(target=print, args=[busy, sorted(calls) == list(range(20))])
resolver.start()
resolver.join()
"""


def test_no_more_threads_than_the_limit() -> None:
    threads, end, calls = Threads(3), threading.Event(), []

    def call(number: int) -> None:
        calls.append((number, threading.get_ident()))
        end.wait()

    for number in range(10):
        threads.submit(call, number)
    until(lambda: len(calls) == 3)
    end.set()
    until(lambda: len(calls) == 10)
    assert sorted(number for number, _ in calls) == list(range(10))
    assert len({thread for _, thread in calls}) == 3


def test_threads_that_were_busy_last_take_the_next_calls() -> None:
    threads, all_busy, called = Threads(20), threading.Barrier(21), []
    for _ in range(20):
        threads.submit(all_busy.wait)
    all_busy.wait()
    for number in range(100):
        threads.submit(lambda: called.append(threading.get_ident()))
        until(lambda number=number: len(called) > number)  # type: ignore[misc]
    assert len(set(called[50:])) < 5


def test_threads_without_a_call_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("exporter.web.threads.IDLE", 0.2)
    threads, end, called = Threads(20), threading.Event(), []

    def call() -> None:
        called.append(threading.current_thread())
        end.wait()

    for _ in range(20):
        threads.submit(call)
    until(lambda: len(called) == 20)
    end.set()
    until(lambda: not any(thread.is_alive() for thread in called))
    threads.submit(call)
    until(lambda: len(called) == 21)


def test_host_that_starts_no_more_threads_has_some_for_others(tmp_path: Path) -> None:
    status, output = run((MODULE[0], "-c", FULL), cwd=tmp_path)
    assert status == 0, output
    warning, result = output.splitlines()
    assert "no thread started" in warning
    threads, all_called = result.split()
    assert (2 < int(threads) < 8, all_called) == (True, "True")
