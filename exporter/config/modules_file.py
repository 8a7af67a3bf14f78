"""The modules file as it is now: every process notices by itself that it has changed, and a bad one changes nothing."""

import contextlib
import logging
import threading
import time
from collections.abc import Mapping
from functools import cache

from exporter.config.last_good import LastGood
from exporter.config.modules import ProbeModule, read_modules
from exporter.config.yaml_file import YAMLError, stamp, text_of
from exporter.log import known

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
        self._last_good = LastGood(path)

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
