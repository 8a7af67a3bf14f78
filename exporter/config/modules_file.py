"""The modules file, which every process reloads when it has changed."""

import logging
from collections.abc import Mapping

from exporter.config.modules import ProbeModule, read_modules
from exporter.config.reloadable import ReloadableFile
from exporter.log import Event

log = logging.getLogger(__name__)


class ModulesFile(ReloadableFile[Mapping[str, ProbeModule]]):
    """The modules by their names."""

    def parse(self, text: str, _: object) -> Mapping[str, ProbeModule]:
        return read_modules(text, self.path)

    def log_state(self) -> None:
        """Logs the modules, or why the present version of the file cannot be used."""
        super().log_state()
        if self.failure:
            return
        log.info(Event("file loaded", file=self.path, modules=", ".join(self._value)))
        for module in self._value.values():
            if module.options.verify is False:
                log.warning(Event("TLS certificates are not verified", module=module.name))
            if module.discovery and module.discovery.etcd and module.discovery.etcd.options.verify is False:
                log.warning(Event("the TLS certificate of etcd is not verified", module=module.name))
