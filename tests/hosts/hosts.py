"""The hosts of wsgi.py as real servers, each with the configuration in `deploy/` that users copy."""

import contextlib
import http.client
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import pytest

from tests.conftest import Upstream
from tests.live.installed import needs, path_of
from tests.live.processes import NOBODY, PACKAGES, ROOT, Served, run, serving, unprivileged, until

#: The Python that Debian's uWSGI and mod_wsgi have in them.
DEBIAN_PYTHON = "/usr/bin/python3"

#: What stands in `deploy/` for the folder of the checkout.
FOLDER = "/opt/patroni-staytus-exporter"

#: The user with the fewest rights, as far as who runs the tests can choose.
USER = "nobody" if os.geteuid() == 0 else Path.home().owner()

#: In the place of /etc/apache2/apache2.conf: what belongs to a whole Apache.
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


@dataclass(frozen=True)
class Place:
    """A checkout as a user has it, with its virtual environment, which the user with the fewest rights can read."""

    folder: Path

    def set(self, environ: Mapping[str, str]) -> None:
        """Writes the file `.env`."""
        env = self.folder / ".env"
        env.write_text("".join(f"{name}={value}\n" for name, value in environ.items()))
        env.chmod(0o644)

    def deployed(self, name: str) -> Path:
        """A file that users copy, unchanged."""
        return self.folder / "deploy" / name

    @property
    def least(self) -> dict[str, str]:
        """The environment of a host: the checkout finds its code and its `.env` without being told."""
        return {"PYTHONPATH": "", "EXPORTER_ENV_FILE": ""}


@contextlib.contextmanager
def checkout() -> Iterator[Place]:
    """Makes such a place; its virtual environment finds the packages of this Python."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for source in ("exporter", "deploy"):
            shutil.copytree(ROOT / source, folder / source, ignore=shutil.ignore_patterns("__pycache__"))
        for source in ("wsgi.py", "gunicorn.conf.py"):
            shutil.copy(ROOT / source, folder)
        python = DEBIAN_PYTHON if is_ours(DEBIAN_PYTHON) else unprivileged().python
        assert run([python, "-m", "venv", "--without-pip", str(folder / ".venv")], cwd=folder) == (0, "")
        (packages,) = folder.glob(".venv/lib/python3*/site-packages")
        (packages / "packages.pth").write_text(PACKAGES + "\n")
        gunicorn = folder / ".venv" / "bin" / "gunicorn"  # as pip makes it
        gunicorn.write_text(f"#!{folder}/.venv/bin/python\nfrom gunicorn.app.wsgiapp import run\nrun()\n")
        gunicorn.chmod(0o755)
        assert run(["chmod", "-R", "a+rX", name], cwd=folder) == (0, "")
        yield Place(folder)


@cache
def is_ours(python: str) -> bool:
    """Tells whether this Python can use the packages of the one that runs the tests."""
    code = "import sys; sys.exit(sys.version_info[:2] != " + repr(tuple(sys.version_info[:2])) + ")"
    with contextlib.suppress(OSError):
        return subprocess.run([python, "-c", code], check=False).returncode == 0
    return False


@dataclass(frozen=True)
class Host:
    """One way to host the exporter; `start` gives command and environment for a place, port, path and this host."""

    name: str
    start: Callable[["Host", Place, int, str], tuple[list[str], dict[str, str]]]
    #: What its log says of each process that has started; one that is told to end before that may hear nothing.
    said: str
    options: tuple[str, ...] = ()
    processes: int = 1
    stop: signal.Signals = signal.SIGTERM
    user: int | None = None
    marks: tuple[pytest.MarkDecorator, ...] = ()
    #: Whether the process ends where a setting is wrong, or stays and says so to whoever asks.
    ends: bool = True
    #: Whether a stop and a reload answer whoever asks; uWSGI with threads now and then cuts one off before 2.0.25.
    loses_none: bool = True

    @contextlib.contextmanager
    def serving(self, place: Place, port: int, path: str = "", environ: Mapping[str, str] = {}) -> Iterator[Served]:
        """Starts it on the loopback interface, and ends it if it is still there."""
        command, own = self.start(self, place, port, path)
        environ = {**place.least, **own, **environ}
        with serving(place.folder, port, command, cwd=Path("/"), user=self.user, environ=environ) as served:
            self.has_started(served)
            yield served

    def has_started(self, served: Served, times: int = 1) -> None:
        """Waits until all its processes are there, or for the second time after a reload."""
        if self.start is _apache:
            until(lambda: _ready(served) == self.processes)
        else:
            until(lambda: served.log.read_text().count(self.said) >= times * self.processes)

    def reload(self, place: Place, served: Served) -> None:
        """Lets it take changed settings: mod_wsgi looks at the time of wsgi.py with each request."""
        if self.start is _apache:
            os.utime(place.folder / "wsgi.py")
        else:
            served.process.send_signal(signal.SIGHUP)

    def run(self, place: Place, port: int) -> tuple[int, str]:
        """Starts it and waits for its end; returns its exit status and what it wrote."""
        command, environ = self.start(self, place, port, "")
        return run(command, cwd=Path("/"), user=self.user, environ={**place.least, **environ})


def _gunicorn(host: Host, place: Place, port: int, path: str) -> tuple[list[str], dict[str, str]]:
    command = [str(place.folder / ".venv/bin/gunicorn"), "-c", str(place.folder / "gunicorn.conf.py"), "wsgi:app"]
    bind = ["--bind", f"127.0.0.1:{port}", *host.options]
    environ = {"GUNICORN_CMD_ARGS": " ".join(bind), "EXPORTER_WORKERS": str(host.processes)}
    return command, {**environ, "SCRIPT_NAME": path} if path else environ


def _uwsgi(host: Host, place: Place, port: int, path: str) -> tuple[list[str], dict[str, str]]:
    values = {"folder": place.folder, "listen-on": f"127.0.0.1:{port}", "path": path}
    told = [word for name, value in values.items() if value for word in ("--set", f"{name}={value}")]
    ini = str(place.deployed("uwsgi/patroni-staytus-exporter.ini"))
    return [path_of("uwsgi_python3"), *told, "--ini", ini, "--processes", str(host.processes), *host.options], {}


def _apache(host: Host, place: Place, port: int, path: str) -> tuple[list[str], dict[str, str]]:
    configuration = place.folder / f"httpd-{port}.conf"
    group = NOBODY if os.geteuid() == 0 else os.getgid()
    configuration.write_text(
        APACHE.format(folder=place.folder, port=port, user=USER, group=group, modules="/usr/lib/apache2/modules")
    )
    values = {
        "FOLDER": place.folder,
        "LISTEN": f"127.0.0.1:{port}",
        "PATH": path,
        "USER": USER,
        "PROCESSES": host.processes,
    }
    defines = [word for name, value in values.items() if value for word in ("-C", f"Define EXPORTER_{name} {value}")]
    return [path_of("apache2"), "-D", "FOREGROUND", "-f", str(configuration), *defines, *host.options], {}


def _debian(command: str) -> tuple[pytest.MarkDecorator, ...]:
    reason = f"the packages of the tests are not for the Python of {command}, {DEBIAN_PYTHON}"
    return needs(command), pytest.mark.skipif(not is_ours(DEBIAN_PYTHON), reason=reason)


GUNICORN = Host("gunicorn", _gunicorn, "Booting worker", user=unprivileged().user)
UWSGI = Host(
    "uwsgi", _uwsgi, "spawned uWSGI worker", user=unprivileged().user, marks=_debian("uwsgi_python3"), loses_none=False
)
APACHE_HTTPD = Host("apache", _apache, "", stop=signal.SIGWINCH, marks=_debian("apache2"), ends=False)
HOSTS = (
    GUNICORN,
    replace(GUNICORN, name="gunicorn-4", processes=4),
    replace(GUNICORN, name="gunicorn-preload", processes=2, options=("--preload",)),
    UWSGI,
    replace(UWSGI, name="uwsgi-4", processes=4),
    replace(UWSGI, name="uwsgi-lazy", said="WSGI app 0", processes=2, options=("--lazy-apps",), ends=False),
    APACHE_HTTPD,
    replace(APACHE_HTTPD, name="apache-4", processes=4),
)


def on(*hosts: Host) -> pytest.MarkDecorator:
    """Runs a test on each of these hosts."""
    return pytest.mark.parametrize("host", [pytest.param(host, id=host.name, marks=host.marks) for host in hosts])


on_every_host = on(*HOSTS)
on_one_of_each = on(GUNICORN, UWSGI, APACHE_HTTPD)


def _ready(served: Served) -> int:
    """How many processes of mod_wsgi have loaded wsgi.py: then they start the threads that answer."""
    ready = 0
    for child in served.workers():
        with contextlib.suppress(OSError):  # gone meanwhile
            is_ours = Path(f"/proc/{child}/cmdline").read_bytes().startswith(b"(wsgi:")
            ready += is_ours and len(list(Path(f"/proc/{child}/task").iterdir())) > 64
    return ready


@dataclass(frozen=True)
class Page:
    """One answer."""

    status: int
    headers: http.client.HTTPMessage
    body: bytes


def ask(served: Served, path: str, method: str = "GET", **headers: str) -> Page:
    """Asks and returns what is answered, with its headers."""
    connection = http.client.HTTPConnection("127.0.0.1", served.port, timeout=20)
    try:
        connection.request(method, path, headers={name.replace("_", "-"): value for name, value in headers.items()})
        answer = connection.getresponse()
        return Page(answer.status, answer.headers, answer.read())
    finally:
        connection.close()


def settings(upstream: Upstream, **more: str) -> dict[str, str]:
    """The settings of both modules, at the same upstream."""
    return {
        "PATRONI_EXPORTER_URL": f"{upstream.url}/patroni",
        "STAYTUS_API_URL": upstream.url,
        "STAYTUS_API_TOKEN": "t0ken",
        "STAYTUS_API_SECRET": "s3cret",
        **more,
    }


def is_gone(served: Served) -> bool:
    """Tells whether of its session no process is left."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(served.process.pid, 0)
        return False
    return True
