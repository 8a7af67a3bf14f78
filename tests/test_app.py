"""The application factory: the wiring, its logging, and what it refuses."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from exporter import create_app
from exporter.config.errors import ConfigError
from exporter.config.settings import Settings


def test_setting_that_cannot_be_used_stops_the_application(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATRONI_EXPORTER_TIMEOUT", "ten")
    with pytest.raises(ConfigError, match=r"^PATRONI_EXPORTER_TIMEOUT='ten': expected a number of seconds"):
        create_app()


def test_verification_that_is_off_is_said_once_at_the_start(caplog: pytest.LogCaptureFixture) -> None:
    create_app(Settings.load({"PATRONI_EXPORTER_URL": "https://h:8008", "PATRONI_EXPORTER_REQUEST_VERIFY": "false"}))
    assert [record.getMessage() for record in caplog.records] == ["patroni: its TLS certificate is not verified"]


def test_log_goes_to_standard_error_when_nobody_set_up_logging() -> None:
    code = (
        "from exporter import create_app; from exporter.config.settings import Settings\n"
        "app = create_app(Settings.load({'PATRONI_EXPORTER_URL': 'http://127.0.0.1:1'}))\n"
        "create_app(Settings.load({}))\n"
        "app.test_client().get('/metrics')"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=Path(__file__).parent.parent, capture_output=True, text=True, check=True
    )
    assert [re.sub("^time=[^ ]* ", "", line) for line in done.stderr.splitlines()] == [
        'level=WARN logger=exporter.scrape.scrape msg="no document" module=patroni '
        f'collector={name} url=http://127.0.0.1:1/{path} reason="no connection: connection refused"'
        for name, path in (
            ("node", "patroni"),
            ("cluster", "cluster"),
            ("history", "history"),
            ("config", "config"),
            ("failsafe", "failsafe"),
        )
    ]
    assert done.stdout == ""
