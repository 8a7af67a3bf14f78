"""The reference pages, generated from the rows: METRICS.md, the table of settings, and .env.sample."""

from collections.abc import Callable, Mapping
from typing import Any

from exporter.collectors import COLLECTORS
from exporter.collectors.base import Family
from exporter.config.options import OPTIONS
from exporter.scrape.families import SCRAPE_FAMILIES

SERVICE_NAMES = {"patroni": "Patroni", "staytus": "Staytus"}


def metrics() -> str:
    """Returns METRICS.md: each family with its labels and its help, by the endpoint that it comes from."""
    lines = [
        "# Metrics",
        "",
        "All families are gauges. `since` is the version of Patroni that first tells what a family says; before it the "
        "family has the value that stands for unknown, or no sample.",
        "",
        "Made by `python -m exporter reference metrics`.",
        "",
    ]
    for service, collectors in COLLECTORS.items():
        for collector in collectors:
            lines += [f"## {SERVICE_NAMES[service]}: `GET /{collector.path}`", "", *_rows(collector.families), ""]
        lines += [f"## {SERVICE_NAMES[service]}: the scrape itself", "", *_rows(SCRAPE_FAMILIES[service]), ""]
    lines += [
        "## The exporter itself",
        "",
        "`exporter_build_info{version, pythonversion}` is 1. The families `process_*` and `python_*` of the Prometheus "
        "client library tell of the process that answers.",
        "",
        "With a file of modules there are `exporter_config_last_reload_successful`, 1 when the file is loaded as it is "
        "now and 0 when it cannot be used and an older one counts, and "
        "`exporter_config_last_reload_success_timestamp_seconds`, when it was last loaded, in Unix seconds. `/probe` "
        "tells the families of one target and no others.",
    ]
    return "\n".join(lines) + "\n"


def _rows(families: tuple[Family[Any], ...]) -> list[str]:
    rows = ["| family | labels | since | value |", "| --- | --- | --- | --- |"]
    for family in families:
        labels = ", ".join(f"`{label}`" for label in (*family.subject, *family.labels))
        rows.append(f"| `{family.name}` | {labels} | {family.since} | {family.help} |")
    return rows


def settings() -> str:
    """Returns the table of settings, which stands in docs/settings.md."""
    rows = ["| variable | argument | default | meaning |", "| --- | --- | --- | --- |"]
    for option in OPTIONS:
        flags = ", ".join(f"`{flag}`" for flag in option.flags)
        default = (
            ("required" if option.required else "")
            if option.default is None
            else f"`{option.default}`"
            if option.default
            else "empty"
        )
        file = f" (or `{option.variable}_FILE`, a file that holds it)" if option.secret else ""
        rows.append(f"| `{option.variable}` | {flags} | {default} | {option.meaning}{file} |")
    return "\n".join(rows) + "\n"


def env() -> str:
    """Returns .env.sample: every variable with its default, commented out."""
    lines = ["# Copy to .env and take the # away from what you set; the real environment wins over this file."]
    for option in OPTIONS:
        lines += ["", f"# {option.meaning}", f"#{option.variable}={option.default or ''}"]
    return "\n".join(lines) + "\n"


TOPICS: Mapping[str, Callable[[], str]] = {"metrics": metrics, "settings": settings, "env": env}
