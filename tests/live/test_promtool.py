"""Prometheus' own linter on what the exporter serves."""

import subprocess

from exporter import create_app
from exporter.config.settings import Settings
from tests.conftest import Upstream
from tests.limits.scrapes import RECORDED
from tests.live.installed import needs, path_of


@needs("promtool")
def test_promtool_has_nothing_to_say_about_the_metrics(upstream: Upstream) -> None:
    upstream.serve(RECORDED)
    settings = {
        "PATRONI_EXPORTER_URL": upstream.url,
        "STAYTUS_API_URL": upstream.url,
        "STAYTUS_API_TOKEN": "t",
        "STAYTUS_API_SECRET": "s",
    }
    text = create_app(Settings.load(settings)).test_client().get("/metrics").data
    assert text.count(b"_up 1.0") == 2
    checked = subprocess.run([path_of("promtool"), "check", "metrics"], input=text, capture_output=True, check=False)
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, b"", b"")
