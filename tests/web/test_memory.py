"""Freed memory is returned to the system."""

import platform
import subprocess
import sys

import pytest

from tests.live.processes import ROOT

CODE = """
from pathlib import Path
from exporter.web.memory import set_up_malloc, trim_memory

def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 // 2**20

set_up_malloc()
blocks = [bytes(4000) for _ in range(20_000)]
blocks = blocks[::50]  # in use, between pages that are free
large = [bytes(200_000) for _ in range(50)]
del large[:-1]
print(resident())
trim_memory()
print(resident())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another libc")
def test_free_pages_between_blocks() -> None:
    ran = subprocess.run([sys.executable, "-c", CODE], cwd=ROOT, capture_output=True, text=True, check=True)
    before, after = map(int, ran.stdout.split())
    assert before - after > 40
