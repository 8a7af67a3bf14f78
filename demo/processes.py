"""The user that runs the servers, and the processes of a cluster's data folder."""

from __future__ import annotations

import contextlib
import ctypes
import os
import pwd
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from demo import DemoError

T = TypeVar("T")

FOLDER_VARIABLE = "DEMO_FOLDER"
"""Environment variable with the data folder that a process belongs to."""


@dataclass(frozen=True)
class Account:
    """The user that Patroni and PostgreSQL run as; without `user` and `group`, the current user."""

    name: str
    user: int | None = None
    group: int | None = None
    extra_groups: list[int] | None = None

    @classmethod
    def current(cls) -> Account:
        """The current user; for root, which PostgreSQL refuses, `postgres` if it exists, else `nobody`."""
        if os.geteuid() != 0:
            return cls(f"user {os.geteuid()}")
        for name in ("postgres", "nobody"):
            with contextlib.suppress(KeyError):
                entry = pwd.getpwnam(name)
                return cls(name, entry.pw_uid, entry.pw_gid, [])
        raise DemoError("PostgreSQL does not run as root, and there is no user postgres or nobody")

    def own(self, path: Path) -> None:
        """Change the owner of a file or folder to this user."""
        if self.user is not None and self.group is not None:
            os.chown(path, self.user, self.group)

    def popen(self, argv: Sequence[str], **options: Any) -> subprocess.Popen[Any]:
        """Start a program as this user, in a new session so that Ctrl-C does not reach it."""
        return subprocess.Popen(
            argv, user=self.user, group=self.group, extra_groups=self.extra_groups, stdin=subprocess.DEVNULL,
            start_new_session=True, **options,
        )  # fmt: skip

    def run(self, argv: Sequence[str], seconds: float, env: Mapping[str, str] | None = None) -> tuple[int, str, str]:
        """Run a program as this user in `/`; returns exit status, standard output and standard error."""
        pipe = subprocess.PIPE
        with self.popen(argv, cwd="/", env=env, stdout=pipe, stderr=pipe, text=True) as process:
            try:
                out, err = process.communicate(timeout=seconds)
            except BaseException as error:
                send([process.pid, *descendants(process.pid)], signal.SIGKILL)
                if isinstance(error, subprocess.TimeoutExpired):
                    raise DemoError(f"{' '.join(argv)}: timed out after {seconds:g} s") from None
                raise
        return process.returncode, out, err

    def can(self, *argv: str) -> bool:
        """Whether this user can run the program with exit status 0."""
        try:
            return self.run(argv, 60)[0] == 0
        except OSError:
            return False


def send(pids: Iterable[int], sig: signal.Signals) -> None:
    """Send a signal to each process that is still running."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, sig)


def first_response(
    name: str, process: subprocess.Popen[Any], log: Path, request: Callable[[], T], seconds: float = 30
) -> T:
    """Call `request` until it raises no OSError and return its result; DemoError with the last log lines otherwise."""
    deadline = time.monotonic() + seconds
    while process.poll() is None and time.monotonic() < deadline:
        with contextlib.suppress(OSError):
            return request()
        time.sleep(0.1)
    reason = "has exited" if process.poll() is not None else f"does not respond within {seconds:g} s"
    tail = "\n".join(log.read_text(errors="replace").splitlines()[-8:])
    raise DemoError(f"{name} {reason}; its last log lines:\n{tail}")


def end(process: subprocess.Popen[Any]) -> None:
    """Wait for a process that got SIGTERM, and kill it after 5 seconds."""
    try:
        process.wait(5)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _table() -> dict[int, tuple[int, str]]:
    """The parent and the program name of each live process, without zombies."""
    table = {}
    for file in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            head, _, tail = file.read_text(errors="replace").rpartition(")")
            state, parent = tail.split()[:2]
            if state not in "ZX":
                table[int(file.parent.name)] = int(parent), head.partition("(")[2]
    return table


def descendants(pid: int, table: Mapping[int, tuple[int, str]] | None = None) -> list[int]:
    """The live descendants of a process, parents first."""
    table = _table() if table is None else table
    found = [pid]
    for parent in found:
        found.extend(child for child, (above, _) in table.items() if above == parent and child not in found)
    return found[1:]


def _read(pid: int, name: str) -> list[bytes]:
    try:
        return Path(f"/proc/{pid}/{name}").read_bytes().split(b"\0")
    except OSError:
        return []


def _is_member(pid: int, folder: Path, programs: Path) -> bool:
    """Read the command line first: root in a container without CAP_SYS_PTRACE cannot read the environment."""
    argv = _read(pid, "cmdline")
    if argv and argv[0].startswith(bytes(programs) + b"/") and bytes(folder) + b"/" in b"\0".join(argv):
        return True
    return f"{FOLDER_VARIABLE}={folder}".encode() in _read(pid, "environ")


def members(folder: Path, programs: Path) -> dict[int, str]:
    """The live processes of a data folder: process id to program name.

    A process belongs to the folder if it runs a program below `programs` with the folder in its command line, if its
    environment has FOLDER_VARIABLE, or if its ancestor does: PostgreSQL's backends overwrite their command line.
    """
    table = _table()
    roots = [pid for pid in table if pid != os.getpid() and _is_member(pid, folder, programs)]
    pids = {pid for root in roots for pid in (root, *descendants(root, table))} - {os.getpid()}
    return {pid: table[pid][1] for pid in pids}


def postmaster(data: Path, programs: Path) -> int | None:
    """The process id of the PostgreSQL server on this data directory, if it is alive and ours."""
    try:
        pid = int((data / "postmaster.pid").read_text().split("\n")[0])
    except (OSError, ValueError):
        return None
    return pid if _is_member(pid, data.parent, programs) else None


def end_all(folder: Path, programs: Path, timeout: float = 5.0) -> None:
    """End every process of a data folder and remove the folder.

    PostgreSQL gets SIGQUIT, an immediate shutdown, which also frees its shared memory. Other processes, and after
    `timeout` seconds PostgreSQL too, get SIGKILL.
    """
    deadline = time.monotonic() + timeout
    while pids := members(folder, programs):
        servers = [] if time.monotonic() > deadline else [pid for pid, name in pids.items() if name == "postgres"]
        send(set(pids) - set(servers), signal.SIGKILL)
        send(servers, signal.SIGQUIT)
        send(servers, signal.SIGCONT)
        time.sleep(0.05)
    for file in folder.glob("*/data/postmaster.pid"):
        _free_shared_memory(file)
    shutil.rmtree(folder, ignore_errors=True)


def _free_shared_memory(pid_file: Path) -> None:
    """Remove the System V shared memory of a killed PostgreSQL; its id is the second number of line 7."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        segment = int(pid_file.read_text().split("\n")[6].split()[1])
        ctypes.CDLL(None).shmctl(segment, 0, None)  # 0 is IPC_RMID
