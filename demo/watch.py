"""A separate process that stops a cluster if the demo was killed."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from pathlib import Path

from demo.processes import end_all


class Watch:
    """Holds a pipe to the watching process, which stops the cluster when the pipe closes."""

    def __init__(self, folder: Path, programs: Path) -> None:
        """Start the watching process; see `end_all` for the two folders."""
        argv = [sys.executable, "-m", "demo.watch"]
        self._process = subprocess.Popen(
            argv, cwd=Path(__file__).parents[1], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL, text=True, start_new_session=True,
        )  # fmt: skip
        assert self._process.stdin is not None
        self._pipe = self._process.stdin
        self._pipe.write(f"{folder}\n{programs}\n")
        self._pipe.flush()

    def close(self) -> None:
        """Close the pipe and wait until the watching process has stopped the remaining processes."""
        with contextlib.suppress(OSError):
            self._pipe.close()
        self._process.wait()


def main() -> None:
    """Read the two folders from standard input, wait for its end, then call `end_all`."""
    folder, programs = (sys.stdin.readline().rstrip("\n") for _ in range(2))
    sys.stdin.read()
    if folder and programs:
        end_all(Path(folder), Path(programs))


if __name__ == "__main__":
    main()
