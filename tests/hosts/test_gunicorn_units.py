"""gunicorn as the units in `deploy/gunicorn/` start, reload and restart it, without the systemd that would do so."""

import contextlib
import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from ctypes.util import find_library
from pathlib import Path

import pytest

from tests.conftest import Upstream
from tests.hosts.hosts import FOLDER, GUNICORN, Place, settings
from tests.live.installed import needs, path_of
from tests.live.processes import Served, run, serving, until

pytestmark = pytest.mark.timeout(90)

UNITS = "gunicorn/patroni-staytus-exporter"

#: As systemd does it: gives file 3, tells that process of it, and becomes it.
ACTIVATE = """\
import os, sys
os.dup2(int(sys.argv[1]), 3)
os.environ |= {"LISTEN_FDS": "1", "LISTEN_PID": str(os.getpid())}
os.execv(sys.argv[2], sys.argv[2:])
"""


#: The system calls that it may make are the first argument; what it may not make answers EPERM, as with the unit.
CONFINE = """\
import ctypes, os, sys
seccomp = ctypes.CDLL("libseccomp.so.2")
seccomp.seccomp_init.restype = ctypes.c_void_p
confined = ctypes.c_void_p(seccomp.seccomp_init(0x00050001))
for name in sys.argv[1].split(","):
    number = seccomp.seccomp_syscall_resolve_name(name.encode())
    number == -1 or seccomp.seccomp_rule_add(confined, 0x7FFF0000, number, 0)
ctypes.CDLL(None).prctl(65, 1, 0, 0, 0)  # MemoryDenyWriteExecute, where the kernel knows it
assert seccomp.seccomp_load(confined) == 0
os.execv(sys.argv[2], sys.argv[2:])
"""


def lines(place: Place, name: str, key: str) -> list[str]:
    """The values of this key in a unit, with the folder of the place in the stead of the one that users have."""
    pairs = (line.partition("=") for line in place.deployed(name).read_text().splitlines())
    return [value.replace(FOLDER, str(place.folder)) for found, _, value in pairs if found == key]


@contextlib.contextmanager
def service(place: Place, port: int, environ: dict[str, str]) -> Iterator[Served]:
    """Starts the service in its folder."""
    (command,) = lines(place, f"{UNITS}.service", "ExecStart")
    (folder,) = lines(place, f"{UNITS}.service", "WorkingDirectory")
    environ = {**place.least, **environ}
    with serving(
        place.folder, port, shlex.split(command), cwd=Path(folder), user=GUNICORN.user, environ=environ
    ) as served:
        GUNICORN.has_started(served)
        yield served


def reload(place: Place, served: Served) -> list[int]:
    """Runs the lines of `systemctl reload` until one fails; returns their exit statuses."""
    statuses: list[int] = []
    for line in lines(place, f"{UNITS}.service", "ExecReload"):
        command = shlex.split(line.replace("$MAINPID", str(served.process.pid)))
        status, output = run(command, cwd=place.folder, user=GUNICORN.user, environ=place.least)
        statuses.append(status)
        if status:
            assert output.count("\n") == 1, output
            break
    return statuses


@needs("systemd-analyze")
def test_systemd_takes_the_units_and_finds_little_exposed(place: Place, tmp_path: Path) -> None:
    for source in place.deployed("gunicorn").rglob("*.*"):
        if source.is_file():
            target = tmp_path / source.relative_to(place.deployed("gunicorn"))
            target.parent.mkdir(exist_ok=True)
            target.write_text(source.read_text().replace(FOLDER, str(place.folder)))
    units = [str(tmp_path / f"{Path(UNITS).name}.{kind}") for kind in ("service", "socket")]
    analyze = path_of("systemd-analyze")
    assert run([analyze, "verify", "--man=no", *units], cwd=tmp_path) == (0, "")
    status, report = run([analyze, "security", "--offline=yes", "--threshold=15", units[0]], cwd=tmp_path)
    assert status == 0, report


@needs("systemd-analyze")
@pytest.mark.skipif(find_library("seccomp") is None, reason="not installed: libseccomp2")
def test_service_scrapes_reloads_and_ends_within_its_system_calls(place: Place, both: Upstream, port: int) -> None:
    allowed, denied, after_all = lines(place, f"{UNITS}.service", "SystemCallFilter")
    calls = members("@default", *allowed.split()) - members(*denied.removeprefix("~").split()) | {after_all}
    assert {"accept4", "clone", "sched_setaffinity"} < calls
    assert not {"chown", "mount", "setuid"} & calls
    place.set(settings(both, PATRONI_EXPORTER_BIND="127.0.0.1", PATRONI_EXPORTER_PORT=str(port)))
    (command,) = lines(place, f"{UNITS}.service", "ExecStart")
    python = str(place.folder / ".venv/bin/python")
    confined = [python, "-c", CONFINE, ",".join(calls), *shlex.split(command)]
    with serving(place.folder, port, confined, cwd=place.folder, user=GUNICORN.user, environ=place.least) as served:
        assert served.up() == "1.0"
        served.process.send_signal(signal.SIGHUP)
        GUNICORN.has_started(served, 2)
        assert "\nprocess_start_time_seconds " in served.get()[1]
        assert served.end() == 0
    assert [line for line in served.lines() if not line.startswith("INFO ")] == []


def members(*names: str) -> set[str]:
    """The system calls of sets of systemd, by the names of the sets."""
    _, text = run([path_of("systemd-analyze"), "syscall-filter", *names], cwd=Path("/"))
    rows = {line.strip() for line in text.splitlines() if line.startswith("    ") and "#" not in line}
    sets = {row for row in rows if row.startswith("@")} - set(names)
    return {row for row in rows if not row.startswith("@")} | (members(*sets) if sets else set())


def test_service_tells_systemd_when_it_is_there(place: Place, both: Upstream, port: int) -> None:
    place.set(settings(both, PATRONI_EXPORTER_BIND="127.0.0.1", PATRONI_EXPORTER_PORT=str(port)))
    assert lines(place, f"{UNITS}.service", "Type") == ["notify"]
    told = place.folder / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(told))
        told.chmod(0o777)
        systemd.settimeout(10)
        with service(place, port, {"NOTIFY_SOCKET": str(told)}) as served:
            assert systemd.recv(1000).decode().splitlines()[0] == "READY=1"
            assert served.up() == "1.0"
            assert served.end() == 0
    told.unlink()


def test_reload_takes_good_settings_and_refuses_wrong_ones_while_it_serves_on(
    place: Place, both: Upstream, port: int
) -> None:
    listen = {"PATRONI_EXPORTER_BIND": "127.0.0.1", "PATRONI_EXPORTER_PORT": str(port)}
    place.set(settings(both, **listen) | {"PATRONI_EXPORTER_URL": f"{both.url}/elsewhere"})
    with service(place, port, {}) as served:
        assert served.up() == "0.0"  # so its worker has read the settings; wrong ones would stop it
        place.set(settings(both, **listen, PATRONI_EXPORTER_TIMEOUT="ten"))
        assert reload(place, served) == [2]
        assert served.up() == "0.0"
        place.set(settings(both, **listen))
        assert reload(place, served) == [0, 0]
        until(lambda: served.up() == "1.0")
        assert served.end() == 0


def test_setting_that_is_wrong_ends_with_the_status_after_which_systemd_does_not_start_again(
    place: Place, both: Upstream
) -> None:
    place.set(settings(both, PATRONI_EXPORTER_TIMEOUT="ten"))
    (command,) = lines(place, f"{UNITS}.service", "ExecStart")
    status, log = run(shlex.split(command), cwd=place.folder, user=GUNICORN.user, environ=place.least)
    assert [str(status)] == lines(place, f"{UNITS}.service", "RestartPreventExitStatus")
    assert log == (
        "patroni-staytus-exporter: PATRONI_EXPORTER_TIMEOUT='ten': expected a number of seconds from 0.01 to 3600\n"
    )


def test_worker_of_a_gunicorn_without_its_configuration_stops_it_for_a_setting_that_is_wrong(
    place: Place, both: Upstream, port: int
) -> None:
    place.set(settings(both, PATRONI_EXPORTER_TIMEOUT="ten"))
    gunicorn = str(place.folder / ".venv/bin/gunicorn")
    options = ["--bind", f"127.0.0.1:{port}", "--no-control-socket", "--pythonpath", str(place.folder), "wsgi:app"]
    status, log = run([gunicorn, *options], cwd=Path("/"), user=GUNICORN.user, environ=place.least)
    assert (status, log.count("PATRONI_EXPORTER_TIMEOUT='ten'"), "Traceback" in log) == (3, 1, False)


def test_secrets_of_staytus_come_as_credentials(place: Place, both: Upstream, port: int) -> None:
    place.set(
        {
            "PATRONI_EXPORTER_BIND": "127.0.0.1",
            "PATRONI_EXPORTER_PORT": str(port),
            "PATRONI_EXPORTER_URL": both.url,
            "STAYTUS_API_URL": both.url,
        }
    )
    credentials = place.folder / "credentials"
    credentials.mkdir()
    drop_in = f"{UNITS}.service.d/staytus.conf"
    for credential in lines(place, drop_in, "LoadCredential"):
        name = credential.partition(":")[0]
        (credentials / name).write_text(f"{name} of a test\n")
    variables = [line.replace("%d", str(credentials)).split("=", 1) for line in lines(place, drop_in, "Environment")]
    try:
        with service(place, port, dict(variables)) as served:
            assert "\nstaytus_up 1.0\n" in served.get()[1]
    finally:
        shutil.rmtree(credentials)
    sent = {name.lower(): value for name, value in dict(both.requests)["/api/v1/services/all"].items()}
    assert (sent["x-auth-token"], sent["x-auth-secret"]) == (
        "staytus-api-token of a test",
        "staytus-api-secret of a test",
    )


def test_socket_of_systemd_is_served_and_keeps_who_comes_while_the_service_restarts(
    place: Place, both: Upstream
) -> None:
    place.set(settings(both))
    (command,) = lines(place, f"{UNITS}.service", "ExecStart")
    with socket.create_server(("127.0.0.1", 0)) as listener, ThreadPoolExecutor(1) as prometheus:
        port = listener.getsockname()[1]
        first = activated(place, command, listener)
        served = Served(first, port, place.folder / "activated.log")
        try:
            assert served.up() == "1.0"
            assert served.end() == 0
            meanwhile = prometheus.submit(served.get, "/-/healthy")
            time.sleep(0.2)
            assert not meanwhile.done()
            second = activated(place, command, listener)
            try:
                assert meanwhile.result(20) == (200, "OK\n")
            finally:
                os.killpg(second.pid, signal.SIGTERM)
                assert second.wait(20) == 0
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(first.pid, signal.SIGKILL)
    assert f"Listening at: http://127.0.0.1:{port}" in served.log.read_text()


def activated(place: Place, command: str, listener: socket.socket) -> subprocess.Popen[bytes]:
    """Starts the command with a socket that listens already."""
    with (place.folder / "activated.log").open("wb") as log:
        return subprocess.Popen(
            [sys.executable, "-c", ACTIVATE, str(listener.fileno()), *shlex.split(command)],
            cwd=place.folder,
            env={"PATH": os.environ["PATH"], **place.least},
            pass_fds=[listener.fileno(), 3],
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
