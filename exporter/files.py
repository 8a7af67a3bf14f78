"""The files that the wheel carries: units, modules file, scrape jobs, rules and dashboards."""

import shutil
from pathlib import Path

from exporter.config.errors import ConfigError

SHIPPED = Path(__file__).parent / "shipped"


def write_files(directory: Path) -> list[Path]:
    """Writes the files with the paths that they have in a checkout, and returns their paths.

    Raises ConfigError, and writes nothing, if one of them exists.
    """
    sources = sorted(path for path in SHIPPED.rglob("*") if path.is_file() and path.suffix != ".pyc")
    if not sources:
        raise ConfigError(f"{SHIPPED} does not exist: expected an installed wheel; a checkout has the files itself")
    targets = [directory / source.relative_to(SHIPPED) for source in sources]
    try:
        for target in targets:
            if target.exists() or target.is_symlink():
                raise ConfigError(f"{target} exists: expected a directory without files of the exporter")
        for source, target in zip(sources, targets, strict=True):
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, target)
    except OSError as error:
        raise ConfigError(f"{error.filename}: {error.strerror}") from None
    return targets
