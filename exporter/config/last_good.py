"""What a file said when it could last be used, for a worker that starts while it cannot."""

import contextlib
import fcntl
import os
import struct
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path


class LastGood:
    """The text of the last good file, in memory that all processes share that are forked from this one."""

    _HEAD = struct.Struct("=dQ")

    def __init__(self, path: str) -> None:
        if hasattr(os, "memfd_create"):  # Linux; it needs no place that can be written to
            self._file = os.memfd_create(Path(path).name)
        else:
            self._file, name = tempfile.mkstemp()
            Path(name).unlink()

    def keep(self, text: str) -> None:
        """Takes the place of what was kept."""
        content = text.encode()
        with self._locked(fcntl.LOCK_EX):
            os.pwrite(self._file, self._HEAD.pack(time.time(), len(content)) + content, 0)

    def time(self) -> float:
        """Returns when it was kept, 0 before that."""
        head = os.pread(self._file, self._HEAD.size, 0)
        return float(self._HEAD.unpack(head)[0]) if head else 0.0

    def text(self) -> str | None:
        """Returns what was kept, by whichever process was the last, None before that."""
        with self._locked(fcntl.LOCK_SH):
            head = os.pread(self._file, self._HEAD.size, 0)
            return os.pread(self._file, self._HEAD.unpack(head)[1], self._HEAD.size).decode() if head else None

    @contextlib.contextmanager
    def _locked(self, how: int) -> Iterator[None]:
        fcntl.lockf(self._file, how)
        try:
            yield
        finally:
            fcntl.lockf(self._file, fcntl.LOCK_UN)
