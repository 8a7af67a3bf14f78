"""The units in `deploy/gunicorn/`: their commands run without systemd."""

import contextlib
import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from ctypes.util import find_library
from pathlib import Path

import pytest

from tests.conftest import Upstream
from tests.hosts.hosts import ENVIRON, FOLDER, GUNICORN, Checkout, settings
from tests.live.installed import needs, path_of
from tests.live.processes import Served, run, serving, until

pytestmark = pytest.mark.timeout(90)

UNITS = "gunicorn/patroni-staytus-exporter"

#: Socket activation as systemd does it: passes the socket as file 3.
ACTIVATE = """\
import os, sys
os.dup2(int(sys.argv[1]), 3)
os.environ |= {"LISTEN_FDS": "1", "LISTEN_PID": str(os.getpid())}
os.execv(sys.argv[2], sys.argv[2:])
"""

#: Allows the system calls in the first argument; others fail with EPERM, as with the unit.
CONFINE = """\
import ctypes, os, sys
seccomp = ctypes.CDLL("libseccomp.so.2")
seccomp.seccomp_init.restype = ctypes.c_void_p
confined = ctypes.c_void_p(seccomp.seccomp_init(0x00050001))
for name in sys.argv[1].split(","):
    number = seccomp.seccomp_syscall_resolve_name(name.encode())
    number == -1 or seccomp.seccomp_rule_add(confined, 0x7FFF0000, number, 0)
ctypes.CDLL(None).prctl(65, 1, 0, 0, 0)  # MemoryDenyWriteExecute, if the kernel has it
assert seccomp.seccomp_load(confined) == 0
os.execv(sys.argv[2], sys.argv[2:])
"""


def values(checkout: Checkout, key: str, name: str = f"{UNITS}.service") -> list[str]:
    """The values of a key in a unit, with the folder of this checkout."""
    pairs = (line.partition("=") for line in checkout.deploy(name).read_text().splitlines())
    return [value.replace(FOLDER, str(checkout.folder)) for found, _, value in pairs if found == key]


def command(checkout: Checkout) -> list[str]:
    (line,) = values(checkout, "ExecStart")
    return shlex.split(line)


def local(upstream: Upstream, port: int, **more: str) -> dict[str, str]:
    """The settings of both modules and the address to listen on."""
    return settings(upstream, PATRONI_EXPORTER_BIND="127.0.0.1", PATRONI_EXPORTER_PORT=str(port), **more)


@contextlib.contextmanager
def service(checkout: Checkout, port: int, environ: Mapping[str, str] = {}) -> Iterator[Served]:
    """Starts the service in its folder."""
    (folder,) = values(checkout, "WorkingDirectory")
    with serving(
        checkout.folder,
        port,
        command(checkout),
        cwd=Path(folder),
        user=GUNICORN.user,
        environ={**ENVIRON, **environ},
    ) as served:
        GUNICORN.wait(served)
        yield served


def reload(checkout: Checkout, served: Served) -> list[int]:
    """Runs the commands of `systemctl reload` until one fails; returns their exit statuses."""
    statuses: list[int] = []
    for line in values(checkout, "ExecReload"):
        words = shlex.split(line.replace("$MAINPID", str(served.process.pid)))
        status, output = run(words, cwd=checkout.folder, user=GUNICORN.user, environ=ENVIRON)
        statuses.append(status)
        if status:
            assert output.count("\n") == 1, output
            break
    return statuses


@needs("systemd-analyze")
def test_systemd_accepts_the_units(checkout: Checkout, tmp_path: Path) -> None:
    for source in checkout.deploy("gunicorn").rglob("*.*"):
        if source.is_file():
            target = tmp_path / source.relative_to(checkout.deploy("gunicorn"))
            target.parent.mkdir(exist_ok=True)
            target.write_text(source.read_text().replace(FOLDER, str(checkout.folder)))
    units = [str(tmp_path / f"{Path(UNITS).name}.{kind}") for kind in ("service", "socket")]
    analyze = path_of("systemd-analyze")
    assert run([analyze, "verify", "--man=no", *units], cwd=tmp_path) == (0, "")
    status, report = run([analyze, "security", "--offline=yes", "--threshold=15", units[0]], cwd=tmp_path)
    assert status == 0, report


@needs("systemd-analyze")
@pytest.mark.skipif(find_library("seccomp") is None, reason="libseccomp2 is not installed")
def test_service_needs_only_its_system_calls(checkout: Checkout, upstream: Upstream, port: int) -> None:
    allowed, denied, added = values(checkout, "SystemCallFilter")
    calls = members("@default", *allowed.split()) - members(*denied.removeprefix("~").split()) | {*added.split()}
    assert {"accept4", "clone", "sched_setaffinity", "sched_setscheduler"} < calls
    assert not {"chown", "mount", "setuid"} & calls
    checkout.write_env(local(upstream, port))
    python = str(checkout.folder / ".venv/bin/python")
    confined = [python, "-c", CONFINE, ",".join(calls), *command(checkout)]
    with serving(checkout.folder, port, confined, cwd=checkout.folder, user=GUNICORN.user, environ=ENVIRON) as served:
        assert served.up() == "1.0"
        served.process.send_signal(signal.SIGHUP)
        GUNICORN.wait(served, 2)
        assert "\nprocess_start_time_seconds " in served.get()[1]
        assert served.end() == 0
    assert [line for line in served.lines() if not line.startswith("INFO ")] == []


def members(*names: str) -> set[str]:
    """The system calls in these sets of systemd."""
    _, text = run([path_of("systemd-analyze"), "syscall-filter", *names], cwd=Path("/"))
    rows = {line.strip() for line in text.splitlines() if line.startswith("    ") and "#" not in line}
    sets = {row for row in rows if row.startswith("@")} - set(names)
    return {row for row in rows if not row.startswith("@")} | (members(*sets) if sets else set())


def test_start_and_reload(checkout: Checkout, upstream: Upstream, port: int) -> None:
    """It notifies systemd; a reload applies good settings and rejects bad ones."""
    checkout.write_env(local(upstream, port) | {"PATRONI_EXPORTER_URL": f"{upstream.url}/elsewhere"})
    assert values(checkout, "Type") == ["notify"]
    path = checkout.folder / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(path))
        path.chmod(0o777)
        systemd.settimeout(10)
        with service(checkout, port, {"NOTIFY_SOCKET": str(path)}) as served:
            assert systemd.recv(1000).decode().splitlines()[0] == "READY=1"
            assert served.up() == "0.0"  # the worker has read the settings
            checkout.write_env(local(upstream, port, PATRONI_EXPORTER_TIMEOUT="ten"))
            assert reload(checkout, served) == [2]
            assert served.up() == "0.0"
            checkout.write_env(local(upstream, port))
            assert reload(checkout, served) == [0, 0]
            until(lambda: served.up() == "1.0")
            assert served.end() == 0
    path.unlink()


def test_systemd_does_not_restart_after_a_bad_setting(checkout: Checkout, upstream: Upstream) -> None:
    checkout.write_env(settings(upstream, PATRONI_EXPORTER_TIMEOUT="ten"))
    status, _ = run(command(checkout), cwd=checkout.folder, user=GUNICORN.user, environ=ENVIRON)
    assert [str(status)] == values(checkout, "RestartPreventExitStatus")


def test_bad_setting_without_gunicorn_conf(checkout: Checkout, upstream: Upstream, port: int) -> None:
    """A worker that cannot start stops gunicorn."""
    checkout.write_env(settings(upstream, PATRONI_EXPORTER_TIMEOUT="ten"))
    gunicorn = str(checkout.folder / ".venv/bin/gunicorn")
    options = ["--bind", f"127.0.0.1:{port}", "--no-control-socket", "--pythonpath", str(checkout.folder), "wsgi:app"]
    status, log = run([gunicorn, *options], cwd=Path("/"), user=GUNICORN.user, environ=ENVIRON)
    assert (status, log.count("PATRONI_EXPORTER_TIMEOUT='ten'"), "Traceback" in log) == (3, 1, False)


def test_credentials(checkout: Checkout, upstream: Upstream, port: int) -> None:
    """The drop-in for Staytus passes its secrets as credentials of systemd."""
    environ = local(upstream, port)
    del environ["STAYTUS_API_TOKEN"], environ["STAYTUS_API_SECRET"]
    checkout.write_env(environ)
    folder = checkout.folder / "credentials"
    folder.mkdir()
    drop_in = f"{UNITS}.service.d/staytus.conf"
    for credential in values(checkout, "LoadCredential", drop_in):
        name = credential.partition(":")[0]
        (folder / name).write_text(f"value of {name}\n")
    variables = [line.replace("%d", str(folder)).split("=", 1) for line in values(checkout, "Environment", drop_in)]
    try:
        with service(checkout, port, dict(variables)) as served:
            assert "\nstaytus_up 1.0\n" in served.get()[1]
    finally:
        shutil.rmtree(folder)
    headers = {name.lower(): value for name, value in dict(upstream.requests)["/api/v1/services/all"].items()}
    names = ("x-auth-token", "x-auth-secret")
    assert [headers[name] for name in names] == ["value of staytus-api-token", "value of staytus-api-secret"]


def test_socket_keeps_clients_during_a_restart(checkout: Checkout, upstream: Upstream) -> None:
    checkout.write_env(settings(upstream))
    with socket.create_server(("127.0.0.1", 0)) as listener, ThreadPoolExecutor(1) as client:
        port = listener.getsockname()[1]
        with activated(checkout, listener) as first:
            served = Served(first, port, checkout.folder / "activated.log")
            assert served.up() == "1.0"
            assert served.end() == 0
            response = client.submit(served.get, "/-/healthy")
            time.sleep(0.2)
            assert not response.done()
        with activated(checkout, listener) as second:
            assert response.result(20) == (200, "OK\n")
            second.terminate()
            assert second.wait(20) == 0
    assert f"Listening at: http://127.0.0.1:{port}" in served.log.read_text()


@contextlib.contextmanager
def activated(checkout: Checkout, listener: socket.socket) -> Iterator[subprocess.Popen[bytes]]:
    """Starts the service with this socket."""
    with (checkout.folder / "activated.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-c", ACTIVATE, str(listener.fileno()), *command(checkout)],
            cwd=checkout.folder,
            env={"PATH": os.environ["PATH"], **ENVIRON},
            pass_fds=[listener.fileno(), 3],
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
