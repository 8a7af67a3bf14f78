"""Servers and tools from the Debian packages in `tests/servers.txt`."""

import os
import shutil

import pytest

_PLACES = os.pathsep.join([os.environ["PATH"], "/usr/sbin", "/sbin"])


def path_of(command: str) -> str:
    """The path of the command, which must be installed."""
    path = shutil.which(command, path=_PLACES)
    assert path is not None, f"{command} is not installed: see tests/servers.txt"
    return path


def needs(*commands: str) -> pytest.MarkDecorator:
    """Skips a test without its commands; in CI it fails."""
    missing = [command for command in commands if shutil.which(command, path=_PLACES) is None]
    return pytest.mark.skipif(
        bool(missing) and "CI" not in os.environ, reason=f"not installed: {', '.join(missing)}; see tests/servers.txt"
    )
