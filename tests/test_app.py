"""The application factory: its errors and its log."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from exporter import create_app
from exporter.config.errors import ConfigError
from exporter.config.settings import Settings


def test_bad_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATRONI_EXPORTER_TIMEOUT", "ten")
    with pytest.raises(ConfigError, match=r"^PATRONI_EXPORTER_TIMEOUT='ten': expected a number of seconds"):
        create_app()


def test_warning_without_verification(caplog: pytest.LogCaptureFixture) -> None:
    create_app(Settings.load({"PATRONI_EXPORTER_URL": "https://h:8008", "PATRONI_EXPORTER_REQUEST_VERIFY": "false"}))
    assert [record.getMessage() for record in caplog.records] == [
        "TLS certificate is not verified module=patroni url=https://h:8008"
    ]


def test_log_goes_to_standard_error() -> None:
    code = (
        "from exporter import create_app; from exporter.config.settings import Settings\n"
        "app = create_app(Settings.load({'PATRONI_EXPORTER_URL': 'http://127.0.0.1:1'}))\n"
        "create_app(Settings.load({}))\n"
        "app.test_client().get('/metrics')"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=Path(__file__).parent.parent, capture_output=True, text=True, check=True
    )
    reason = 'url=http://127.0.0.1:1 reason="no connection: connection refused"'
    assert [re.sub("^time=[^ ]* ", "", line) for line in done.stderr.splitlines()] == [
        f'level=WARN logger=exporter.scrape.scrape msg="scrape failed" module=patroni {reason}'
    ]
    assert done.stdout == ""
