"""The hosts of wsgi.py as real servers, each with its configuration in `deploy/`."""

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Upstream
from tests.live.installed import needs, path_of
from tests.live.processes import NOBODY, ROOT, Served, run, serving, unprivileged, until

#: The Python of Debian's uWSGI and mod_wsgi.
DEBIAN_PYTHON = "/usr/bin/python3"

#: The folder of the checkout in `deploy/`.
FOLDER = "/opt/patroni-staytus-exporter"

#: In place of /etc/apache2/apache2.conf.
APACHE = """\
ServerRoot {folder}
ServerName localhost
PidFile {folder}/httpd-{port}.pid
DefaultRuntimeDir {folder}
ErrorLog {folder}/exporter-{port}.log
WSGISocketPrefix {folder}/wsgi
GracefulShutdownTimeout 20
LoadModule mpm_event_module {modules}/mod_mpm_event.so
LoadModule authz_core_module {modules}/mod_authz_core.so
LoadModule wsgi_module {modules}/mod_wsgi.so
User {user}
Group #{group}
<Directory />
    Require all denied
</Directory>
Include {folder}/deploy/apache/patroni-staytus-exporter.conf
"""

#: The checkout finds its code and its `.env` itself.
ENVIRON = {"PYTHONPATH": "", "EXPORTER_ENV_FILE": ""}


@dataclass(frozen=True)
class Checkout:
    """The files that a user installs, with a virtual environment."""

    folder: Path

    def write_env(self, environ: Mapping[str, str], name: str = ".env") -> Path:
        """Writes a file with settings."""
        env = self.folder / name
        env.write_text("".join(f"{name}={value}\n" for name, value in environ.items()))
        env.chmod(0o644)
        return env

    def deploy(self, name: str) -> Path:
        return self.folder / "deploy" / name


@contextlib.contextmanager
def checkout() -> Iterator[Checkout]:
    """Makes a checkout that an unprivileged user can read; its environment has the packages of this Python."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for source in ("exporter", "deploy"):
            shutil.copytree(ROOT / source, folder / source, ignore=shutil.ignore_patterns("__pycache__"))
        for source in ("wsgi.py", "gunicorn.conf.py"):
            shutil.copy(ROOT / source, folder)
        python = DEBIAN_PYTHON if is_compatible(DEBIAN_PYTHON) else unprivileged().python
        assert run([python, "-m", "venv", "--without-pip", str(folder / ".venv")], cwd=folder) == (0, "")
        (packages,) = folder.glob(".venv/lib/python3*/site-packages")
        copy_requirements(packages)
        # An unprivileged user cannot write the bytecode.
        assert run([python, "-m", "compileall", "-q", str(folder / "exporter")], cwd=folder) == (0, "")
        gunicorn = folder / ".venv" / "bin" / "gunicorn"  # as pip makes it
        gunicorn.write_text(f"#!{folder}/.venv/bin/python\nfrom gunicorn.app.wsgiapp import run\nrun()\n")
        gunicorn.chmod(0o755)
        assert run(["chmod", "-R", "a+rX", name], cwd=folder) == (0, "")
        yield Checkout(folder)


def copy_requirements(packages: Path) -> None:
    """Copies what requirements.txt lists: an unprivileged user cannot read it if the checkout is below /root."""
    for name in re.findall(r"^[\w.-]+(?===)", (ROOT / "requirements.txt").read_text(), re.MULTILINE):
        with contextlib.suppress(PackageNotFoundError):  # it is for another platform
            for file in distribution(name).files or ():
                source = Path(str(file.locate()))
                if ".." not in file.parts and source.exists():
                    target = packages / file
                    target.parent.mkdir(parents=True, exist_ok=True)
                    shutil.copy2(source, target)


@cache
def is_compatible(python: str) -> bool:
    """Tells whether this Python can use the packages of the one that runs the tests."""
    code = f"import sys; sys.exit(sys.version_info[:2] != {tuple(sys.version_info[:2])})"
    with contextlib.suppress(OSError):
        return subprocess.run([python, "-c", code], check=False).returncode == 0
    return False


@dataclass(frozen=True)
class Host:
    """One way to host the exporter; `start` returns the command and its environment."""

    name: str
    start: Callable[["Host", Checkout, int, str], tuple[list[str], dict[str, str]]]
    #: The log line of a process that has started.
    started: str
    options: tuple[str, ...] = ()
    processes: int = 1
    stop: signal.Signals = signal.SIGTERM
    user: int | None = None
    marks: tuple[pytest.MarkDecorator, ...] = ()
    #: Whether it ends after a bad setting; other hosts stay and return an error.
    ends: bool = True
    #: Whether a stop and a reload finish every request; uWSGI before 2.0.25 can drop one if it has threads.
    loses_none: bool = True

    @contextlib.contextmanager
    def serving(
        self, checkout: Checkout, port: int, path: str = "", environ: Mapping[str, str] = {}
    ) -> Iterator[Served]:
        """Starts it on the loopback interface, and ends it if it still runs."""
        command, own = self.start(self, checkout, port, path)
        environ = {**ENVIRON, **own, **environ}
        with serving(checkout.folder, port, command, cwd=Path("/"), user=self.user, environ=environ) as served:
            self.wait(served)
            yield served

    def wait(self, served: Served, times: int = 1) -> None:
        """Waits until all its processes have started, so many times."""
        if self.start is _apache:
            until(lambda: _ready(served) == self.processes)
        else:
            until(lambda: served.log.read_text().count(self.started) >= times * self.processes)
        if self.start is _uwsgi:
            until(lambda: "(master-start)" in served.log.read_text())  # its last line
        if self.start is _gunicorn:  # a worker that gets SIGTERM before it has its handlers does not end
            until(lambda: all(_catches_sigabrt(worker) for worker in served.workers()))

    def reload(self, checkout: Checkout, served: Served) -> None:
        """Lets it read the settings again: mod_wsgi compares the time of wsgi.py on each request."""
        if self.start is _apache:
            os.utime(checkout.folder / "wsgi.py")
        else:
            served.process.send_signal(signal.SIGHUP)

    def end(self, served: Served) -> None:
        """Stops it; asserts that it leaves no process."""
        assert served.end(self.stop, 20) == 0
        until(lambda: is_gone(served))

    def run(self, checkout: Checkout, port: int) -> tuple[int, str]:
        """Runs it to its end; returns its exit status and output."""
        command, environ = self.start(self, checkout, port, "")
        return run(command, cwd=Path("/"), user=self.user, environ={**ENVIRON, **environ})


def _gunicorn(host: Host, checkout: Checkout, port: int, path: str) -> tuple[list[str], dict[str, str]]:
    folder = checkout.folder
    command = [str(folder / ".venv/bin/gunicorn"), "-c", str(folder / "gunicorn.conf.py"), "wsgi:app"]
    options = ["--bind", f"127.0.0.1:{port}", *host.options]
    environ = {"GUNICORN_CMD_ARGS": " ".join(options), "EXPORTER_WORKERS": str(host.processes)}
    return command, {**environ, "SCRIPT_NAME": path} if path else environ


def _uwsgi(host: Host, checkout: Checkout, port: int, path: str) -> tuple[list[str], dict[str, str]]:
    values = {"folder": checkout.folder, "listen-on": f"127.0.0.1:{port}", "path": path}
    variables = [word for name, value in values.items() if value for word in ("--set", f"{name}={value}")]
    ini = str(checkout.deploy("uwsgi/patroni-staytus-exporter.ini"))
    return [path_of("uwsgi_python3"), *variables, "--ini", ini, "--processes", str(host.processes), *host.options], {}


def _apache(host: Host, checkout: Checkout, port: int, path: str) -> tuple[list[str], dict[str, str]]:
    folder = checkout.folder
    configuration = folder / f"httpd-{port}.conf"
    user = "nobody" if os.geteuid() == 0 else Path.home().owner()
    group = NOBODY if os.geteuid() == 0 else os.getgid()
    configuration.write_text(
        APACHE.format(folder=folder, port=port, user=user, group=group, modules="/usr/lib/apache2/modules")
    )
    listen = f"127.0.0.1:{port}"
    values = {"FOLDER": folder, "LISTEN": listen, "PATH": path, "USER": user, "PROCESSES": host.processes}
    defines = [word for name, value in values.items() if value for word in ("-C", f"Define EXPORTER_{name} {value}")]
    return [path_of("apache2"), "-D", "FOREGROUND", "-f", str(configuration), *defines, *host.options], {}


def _debian(command: str) -> tuple[pytest.MarkDecorator, ...]:
    reason = f"the packages of the tests do not fit {DEBIAN_PYTHON}, the Python of {command}"
    return needs(command), pytest.mark.skipif(not is_compatible(DEBIAN_PYTHON), reason=reason)


GUNICORN = Host("gunicorn", _gunicorn, "Booting worker", user=unprivileged().user)
UWSGI = Host(
    "uwsgi", _uwsgi, "spawned uWSGI worker", user=unprivileged().user, marks=_debian("uwsgi_python3"), loses_none=False
)
APACHE_HTTPD = Host("apache", _apache, "", stop=signal.SIGWINCH, marks=_debian("apache2"), ends=False)
#: As shipped, and as other ways to run several processes.
PRELOAD = replace(GUNICORN, name="gunicorn-preload", processes=2, options=("--preload",))
LAZY = replace(UWSGI, name="uwsgi-lazy", started="WSGI app 0", processes=2, options=("--lazy-apps",), ends=False)
SHIPPED = (GUNICORN, UWSGI, APACHE_HTTPD)
PAIRS = tuple(replace(host, name=f"{host.name}-2", processes=2) for host in SHIPPED)


def params(*hosts: Host) -> list[Any]:
    return [pytest.param(host, id=host.name, marks=host.marks) for host in hosts]


one_of_each = pytest.mark.parametrize("host", params(*SHIPPED))
each_host = pytest.mark.parametrize("host", params(*SHIPPED, PRELOAD, LAZY))
each_with_processes = pytest.mark.parametrize("host", params(*PAIRS, PRELOAD, LAZY))


def _catches_sigabrt(process: int) -> bool:
    """Whether a worker of gunicorn has its signal handlers; the master does not catch SIGABRT."""
    with contextlib.suppress(OSError):  # it has ended
        caught = re.findall(r"(?m)^SigCgt:\s+(\w+)$", Path(f"/proc/{process}/status").read_text())
        return bool(int(caught[0], 16) >> (signal.SIGABRT - 1) & 1)
    return True


def _ready(served: Served) -> int:
    """How many processes of mod_wsgi have loaded wsgi.py: only these have threads for requests."""
    ready = 0
    for child in served.workers():
        with contextlib.suppress(OSError):  # it has ended
            is_ours = Path(f"/proc/{child}/cmdline").read_bytes().startswith(b"(wsgi:")
            ready += is_ours and len(list(Path(f"/proc/{child}/task").iterdir())) > 64
    return ready


def settings(upstream: Upstream, **more: str) -> dict[str, str]:
    """The settings of both modules."""
    return {
        "PATRONI_EXPORTER_URL": f"{upstream.url}/patroni",
        "STAYTUS_API_URL": upstream.url,
        "STAYTUS_API_TOKEN": "t0ken",
        "STAYTUS_API_SECRET": "s3cret",
        **more,
    }


def is_gone(served: Served) -> bool:
    """Tells whether no process of its session is left."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(served.process.pid, 0)
        return False
    return True
