"""/-/reload, and what /metrics tells of the modules file."""

import os
import time
from pathlib import Path

import pytest

from exporter import create_app
from exporter.config.settings import Settings
from tests.config.test_modules_file import BAD, modules
from tests.live.processes import families

RELOAD = ("exporter_config_last_reload_successful", "exporter_config_last_reload_success_timestamp_seconds")


def settings(path: Path | None, *, lifecycle: bool = True) -> Settings:
    file = {} if path is None else {"EXPORTER_CONFIG_FILE": str(path)}
    return Settings.load(
        {"EXPORTER_ENV_FILE": os.devnull, "EXPORTER_WEB_ENABLE_LIFECYCLE": str(lifecycle).lower(), **file}
    )


@pytest.fixture
def path(tmp_path: Path) -> Path:
    file = tmp_path / "m.yml"
    file.write_text(modules("one"))
    return file


@pytest.mark.parametrize("method", ["POST", "PUT"])
def test_reload_loads_the_file_at_once_and_metrics_tell_how_it_went(path: Path, method: str) -> None:
    client = create_app(settings(path)).test_client()

    def told() -> list[float]:
        lines = dict(line.rsplit(" ", 1) for line in client.get("/metrics").text.splitlines() if line[0] != "#")
        return [float(lines[name]) for name in RELOAD]

    def known(module: str) -> bool:
        return "unknown module" not in client.get(f"/probe?module={module}").text

    successful, first = told()
    assert (successful, time.time() - first < 60) == (1.0, True)
    path.write_text(modules("one", "two"))
    answer = client.open("/-/reload", method=method)
    assert (answer.status_code, answer.text, known("two")) == (200, "OK\n", True)
    successful, second = told()
    assert (successful, second > first) == (1.0, True)
    path.write_text(BAD)
    answer = client.open("/-/reload", method=method)
    sentence = f"the modules stay as they were: {path}:1: modules: expected a mapping, found a number\n"
    assert (answer.status_code, answer.text, known("two")) == (500, sentence, True)
    assert told() == [0.0, second]


def test_reload_is_refused_unless_it_is_switched_on(path: Path) -> None:
    client = create_app(settings(path, lifecycle=False)).test_client()
    path.write_text(modules("one", "two"))
    answer = client.post("/-/reload")
    assert (answer.status_code, answer.text) == (
        403,
        "reloading is off: EXPORTER_WEB_ENABLE_LIFECYCLE or --web.enable-lifecycle switches it on\n",
    )
    assert "unknown module" in client.get("/probe?module=two").text


def test_without_a_modules_file_there_is_nothing_to_load_and_to_tell() -> None:
    client = create_app(settings(None)).test_client()
    answer = client.post("/-/reload")
    assert (answer.status_code, answer.text) == (
        400,
        "there is nothing to load: EXPORTER_CONFIG_FILE or --config.file names no modules file\n",
    )
    assert set(RELOAD) & set(families(client.get("/metrics").text)) == set()


def test_reload_is_not_for_who_only_reads(path: Path) -> None:
    assert create_app(settings(path)).test_client().get("/-/reload").status_code == 405


def test_beside_a_modules_file_metrics_tell_of_the_exporter_and_health_is_well(path: Path) -> None:
    client = create_app(settings(path)).test_client()
    answer = client.get("/metrics")
    names = families(answer.text)
    assert (answer.status_code, names[0], set(RELOAD) <= set(names)) == (200, "exporter_build_info", True)
    assert [name for name in names if name.startswith(("patroni_", "staytus_"))] == []
    health = client.get("/health")
    assert (health.status_code, health.json) == (200, {"status": "healthy", "modules": {}})
