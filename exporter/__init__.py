"""A Prometheus exporter for Patroni and Staytus."""

from exporter.app import create_app
from exporter.version import __version__

__all__ = ["__version__", "create_app"]
