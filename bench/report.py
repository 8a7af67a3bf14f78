"""The text of the results: Markdown tables, and what they were measured with."""

import os
import platform
import subprocess
import time
from collections.abc import Iterable, Sequence
from importlib.metadata import version
from pathlib import Path

import pycurl

from exporter.version import __version__

ROOT = Path(__file__).resolve().parent.parent

#: The columns of a table of goals.
GOALS = ("figure", "value", "target", "reached")


def table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Returns a table in Markdown."""
    lines = [columns, ["---"] * len(columns), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def goal(figure: str, *values: str, target: str = "", reached: Sequence[bool] = ()) -> tuple[str, ...]:
    """Returns a row of a table of goals; with several values, `reached` has one element for each."""
    return (figure, *values, target, ", ".join("yes" if each else "no" for each in reached))


def commit(path: Path) -> str:
    """Returns the release or commit of the checkout that has this path; `?` if the path is in none."""
    folder = path if path.is_dir() else path.parent
    command = ["git", "-C", str(folder), "describe", "--tags", "--always", "--dirty", "--match=*[0-9].[0-9]*"]
    described = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
    return described.stdout.strip() or "?"


def environment() -> str:
    """Returns a table with the date, the versions and the machine."""
    libraries = [f"{name} {version(name)}" for name in ("gunicorn", "flask", "prometheus_client", "requests", "pycurl")]
    model = Path("/proc/cpuinfo").read_text().partition("model name\t: ")[2].partition("\n")[0]
    cpus = f"{len(os.sched_getaffinity(0))} CPUs, {model or platform.machine()}"
    rows = (
        ("date", f"{time.gmtime().tm_mday} {time.strftime('%B %Y', time.gmtime())}"),
        ("exporter", f"{__version__}, commit {commit(ROOT)}"),
        ("Python", platform.python_version()),
        ("libraries", ", ".join([*libraries, f"libcurl {pycurl.version_info()[1]}"])),
        ("machine", f"{cpus}; Linux {platform.release().partition('-')[0]}"),
    )
    return table(("measured with", ""), rows)
