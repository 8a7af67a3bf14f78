"""promtool accepts /metrics."""

import subprocess

from tests.conftest import Upstream
from tests.limits.scrapes import RECORDED, application
from tests.live.installed import needs, path_of


@needs("promtool")
def test_promtool_check_metrics(upstream: Upstream) -> None:
    upstream.serve(RECORDED)
    text = application(upstream.url, upstream.url).test_client().get("/metrics").data
    assert text.count(b"_up 1.0") == 2
    checked = subprocess.run([path_of("promtool"), "check", "metrics"], input=text, capture_output=True, check=False)
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, b"", b"")
