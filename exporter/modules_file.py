"""The modules file as it is now: every process notices by itself that it has changed, and a bad one changes nothing."""

import contextlib
import fcntl
import logging
import os
import struct
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path

from exporter.logs import known
from exporter.modules import ProbeModule, read_modules
from exporter.yaml_file import YAMLError, stamp, text_of

log = logging.getLogger(__name__)

#: Seconds for which nobody looks whether the file has changed.
LOOK_AFTER = 1.0


class ModulesFile:
    """The modules of one file; `failure` says why it could not be loaded when that was last tried, None when it was.

    There is one for each path, made before a server forks its workers, so that a worker that starts while the file is
    bad has the last good one.
    """

    def __init__(self, path: str):
        self.path = path
        self.failure: str | None = None
        self._modules: Mapping[str, ProbeModule] = {}
        self._text: str | None = None
        self._lock = threading.Lock()
        self._seen: object = None
        self._looked = 0.0
        self._last_good = _LastGood()

    @staticmethod
    @cache
    def _of(path: str) -> "ModulesFile":
        return ModulesFile(path)

    @classmethod
    def load(cls, path: str) -> "ModulesFile":
        """Returns the file, loaded now; what came of that is not logged yet.

        Raises YAMLError when it cannot be used and was never loaded before.
        """
        file = cls._of(path)
        with file._lock:
            file._load()
        if file.failure and file._text is None:
            raise YAMLError(file.failure)
        return file

    @property
    def loaded_at(self) -> float:
        """When a process last loaded it, in Unix seconds; all processes of a server tell the same."""
        return self._last_good.time()

    def modules(self) -> Mapping[str, ProbeModule]:
        """Returns the modules; looks at most once a second whether the file has changed, and loads it when it has."""
        if time.monotonic() - self._looked >= LOOK_AFTER and self._lock.acquire(blocking=False):
            try:
                self._looked = time.monotonic()
                if stamp(self.path) != self._seen:
                    self._load()
                    self.log_state()
            finally:
                self._lock.release()
        return self._modules

    def reload(self) -> None:
        """Loads the file now, changed or not; a file that cannot be used leaves the modules as they are."""
        with self._lock:
            self._load()
        self.log_state()

    def log_state(self) -> None:
        """Logs what came of the last time that the file was loaded."""
        if self.failure:
            told = known("modules not loaded", file=self.path, reason=self.failure)
            log.error("%s; the modules stay as they were", self.failure, extra=told)
            return
        names = ", ".join(self._modules)
        log.info("%s: loaded, with the modules %s", self.path, names, extra=known("modules loaded", file=self.path))
        for module in self._modules.values():
            if module.template.verify is False:
                told = known("TLS certificates are not verified", module=module.name)
                log.warning("%s: its TLS certificates are not verified", module.name, extra=told)

    def _load(self) -> None:
        self._seen, self._looked = stamp(self.path), time.monotonic()
        try:
            text = text_of(self.path)
            modules = read_modules(text, self.path)
        except YAMLError as error:
            self.failure = str(error)
            self._take_last_good()
            return
        self.failure, self._modules, self._text = None, modules, text
        self._last_good.keep(text)

    def _take_last_good(self) -> None:
        """Takes what another process has loaded since this one did."""
        text = self._last_good.text()
        if text is not None and text != self._text:
            with contextlib.suppress(YAMLError):  # a secret's file may be bad as well
                self._modules, self._text = read_modules(text, self.path), text


class _LastGood:
    """The text of the last good file, in memory that all processes share that are forked from this one."""

    _HEAD = struct.Struct("=dQ")

    def __init__(self) -> None:
        if hasattr(os, "memfd_create"):  # Linux; it needs no place that can be written to
            self._file = os.memfd_create("modules")
        else:
            self._file, name = tempfile.mkstemp()
            Path(name).unlink()

    def keep(self, text: str) -> None:
        content = text.encode()
        with self._locked(fcntl.LOCK_EX):
            os.pwrite(self._file, self._HEAD.pack(time.time(), len(content)) + content, 0)

    def time(self) -> float:
        """Returns when it was kept, 0 before that."""
        head = os.pread(self._file, self._HEAD.size, 0)
        return float(self._HEAD.unpack(head)[0]) if head else 0.0

    def text(self) -> str | None:
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
