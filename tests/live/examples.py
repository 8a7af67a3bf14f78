"""The commands in the documentation, as a user runs them."""

import os
import re
import sys
from collections.abc import Mapping
from pathlib import Path

from tests.live.processes import ROOT

PROGRAM = "patroni-staytus-exporter"


def blocks(text: str, language: str = "console") -> list[str]:
    """The code blocks of a page in one language."""
    return re.findall(rf"(?ms)^```{language}\n(.*?)^```$", text)


def section(file: str, heading: str) -> str:
    """The text of a section of a page."""
    return (ROOT / file).read_text().partition(f"\n## {heading}\n")[2].partition("\n## ")[0]


def commands(block: str) -> list[str]:
    """The commands of a console block, which can have several lines, without comments."""
    return [re.sub(r"(?m)    # .*", "", command).strip() for command in re.split(r"(?m)^\$ ", block) if command]


def activated(folder: Path) -> Mapping[str, str]:
    """The PATH of a virtual environment with this exporter, which it creates in the folder."""
    folder.mkdir()
    for name, arguments in (("python3", ""), (PROGRAM, "-m exporter")):
        (folder / name).write_text(f'#!/bin/sh\nexec "{sys.executable}" {arguments} "$@"\n')
        (folder / name).chmod(0o755)
    return {"PATH": f"{folder}:{os.environ['PATH']}"}
