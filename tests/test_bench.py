"""The benchmark runs: every row of its table is there and no scrape failed; how fast anything is, is no test."""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent

FIGURES = {
    "a": 10,
    "b": 3,
    "c": 5,
    "d": 4,
    "e": 1,
    "f": 3,
}


def test_quick_benchmark_gives_every_figure_and_no_scrape_fails() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "bench", "--quick"], cwd=ROOT, capture_output=True, text=True, check=False, timeout=240
    )
    rows = [line for line in done.stdout.splitlines() if re.match(r"\| \([a-f]\)", line)]
    last = done.stdout.splitlines()[-1]
    assert {part: sum(row.startswith(f"| ({part})") for row in rows) for part in FIGURES} == FIGURES, done.stderr
    assert re.fullmatch(r"\| failures in \d+ answers \| 0 \| 0 \| yes \|", last), done.stderr
    assert done.returncode == 0
