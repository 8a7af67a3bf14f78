"""A file that is read again when it has changed; a version that cannot be used leaves the last good one in place."""

import contextlib
import fcntl
import logging
import os
import tempfile
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, ClassVar, Generic, Self, TypeVar

from exporter.config.errors import ConfigError
from exporter.config.yaml_file import text_of
from exporter.log import Event

#: Seconds after which a file that cannot be used is read again, changed or not: the reason can be another file.
RETRY_AFTER = 1.0

T = TypeVar("T")


class ReloadableFile(ABC, Generic[T]):
    """A file and its value. `failure` is the reason why its present version cannot be used, or None."""

    _loaded: ClassVar[dict[tuple[type, str], "ReloadableFile[Any]"]] = {}

    def __init__(self, path: str) -> None:
        self.path = path
        self.failure: str | None = None
        self._logged: str | None = None
        self._lock = threading.Lock()
        self._seen: dict[Path, object] = {Path(path): None}
        self._retry_at = 0.0
        self._text, self._value = self._read(None)
        self._last_good = SharedText(self._text)

    @classmethod
    def load(cls, path: str) -> Self:
        """Returns the file, which was read now; raises ConfigError when neither this version nor an older one is good.

        There is one object for each path. Made before a server forks its workers, it gives a worker that starts while
        the file cannot be used the last version that any of them could use.
        """
        file = cls._loaded.get((cls, path))
        if file is None:
            file = cls._loaded[cls, path] = cls(path)
        else:
            with file._lock:
                file._load()
        return file  # type: ignore[return-value]

    @abstractmethod
    def parse(self, text: str, before: T | None) -> T:
        """Returns the value of a text; raises ConfigError. `before` is the value that it will replace."""

    def files(self, value: T) -> Iterable[str]:  # noqa: ARG002
        """Returns the paths of other files that the value was made from."""
        return ()

    @property
    def loaded_at(self) -> float:
        """When a process of this server last loaded it, in Unix seconds."""
        return self._last_good.time()

    def get(self) -> T:
        """Returns the value, after reading the file again if it has changed and no other thread is doing so."""
        is_due = time.monotonic() >= self._retry_at if self.failure else self._stamps() != self._seen
        if is_due and self._lock.acquire(blocking=False):
            try:
                self._load()
            finally:
                self._lock.release()
            if self.failure is None or self.failure != self._logged:
                self.log_state()
        return self._value

    def reload(self) -> None:
        """Reads the file now, changed or not."""
        with self._lock:
            self._load()
        self.log_state()

    def log_state(self) -> None:
        """Logs why the present version cannot be used."""
        self._logged = self.failure
        if self.failure:
            log = logging.getLogger(type(self).__module__)
            log.error(Event("file not loaded", file=self.path, reason=self.failure))

    def _load(self) -> None:
        try:
            self._text, self._value = self._read(self._value)
            self._last_good.write(self._text)
            self.failure = None
        except ConfigError as error:
            self.failure = str(error)
            self._retry_at = time.monotonic() + RETRY_AFTER
            text = self._last_good.read()
            if text != self._text:  # another process has loaded it
                with contextlib.suppress(ConfigError):  # another file that it needs can have changed
                    self._text, self._value = text, self.parse(text, self._value)

    def _read(self, before: T | None) -> tuple[str, T]:
        stamps = self._stamps()
        text = text_of(self.path)
        value = self.parse(text, before)
        # A file that is new here has no stamp from before it was read, so everything is read once more.
        self._seen = {path: stamps.get(path) for path in map(Path, (self.path, *self.files(value)))}
        return text, value

    def _stamps(self) -> dict[Path, object]:
        return {path: _stamp(path) for path in self._seen}


def _stamp(path: Path) -> object:
    """Returns what changes when the file, or a symbolic link to it, changes."""
    try:
        status = path.stat()
    except OSError as error:
        return error.errno
    return status.st_mtime_ns, status.st_ctime_ns, status.st_size, status.st_ino, status.st_dev


class SharedText:
    """A text in memory shared with all processes that are forked from this one.

    The lock is one of processes: only one thread of each may use it at a time.
    """

    def __init__(self, text: str) -> None:
        if hasattr(os, "memfd_create"):  # Linux; it needs no writable directory
            self._file = os.memfd_create("last-good")
        else:
            self._file, name = tempfile.mkstemp()
            Path(name).unlink()
        self.write(text)

    def write(self, text: str) -> None:
        self.update(lambda _: text)

    def update(self, change: Callable[[str], str]) -> None:
        """Replaces the text by what `change` makes of it, while no other process does so."""
        fcntl.lockf(self._file, fcntl.LOCK_EX)
        try:
            content, now = change(self._content()).encode(), time.time()
            os.pwrite(self._file, content, 0)
            os.truncate(self._file, len(content))
            os.utime(self._file, (now, now))
        finally:
            fcntl.lockf(self._file, fcntl.LOCK_UN)

    def read(self) -> str:
        fcntl.lockf(self._file, fcntl.LOCK_SH)
        try:
            return self._content()
        finally:
            fcntl.lockf(self._file, fcntl.LOCK_UN)

    def _content(self) -> str:
        return os.pread(self._file, os.fstat(self._file).st_size, 0).decode()

    def time(self) -> float:
        return os.fstat(self._file).st_mtime
