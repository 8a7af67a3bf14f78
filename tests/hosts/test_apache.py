"""What is Apache's alone: where settings come from, and its own reload."""

import os
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.conftest import Upstream
from tests.hosts.hosts import APACHE_HTTPD, Place, settings
from tests.live.processes import until

pytestmark = [pytest.mark.timeout(90), *APACHE_HTTPD.marks]


@pytest.fixture
def elsewhere(place: Place) -> Iterator[Path]:
    """A file with settings that is not beside wsgi.py."""
    path = place.folder / "elsewhere.env"
    yield path
    path.unlink()


def write(path: Path, environ: dict[str, str]) -> None:
    path.write_text("".join(f"{name}={value}\n" for name, value in environ.items()))
    path.chmod(0o644)


def test_file_of_settings_is_named_in_envvars(place: Place, both: Upstream, port: int, elsewhere: Path) -> None:
    write(elsewhere, settings(both))
    with APACHE_HTTPD.serving(place, port, environ={"EXPORTER_ENV_FILE": str(elsewhere)}) as served:
        assert served.up() == "1.0"


def test_file_of_settings_is_named_in_a_script_of_its_own(
    place: Place, both: Upstream, port: int, elsewhere: Path
) -> None:
    write(elsewhere, settings(both))
    configuration = place.deployed("apache/patroni-staytus-exporter.conf").read_text()
    lines = [line.removeprefix("#     ") for line in configuration.splitlines() if line.startswith("#     ")]
    assert lines[1] == 'os.environ["EXPORTER_ENV_FILE"] = "/etc/patroni-staytus-exporter/second.env"'
    script = place.folder / "second.wsgi"
    script.write_text("\n".join(lines).replace("/etc/patroni-staytus-exporter/second.env", str(elsewhere)))
    script.chmod(0o644)
    host = replace(APACHE_HTTPD, options=("-C", f"Define EXPORTER_SCRIPT {script}"))
    with host.serving(place, port) as served:
        assert served.up() == "1.0"
    script.unlink()


def test_reload_of_apache_takes_changed_settings(place: Place, both: Upstream, port: int) -> None:
    place.set(settings(both, PATRONI_EXPORTER_URL=f"{both.url}/elsewhere"))
    with APACHE_HTTPD.serving(place, port) as served:
        assert served.up() == "0.0"
        place.set(settings(both))
        os.kill(served.process.pid, signal.SIGUSR1)
        until(lambda: "\npatroni_up 1.0\n" in served.get()[1])
