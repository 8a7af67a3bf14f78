"""The modules file with several workers of gunicorn: they have the same modules whatever happens."""

import os
import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.config.test_modules_file import BAD, modules
from tests.live.processes import MODULE, Served, run, serving, until

STATE = "exporter_config_last_reload_successful"
TIME = "exporter_config_last_reload_success_timestamp_seconds"


def answers(exporter: Served, path: str) -> set[str]:
    """The last words of 40 responses."""
    with ThreadPoolExecutor(8) as threads:
        return {text.split()[-1] for _, text in threads.map(exporter.get, [path] * 40)}


def known(exporter: Served) -> set[str]:
    """The modules that workers have, those that only some have with `?`, and the state of the last reload."""
    found = answers(exporter, f"/metrics?name[]={STATE}")
    for name in ("one", "two", "three"):
        words = answers(exporter, f"/probe?module={name}")  # an unknown module "is not in the modules file"
        if words != {"file"}:
            found.add(f"{name}?" if "file" in words else name)
    return found


@pytest.mark.timeout(120)
def test_workers_have_the_same_modules(tmp_path: Path, port: int) -> None:
    file = tmp_path / "m.yml"
    file.write_text(modules("one"))
    command = (*MODULE, "--port", str(port), "--workers", "4", "--config.file", str(file))
    with serving(tmp_path, port, command) as exporter:

        def replaced(before: set[int]) -> bool:
            return len(exporter.workers() - before) == 4 and not exporter.workers() & before

        until(lambda: len(exporter.workers()) == 4)
        assert known(exporter) == {"one", "1.0"}
        file.write_text(modules("one", "two"))
        until(lambda: known(exporter) == {"one", "two", "1.0"})
        loaded = answers(exporter, f"/metrics?name[]={TIME}")
        assert len(loaded) == 1

        file.write_text(BAD)
        until(lambda: known(exporter) == {"one", "two", "0.0"})
        for pid in (before := exporter.workers()):
            os.kill(pid, signal.SIGKILL)
        until(lambda: replaced(before))
        until(lambda: known(exporter) == {"one", "two", "0.0"})
        for text, expected in ((BAD, {"one", "two", "0.0"}), (modules("three"), {"three", "1.0"})):
            file.write_text(text)
            before = exporter.workers()
            exporter.process.send_signal(signal.SIGHUP)
            until(lambda: replaced(before))  # noqa: B023
            assert known(exporter) == expected
            if text == BAD:
                assert answers(exporter, f"/metrics?name[]={TIME}") == loaded
        assert exporter.end() == 0
    log = exporter.log.read_text()
    reason = f'reason="{file}:1: modules: expected a mapping, found a number"'
    assert f'level=ERROR logger=exporter.config.modules_file msg="file not loaded" file={file} {reason}\n' in log
    assert "Traceback" not in log


def test_bad_file_at_the_start(tmp_path: Path, port: int) -> None:
    file = tmp_path / "m.yml"
    file.write_text(BAD)
    line = f"patroni-staytus-exporter: {file}:1: modules: expected a mapping, found a number\n"
    assert run((*MODULE, "--port", str(port), "--config.file", str(file)), cwd=tmp_path) == (2, line)
