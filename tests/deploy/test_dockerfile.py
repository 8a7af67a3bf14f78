"""The Dockerfile: its build context and its health check."""

import re
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.conftest import Upstream
from tests.live.processes import MODULE, ROOT, free_port, recorded, run, running_exporter, serving


def test_build_context_is_what_is_copied() -> None:
    copied = re.findall(r"(?m)^COPY (.+) \S+$", (ROOT / "Dockerfile").read_text())
    ignored = re.findall(r"(?m)^[^#\n].*$", (ROOT / ".dockerignore").read_text())
    assert ignored == ["*", *(f"!{source}" for line in copied for source in line.split()), "**/__pycache__"]


def healthcheck(command_line: Path, environ: Mapping[str, str] = {}) -> tuple[int, str]:
    """Runs the health check with this file as /proc/1/cmdline; returns its exit status and output."""
    command = [sys.executable, str(ROOT / "deploy" / "healthcheck.py"), str(command_line)]
    return run(command, cwd=ROOT, environ=environ)


def test_healthcheck_reads_the_arguments(upstream: Upstream, tmp_path: Path) -> None:
    init = tmp_path / "init"  # as with `docker run --init`
    arguments = f"--patroni-url {recorded(upstream).url}/patroni --timeout 5 --debug"
    with running_exporter(tmp_path, *arguments.split()) as exporter:
        command_line = Path(f"/proc/{exporter.process.pid}/cmdline")
        assert healthcheck(command_line) == (0, "")
        init.write_text("/sbin/docker-init\0--\0" + command_line.read_text())
        assert healthcheck(init) == (0, "")
        assert exporter.end() == 0
        assert healthcheck(init) == (1, f"0.0.0.0:{exporter.port}: [Errno 111] Connection refused\n")


def test_healthcheck_reads_the_environment(upstream: Upstream, tmp_path: Path) -> None:
    environ = {"STAYTUS_API_URL": upstream.url, "STAYTUS_API_TOKEN": "t", "STAYTUS_API_SECRET": "s"}
    with free_port() as port:
        environ["EXPORTER_PORT"] = str(port)
        with serving(tmp_path, port, MODULE, environ=environ) as exporter:
            assert healthcheck(Path(f"/proc/{exporter.process.pid}/cmdline"), environ) == (0, "")


@pytest.mark.parametrize(
    ("command", "environ"),
    [
        ("python -m exporter --bind 255.255.255.255", {}),
        ("gunicorn -c gunicorn.conf.py wsgi:app", {"PATRONI_EXPORTER_BIND": "255.255.255.255"}),
    ],
)
def test_healthcheck_uses_the_default_port(tmp_path: Path, command: str, environ: dict[str, str]) -> None:
    (tmp_path / "cmdline").write_text(command.replace(" ", "\0") + "\0")
    unreachable = "255.255.255.255:9547: [Errno 101] Network is unreachable\n"  # a broadcast address, for TCP
    assert healthcheck(tmp_path / "cmdline", environ) == (1, unreachable)
