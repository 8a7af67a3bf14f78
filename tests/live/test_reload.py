"""The modules file under a real gunicorn of several workers: all of them end up with the same modules."""

import os
import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.config.test_modules_file import BAD, modules
from tests.live.processes import MODULE, Served, free_port, run, serving, until

pytestmark = pytest.mark.timeout(120)

WORKERS = 4


def told(exporter: Served) -> tuple[set[str], set[float]]:
    """Which of three modules the workers know, and what they tell of the last reload, as forty answers say."""

    def known(_: int) -> str:
        return " ".join(
            name for name in ("one", "two", "three") if "unknown" not in exporter.get(f"/probe?module={name}")[1]
        )

    def successful(_: int) -> float:
        text = exporter.get("/metrics?name[]=exporter_config_last_reload_successful")[1]
        return float(text.split()[-1])

    with ThreadPoolExecutor(8) as threads:
        return set(threads.map(known, range(40))), set(threads.map(successful, range(40)))


def times(exporter: Served) -> set[str]:
    """What the workers tell of when the file was loaded."""
    name = "exporter_config_last_reload_success_timestamp_seconds"
    with ThreadPoolExecutor(8) as threads:
        return {text.split()[-1] for _, text in threads.map(exporter.get, [f"/metrics?name[]={name}"] * 40)}


def test_all_workers_have_the_same_modules_through_changes_signals_and_deaths(tmp_path: Path) -> None:
    file = tmp_path / "m.yml"
    file.write_text(modules("one"))
    with free_port() as port:
        command = (*MODULE, "--port", str(port), "--workers", str(WORKERS), "--config.file", str(file))
        with serving(tmp_path, port, command) as exporter:
            until(lambda: len(exporter.workers()) == WORKERS)
            assert told(exporter) == ({"one"}, {1.0})

            file.write_text(modules("one", "two"))  # and nobody is told
            until(lambda: told(exporter) == ({"one two"}, {1.0}))
            first = times(exporter)
            assert len(first) == 1

            file.write_text(BAD)
            until(lambda: told(exporter) == ({"one two"}, {0.0}))
            for pid in (before := exporter.workers()):
                os.kill(pid, signal.SIGKILL)
            until(lambda: len(exporter.workers() - before) == WORKERS)
            until(lambda: told(exporter) == ({"one two"}, {0.0}))

            before = exporter.workers()
            exporter.process.send_signal(signal.SIGHUP)
            until(lambda: len(exporter.workers()) == WORKERS and not exporter.workers() & before)
            assert told(exporter) == ({"one two"}, {0.0})
            assert times(exporter) == first

            file.write_text(modules("three"))
            before = exporter.workers()
            exporter.process.send_signal(signal.SIGHUP)
            until(lambda: len(exporter.workers()) == WORKERS and not exporter.workers() & before)
            assert told(exporter) == ({"three"}, {1.0})
            assert exporter.end() == 0
    log = exporter.log.read_text()
    reason = f'reason="{file}:1: modules: expected a mapping, found a number"'
    assert f'level=ERROR logger=exporter.config.modules_file msg="file not loaded" file={file} {reason}\n' in log
    assert "Traceback" not in log


def test_bad_file_at_the_start_is_one_line(tmp_path: Path) -> None:
    file = tmp_path / "m.yml"
    file.write_text(BAD)
    line = f"patroni-staytus-exporter: {file}:1: modules: expected a mapping, found a number\n"
    assert run((*MODULE, "--config.file", str(file)), cwd=tmp_path) == (2, line)
