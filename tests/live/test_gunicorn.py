"""gunicorn as a real process before a real upstream: how it starts, serves, reloads and ends."""

import contextlib
import json
import re
import shutil
import signal
import socket
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from pathlib import Path

import pytest

from tests.conftest import Upstream
from tests.live.processes import (
    MODULE,
    PACKAGES,
    ROOT,
    free_port,
    listing,
    recorded,
    run,
    serving,
    unprivileged,
    until,
)

pytestmark = pytest.mark.timeout(60)


def command(upstream: Upstream, port: int, *arguments: str) -> tuple[str, ...]:
    return (*MODULE, "--port", str(port), "--patroni-url", upstream.url + "/patroni", *arguments)


def startup(port: int, host: str = "0.0.0.0", workers: int = 1) -> list[str]:
    return [
        f"INFO Starting gunicorn {version('gunicorn')}",
        f"INFO Listening at: http://{host}:{port} (N)",
        "INFO Using worker: exporter.web.gunicorn.Worker",
        *["INFO Booting worker with pid: N"] * workers,
    ]


END = ["INFO Handling signal: term", "INFO Worker exiting (pid: N)", "INFO Shutting down: Master"]


def test_module_serves_from_any_folder_and_a_quiet_run_logs_no_more_than_its_start_and_end(
    upstream: Upstream, tmp_path: Path, port: int
) -> None:
    with serving(tmp_path, port, command(recorded(upstream), port), environ={"PYTHONWARNINGS": "default"}) as exporter:
        assert exporter.up() == "1.0"
        assert exporter.end() == 0
    assert exporter.lines() == startup(port) + END


def test_log_is_json_where_told_so_and_as_quiet_as_told(upstream: Upstream, tmp_path: Path, port: int) -> None:
    arguments = command(upstream, port, "--log.format", "json", "--log.level")
    with serving(tmp_path, port, (*arguments, "info")) as exporter:
        assert exporter.up() == "0.0"
        assert exporter.end() == 0
    events = [json.loads(line) for line in exporter.log.read_text().splitlines()]
    assert [(event["logger"], event["level"]) for event in events] == [
        *[("gunicorn.error", "INFO")] * 4,
        *[("exporter.scrape.scrape", "WARN")] * 5,
        *[("gunicorn.error", "INFO")] * 3,
    ]
    with serving(tmp_path, port, (*arguments, "error")) as exporter:
        assert exporter.up() == "0.0"
        assert exporter.end() == 0
    assert exporter.log.read_text() == ""


def test_gunicorn_serves_wsgi_with_the_configuration_file(upstream: Upstream, tmp_path: Path, port: int) -> None:
    gunicorn = (MODULE[0], "-m", "gunicorn", "-c", "gunicorn.conf.py", "wsgi:app")
    environ = {"PATRONI_EXPORTER_PORT": str(port), "PATRONI_EXPORTER_URL": recorded(upstream).url}
    with serving(tmp_path, port, gunicorn, cwd=ROOT, environ=environ) as exporter:
        assert exporter.up() == "1.0"
        assert exporter.end() == 0
    assert exporter.lines() == startup(port) + END


def test_the_line_of_the_old_systemd_unit_serves(upstream: Upstream, tmp_path: Path, port: int) -> None:
    unit = (
        f"--bind localhost --port {port} --address-family AF_INET --patroni-url {recorded(upstream).url}/patroni "
        "--timeout 5 --requests-verify true"
    )
    with serving(tmp_path, port, (*MODULE, *unit.split(), "")) as exporter:
        assert exporter.up() == "1.0"
        assert exporter.lines() == startup(port, "127.0.0.1")


def test_ipv6_with_an_empty_bind_listens_on_ipv4_too(upstream: Upstream, tmp_path: Path, port: int) -> None:
    arguments = command(upstream, port, "--address-family", "AF_INET6", "--bind", "")
    if has_ipv6():
        with serving(tmp_path, port, arguments) as exporter:
            assert exporter.get("/-/healthy", "127.0.0.1") == (200, "OK\n")
            assert exporter.get("/-/healthy", "::1") == (200, "OK\n")
            assert exporter.lines() == startup(port, "[::]")
    else:
        status, output = run(arguments, cwd=tmp_path)
        assert (status, output.count("\n")) == (2, 1)
        assert output.startswith(f"patroni-staytus-exporter: cannot listen on [::]:{port}: ")


def has_ipv6() -> bool:
    with contextlib.suppress(OSError), socket.socket(socket.AF_INET6) as there:
        there.bind(("::1", 0))
        return True
    return False


def test_four_workers_give_the_same_samples_as_one(upstream: Upstream, tmp_path: Path, port: int) -> None:
    pages = []
    for workers in (1, 4):
        with serving(tmp_path, port, command(recorded(upstream), port, "--workers", str(workers))) as exporter:
            until(exporter.logs("Booting worker", workers))
            with ThreadPoolExecutor(8) as scrapers:
                pages += list(scrapers.map(lambda _: exporter.get(), range(16)))
            assert exporter.end() == 0
    assert {status for status, _ in pages} == {200}
    assert len({stable(page) for _, page in pages}) == 1


def stable(page: str) -> str:
    """A page without what a process says of itself and how long things took."""
    return re.sub(r"(?m)^(process_|python_|patroni_scrape_collector_duration_seconds).*\n", "", page)


@pytest.mark.parametrize("sig", [signal.SIGTERM, signal.SIGINT])
def test_scrape_under_way_is_answered_whole_before_the_process_ends(
    upstream: Upstream, tmp_path: Path, port: int, sig: signal.Signals
) -> None:
    release = recorded(upstream).hold("/patroni")
    with serving(tmp_path, port, command(upstream, port)) as exporter, ThreadPoolExecutor(1) as scraper:
        scrape = scraper.submit(exporter.get)
        until(lambda: "/patroni" in upstream.paths)
        exporter.process.send_signal(sig)
        until(exporter.logs("Handling signal"))
        release.set()
        slow = scrape.result(10)
        assert exporter.process.wait(10) == 0
    with serving(tmp_path, port, command(upstream, port)) as exporter:
        assert (slow[0], stable(slow[1])) == (200, stable(exporter.get()[1]))


def test_upstream_that_never_answers_does_not_keep_the_process(upstream: Upstream, tmp_path: Path, port: int) -> None:
    recorded(upstream).hold("/patroni")
    arguments = command(upstream, port, "--timeout", "1")
    with serving(tmp_path, port, arguments) as exporter, ThreadPoolExecutor(1) as scraper:
        scrape = scraper.submit(exporter.get)
        until(lambda: "/patroni" in upstream.paths)
        assert exporter.end() == 0
        assert "\npatroni_up 0.0\n" in scrape.result()[1]


def test_reload_takes_changed_settings_and_serves_without_a_gap(upstream: Upstream, tmp_path: Path, port: int) -> None:
    env = tmp_path / "env"
    env.write_text(f"PATRONI_EXPORTER_PORT={port}\nPATRONI_EXPORTER_URL={upstream.url}/elsewhere\n")
    with serving(tmp_path, port, MODULE, environ={"EXPORTER_ENV_FILE": str(env)}) as exporter:
        assert exporter.up() == "0.0"
        env.write_text(f"PATRONI_EXPORTER_PORT={port}\nPATRONI_EXPORTER_URL={recorded(upstream).url}\n")
        exporter.process.send_signal(signal.SIGHUP)
        seen = []
        while not exporter.logs("Worker exiting")():
            seen.append(exporter.get("/-/healthy"))
        assert set(seen) == {(200, "OK\n")}
        assert exporter.up() == "1.0"
        until(lambda: len(exporter.workers()) == 1)
        before = exporter.workers()
        env.write_text("PATRONI_EXPORTER_TIMEOUT=ten\n")
        exporter.process.send_signal(signal.SIGHUP)
        until(lambda: exporter.events()[-1]["msg"] == "not reloaded")
        assert exporter.events()[-1]["reason"].startswith("PATRONI_EXPORTER_TIMEOUT='ten': ")
        assert (exporter.up(), exporter.workers()) == ("1.0", before)
        assert exporter.end() == 0


def test_nothing_is_written_and_no_control_socket_is_there(upstream: Upstream, port: int) -> None:
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
            "PYTHONDONTWRITEBYTECODE": "1",  # for root, who may write everywhere
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
def test_address_that_nobody_can_listen_on_is_one_line_and_status_2(
    upstream: Upstream, tmp_path: Path, bind: str, reason: str
) -> None:
    taken = upstream.server_port
    assert run(command(upstream, taken, "--bind", bind), cwd=tmp_path) == (
        2,
        f"patroni-staytus-exporter: cannot listen on {bind}:{taken}: {reason}\n",
    )


def test_upstream_that_comes_up_later_needs_no_restart(upstream: Upstream, tmp_path: Path, port: int) -> None:
    with free_port() as later:
        arguments = (*MODULE, "--port", str(port), "--patroni-url", f"http://127.0.0.1:{later}/patroni")
        with serving(tmp_path, port, arguments) as exporter:
            assert exporter.up() == "0.0"
            with listening(recorded(upstream), later):
                assert exporter.up() == "1.0"


@contextlib.contextmanager
def listening(upstream: Upstream, port: int) -> Iterator[None]:
    """Lets the upstream be there on one more port."""
    second = Upstream()
    second.socket.close()
    second.socket = socket.create_server(("127.0.0.1", port))
    second.answers = upstream.answers
    with second:
        yield


def test_process_answers_for_itself_while_the_upstream_hangs(upstream: Upstream, tmp_path: Path, port: int) -> None:
    release = recorded(upstream).hold("/patroni")
    arguments = command(upstream, port, "--timeout", "30")
    with serving(tmp_path, port, arguments) as exporter, ThreadPoolExecutor(8) as scrapers:
        scrapes = [scrapers.submit(exporter.get) for _ in range(8)]
        until(lambda: "/patroni" in upstream.paths)
        assert exporter.get("/-/healthy") == (200, "OK\n")
        assert exporter.get("/-/ready") == (200, "OK\n")
        release.set()
        assert {scrape.result(10)[0] for scrape in scrapes} == {200}
    assert upstream.paths.count("/patroni") == 1
