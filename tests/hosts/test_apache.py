"""Where Apache reads the settings, and its own reload."""

import os
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.conftest import Upstream
from tests.hosts.hosts import APACHE_HTTPD, Checkout, settings
from tests.live.processes import until

pytestmark = [pytest.mark.timeout(90), *APACHE_HTTPD.marks]


@pytest.fixture
def env(checkout: Checkout, upstream: Upstream) -> Iterator[Path]:
    """A file with settings that is not the `.env` of the checkout."""
    path = checkout.write_env(settings(upstream), "other.env")
    yield path
    path.unlink()


def test_env_file_in_envvars(checkout: Checkout, port: int, env: Path) -> None:
    with APACHE_HTTPD.serving(checkout, port, environ={"EXPORTER_ENV_FILE": str(env)}) as served:
        assert served.up() == "1.0"


def test_env_file_in_a_script(checkout: Checkout, port: int, env: Path) -> None:
    """The script in the comment of the configuration."""
    configuration = checkout.deploy("apache/patroni-staytus-exporter.conf").read_text()
    lines = [line.removeprefix("#     ") for line in configuration.splitlines() if line.startswith("#     ")]
    assert lines[1] == 'os.environ["EXPORTER_ENV_FILE"] = "/etc/patroni-staytus-exporter/second.env"'
    script = checkout.folder / "second.wsgi"
    script.write_text("\n".join(lines).replace("/etc/patroni-staytus-exporter/second.env", str(env)))
    script.chmod(0o644)
    host = replace(APACHE_HTTPD, options=("-C", f"Define EXPORTER_SCRIPT {script}"))
    with host.serving(checkout, port) as served:
        assert served.up() == "1.0"
    script.unlink()


def test_graceful_restart_applies_settings(checkout: Checkout, upstream: Upstream, port: int) -> None:
    checkout.write_env(settings(upstream, PATRONI_EXPORTER_URL=f"{upstream.url}/elsewhere"))
    with APACHE_HTTPD.serving(checkout, port) as served:
        assert served.up() == "0.0"
        checkout.write_env(settings(upstream))
        os.kill(served.process.pid, signal.SIGUSR1)
        until(lambda: "\npatroni_up 1.0\n" in served.get()[1])
