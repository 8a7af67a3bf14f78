"""The threads for requests: their number, and a host that starts no more."""

import threading
from pathlib import Path

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


def test_thread_that_waits_takes_the_next_call() -> None:
    threads, called = Threads(50), []
    for number in range(50):
        threads.submit(lambda: called.append(threading.get_ident()))
        until(lambda number=number: len(called) > number)  # type: ignore[misc]
    assert len(set(called)) < 10


def test_host_that_starts_no_more_threads_has_some_for_others(tmp_path: Path) -> None:
    status, output = run((MODULE[0], "-c", FULL), cwd=tmp_path)
    assert status == 0, output
    warning, result = output.splitlines()
    assert "no thread started" in warning
    threads, all_called = result.split()
    assert (2 < int(threads) < 8, all_called) == (True, "True")
