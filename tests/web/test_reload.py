"""/-/reload, and the metrics about the modules file."""

import re
import time
from pathlib import Path

import pytest
from flask.testing import FlaskClient

from tests.config.test_modules_file import BAD, modules
from tests.limits.scrapes import application
from tests.live.processes import families

RELOAD = ("exporter_config_last_reload_successful", "exporter_config_last_reload_success_timestamp_seconds")


def client_of(path: Path | str, lifecycle: str = "true") -> FlaskClient:
    """A client of an exporter with this modules file, or without one."""
    return application(EXPORTER_CONFIG_FILE=str(path), EXPORTER_WEB_ENABLE_LIFECYCLE=lifecycle).test_client()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    file = tmp_path / "m.yml"
    file.write_text(modules("one"))
    return file


@pytest.mark.parametrize("method", ["POST", "PUT"])
def test_reload(path: Path, method: str) -> None:
    client = client_of(path)

    def metrics() -> list[float]:
        lines = dict(line.rsplit(" ", 1) for line in client.get("/metrics").text.splitlines() if line[0] != "#")
        return [float(lines[name]) for name in RELOAD]

    def is_known(module: str) -> bool:
        return "unknown module" not in client.get(f"/probe?module={module}").text

    successful, first = metrics()
    assert (successful, time.time() - first < 60) == (1.0, True)
    path.write_text(modules("one", "two"))
    answer = client.open("/-/reload", method=method)
    assert (answer.status_code, answer.text, is_known("two")) == (200, "OK\n", True)
    successful, second = metrics()
    assert (successful, second > first) == (1.0, True)
    path.write_text(BAD)
    answer = client.open("/-/reload", method=method)
    text = f"not reloaded, the last good version stays in use: {path}:1: modules: expected a mapping, found a number\n"
    assert (answer.status_code, answer.text, is_known("two")) == (500, text, True)
    assert metrics() == [0.0, second]


def test_reload_that_is_refused(path: Path) -> None:
    off = "reloading is off: set EXPORTER_WEB_ENABLE_LIFECYCLE or --web.enable-lifecycle\n"
    answer = client_of(path, "false").post("/-/reload")
    assert (answer.status_code, answer.text) == (403, off)
    assert client_of(path).get("/-/reload").status_code == 405
    client = client_of("")
    answer = client.post("/-/reload")
    text = "there is no modules file: set EXPORTER_CONFIG_FILE or --config.file\n"
    assert (answer.status_code, answer.text) == (400, text)
    assert set(RELOAD) & set(families(client.get("/metrics").text)) == set()


def test_metrics_and_health_without_modules_of_their_own(path: Path) -> None:
    client = client_of(path)
    answer = client.get("/metrics")
    names = families(answer.text)
    assert (answer.status_code, "exporter_build_info" in names, set(RELOAD) <= set(names)) == (200, True, True)
    assert [name for name in names if re.match("(patroni|staytus)_(?!staytus_)", name)] == []
    health = client.get("/health")
    assert (health.status_code, health.json) == (200, {"status": "healthy", "modules": {}})
