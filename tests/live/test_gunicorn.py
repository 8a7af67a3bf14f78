"""gunicorn as a real process: its start, log, reload and end; tests/hosts/ has what all hosts share."""

import json
import shutil
import signal
import socket
import tempfile
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from pathlib import Path

import pytest

from tests.conftest import Upstream
from tests.live.processes import MODULE, PACKAGES, ROOT, listing, recorded, run, serving, unprivileged, until

pytestmark = pytest.mark.timeout(60)

END = ["INFO Handling signal: term", "INFO Worker exiting (pid: N)", "INFO Shutting down: Master"]


def command(upstream: Upstream, port: int, *arguments: str) -> tuple[str, ...]:
    return (*MODULE, "--port", str(port), "--patroni-url", upstream.url + "/patroni", *arguments)


def startup(port: int, host: str = "0.0.0.0") -> list[str]:
    return [
        f"INFO Starting gunicorn {version('gunicorn')}",
        f"INFO Listening at: http://{host}:{port} (N)",
        "INFO Using worker: exporter.web.gunicorn.Worker",
        "INFO Booting worker with pid: N",
        "INFO module loaded",
    ]


def test_log_has_only_start_and_end(upstream: Upstream, tmp_path: Path, port: int) -> None:
    with serving(tmp_path, port, command(recorded(upstream), port), environ={"PYTHONWARNINGS": "default"}) as exporter:
        assert exporter.up() == "1.0"
        assert exporter.end() == 0
    assert exporter.lines() == startup(port) + END


def test_log_format_and_level(upstream: Upstream, tmp_path: Path, port: int) -> None:
    arguments = command(upstream, port, "--log.format", "json", "--log.level")
    with serving(tmp_path, port, (*arguments, "info")) as exporter:
        assert exporter.up() == "0.0"
        assert exporter.end() == 0
    events = [json.loads(line) for line in exporter.log.read_text().splitlines()]
    assert [(event["logger"], event["level"]) for event in events] == [
        *[("gunicorn.error", "INFO")] * 4,
        ("exporter.app", "INFO"),
        *[("exporter.scrape.scrape", "WARN")] * 5,
        *[("gunicorn.error", "INFO")] * 3,
    ]
    with serving(tmp_path, port, (*arguments, "error")) as exporter:
        assert exporter.up() == "0.0"
        assert exporter.end() == 0
    assert exporter.log.read_text() == ""


@pytest.mark.skipif(not socket.has_dualstack_ipv6(), reason="IPv6 is not available")
def test_old_systemd_unit_serves_ipv6_and_ipv4(upstream: Upstream, tmp_path: Path, port: int) -> None:
    unit = ("--bind", "", "--address-family", "AF_INET6", "--timeout", "5", "--requests-verify", "true", "")
    with serving(tmp_path, port, command(recorded(upstream), port, *unit)) as exporter:
        assert exporter.get("/-/healthy", "127.0.0.1") == (200, "OK\n")
        assert exporter.get("/-/healthy", "::1") == (200, "OK\n")
        assert exporter.up() == "1.0"
        assert exporter.lines() == startup(port, "[::]")


def test_sigint_lets_a_scrape_finish(upstream: Upstream, tmp_path: Path, port: int) -> None:
    release = recorded(upstream).hold("/patroni")
    with serving(tmp_path, port, command(upstream, port)) as exporter, ThreadPoolExecutor(1) as client:
        scrape = client.submit(exporter.up)
        until(lambda: "/patroni" in upstream.paths)
        exporter.process.send_signal(signal.SIGINT)
        until(exporter.logs("Handling signal"))
        release.set()
        assert (scrape.result(10), exporter.process.wait(10)) == ("1.0", 0)


def test_sighup_keeps_the_settings_if_one_is_bad(upstream: Upstream, tmp_path: Path, port: int) -> None:
    env = tmp_path / "env"
    env.write_text(f"PATRONI_EXPORTER_PORT={port}\nPATRONI_EXPORTER_URL={recorded(upstream).url}\n")
    with serving(tmp_path, port, MODULE, environ={"EXPORTER_ENV_FILE": str(env)}) as exporter:
        assert exporter.up() == "1.0"  # the worker has read the settings
        workers = exporter.workers()
        env.write_text("PATRONI_EXPORTER_TIMEOUT=ten\n")
        exporter.process.send_signal(signal.SIGHUP)
        until(lambda: exporter.events()[-1]["msg"] == "not reloaded")
        assert exporter.events()[-1]["reason"].startswith("PATRONI_EXPORTER_TIMEOUT='ten': ")
        assert (exporter.up(), exporter.workers()) == ("1.0", workers)
        assert exporter.end() == 0


def test_writes_no_file(upstream: Upstream, port: int) -> None:
    who = unprivileged()
    with tempfile.TemporaryDirectory() as name, tempfile.TemporaryDirectory() as logs:
        folder = Path(name)
        shutil.copytree(ROOT / "exporter", folder / "code" / "exporter", ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(ROOT / "gunicorn.conf.py", folder / "code")
        for place in ("home", "runtime"):
            (folder / place).mkdir()
        for path in (folder, *folder.rglob("*")):
            path.chmod(0o777 if path.name == "runtime" else 0o555)
        before = listing(folder)
        environ = {
            "HOME": str(folder / "home"),
            "XDG_RUNTIME_DIR": str(folder / "runtime"),  # where gunicorn's control socket would be
            "PYTHONPATH": f"{folder / 'code'}:{PACKAGES}",
            "PYTHONDONTWRITEBYTECODE": "1",  # root may write everywhere
        }
        line = (who.python, *command(recorded(upstream), port)[1:])
        with serving(Path(logs), port, line, cwd=folder / "home", user=who.user, environ=environ) as exporter:
            assert exporter.up() == "1.0"
            assert listing(folder) == before
            assert exporter.files() == {str(exporter.log), "/dev/shm"}
            assert exporter.end() == 0
        assert exporter.lines() == startup(port) + END
        assert listing(folder) == before


@pytest.mark.parametrize(
    ("bind", "reason"), [("127.0.0.1", "address already in use"), ("192.0.2.1", "cannot assign requested address")]
)
def test_cannot_listen(upstream: Upstream, tmp_path: Path, bind: str, reason: str) -> None:
    taken = upstream.server_port
    assert run(command(upstream, taken, "--bind", bind), cwd=tmp_path) == (
        2,
        f"patroni-staytus-exporter: cannot listen on {bind}:{taken}: {reason}\n",
    )
