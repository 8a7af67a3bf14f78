"""Prometheus' own linter on what the exporter serves."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from exporter import create_app
from exporter.settings import Settings
from tests.conftest import Upstream
from tests.recorded import moment, staytus

#: Beside the Python of the tests, where `make test` puts it, or wherever it is installed.
PROMTOOL = shutil.which("promtool", path=os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]))


@pytest.mark.skipif(
    PROMTOOL is None and "CI" not in os.environ, reason="no promtool: Debian's package prometheus has it"
)
def test_promtool_has_nothing_to_say_about_the_metrics(upstream: Upstream) -> None:
    upstream.serve(moment("4.1.5", "failsafe-enabled", "n1").answers)
    upstream.serve({"/api/v1/services/all": staytus("services_all_ok_minor_major_maintenance")})
    upstream.serve({"/api/v1/issues/all": staytus("issues_all_four_states")})
    settings = {
        "PATRONI_EXPORTER_URL": upstream.url,
        "STAYTUS_API_URL": upstream.url,
        "STAYTUS_API_TOKEN": "t",
        "STAYTUS_API_SECRET": "s",
    }
    text = create_app(Settings.load(settings)).test_client().get("/metrics").data
    assert text.count(b"_up 1.0") == 2
    assert PROMTOOL is not None, "CI has no promtool"
    checked = subprocess.run([PROMTOOL, "check", "metrics"], input=text, capture_output=True, check=False)
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, b"", b"")
