"""The application factory: its errors and its log."""

import re
import subprocess
import sys

import pytest

from exporter import create_app
from exporter.config.errors import ConfigError
from exporter.config.settings import Settings
from tests.config.test_settings import KEYS
from tests.conftest import logged
from tests.live.processes import ROOT


def test_bad_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATRONI_EXPORTER_TIMEOUT", "ten")
    with pytest.raises(ConfigError, match=r"^PATRONI_EXPORTER_TIMEOUT='ten': expected a number of seconds"):
        create_app()


def test_log_of_the_settings(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    create_app(
        Settings.load(
            {
                "PATRONI_EXPORTER_URL": "https://us3r:p4ss@h:8008/patroni",
                "PATRONI_EXPORTER_REQUEST_VERIFY": "false",
                "PATRONI_EXPORTER_COLLECT": "node,cluster",
                "PATRONI_EXPORTER_TIMOUT": "4",
                **KEYS,
            }
        )
    )
    patroni = {"module": "patroni", "url": "https://h:8008"}
    staytus = {"module": "staytus", "url": "http://localhost:8787"}
    reason = "PATRONI_EXPORTER_TIMOUT is not a setting; did you mean PATRONI_EXPORTER_TIMEOUT?"
    assert logged(caplog) == [
        {"msg": "setting ignored", "source": "environment", "reason": reason},
        {"msg": "module loaded", **patroni, "service": "patroni", "collectors": "node,cluster", "timeout": 5.0},
        {"msg": "TLS certificate is not verified", **patroni},
        {"msg": "module loaded", **staytus, "service": "staytus", "collectors": "services,issues", "timeout": 5.0},
    ]


def test_log_goes_to_standard_error() -> None:
    code = (
        "from exporter import create_app; from exporter.config.settings import Settings\n"
        "app = create_app(Settings.load({'PATRONI_EXPORTER_URL': 'http://127.0.0.1:1'}))\n"
        "create_app(Settings.load({}))\n"
        "app.test_client().get('/metrics')"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    url = "url=http://127.0.0.1:1"
    collectors = "collectors=node,cluster,history,config,failsafe timeout=5.0"
    assert [re.sub("^time=[^ ]* ", "", line) for line in done.stderr.splitlines()] == [
        f'level=INFO logger=exporter.app msg="module loaded" module=patroni service=patroni {url} {collectors}',
        f'level=INFO logger=exporter.app msg="module loaded" module=patroni service=patroni '
        f"url=http://localhost:8008 {collectors}",
        f'level=WARN logger=exporter.scrape.scrape msg="scrape failed" module=patroni {url} '
        'reason="no connection: connection refused"',
    ]
    assert done.stdout == ""
