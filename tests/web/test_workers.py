"""The directory of the counters of several workers."""

import os
from pathlib import Path

from exporter.web.workers import new_directory


def test_directories_of_killed_servers_are_removed(tmp_path: Path) -> None:
    killed, lock = new_directory(str(tmp_path))
    Path(killed, "counter_1.db").touch()
    running, lock_of_running = new_directory(str(tmp_path))
    assert sorted(map(str, tmp_path.iterdir())) == sorted([killed, running])
    os.close(lock)
    new, lock_of_new = new_directory(str(tmp_path))
    assert sorted(map(str, tmp_path.iterdir())) == sorted([running, new])
    os.close(lock_of_running)
    os.close(lock_of_new)
