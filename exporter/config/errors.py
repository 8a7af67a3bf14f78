"""The error for everything that the operator sets."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager


class ConfigError(Exception):
    """A setting or a configuration file cannot be used.

    The text is one line that names the variable, or the file, line and key, the value unless it is secret, and what is
    expected.
    """


@contextmanager
def exit_on_config_error() -> Iterator[None]:
    """Exits with one line on standard error and status 2 after a ConfigError."""
    try:
        yield
    except ConfigError as error:
        print(f"patroni-staytus-exporter: {error}", file=sys.stderr)
        raise SystemExit(2) from None
