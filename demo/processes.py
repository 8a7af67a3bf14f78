"""Who the servers run as, which processes belong to a cluster's data folder, and how all of them end."""

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

MARK = "DEMO_FOLDER"
"""Environment variable by which a process says to which data folder it belongs."""


@dataclass(frozen=True)
class Account:
    """The user that Patroni and PostgreSQL run as; `user`, `group`, `extra_groups` are None when that is oneself."""

    name: str
    user: int | None = None
    group: int | None = None
    extra_groups: list[int] | None = None

    @classmethod
    def current(cls) -> Account:
        """PostgreSQL refuses root: for root this is `postgres` where there is one, else `nobody`; else oneself."""
        if os.geteuid() != 0:
            return cls(f"user {os.geteuid()}")
        for name in ("postgres", "nobody"):
            with contextlib.suppress(KeyError):
                entry = pwd.getpwnam(name)
                return cls(name, entry.pw_uid, entry.pw_gid, [])
        raise DemoError("PostgreSQL does not run as root, and there is neither a user postgres nor nobody")

    def own(self, path: Path) -> None:
        """Hand a file or folder over to this user."""
        if self.user is not None and self.group is not None:
            os.chown(path, self.user, self.group)

    def popen(self, argv: Sequence[str], **options: Any) -> subprocess.Popen[Any]:
        """Start a program as this user, in a session of its own so that Ctrl-C does not reach it."""
        return subprocess.Popen(
            argv, user=self.user, group=self.group, extra_groups=self.extra_groups, stdin=subprocess.DEVNULL,
            start_new_session=True, **options,
        )  # fmt: skip

    def run(self, argv: Sequence[str], seconds: float, env: Mapping[str, str] | None = None) -> tuple[int, str, str]:
        """Run a program to its end as this user, in `/`; gives exit status, standard output, standard error."""
        pipe = subprocess.PIPE
        with self.popen(argv, cwd="/", env=env, stdout=pipe, stderr=pipe, text=True) as process:
            try:
                out, err = process.communicate(timeout=seconds)
            except BaseException as error:
                send([process.pid, *descendants(process.pid)], signal.SIGKILL)
                if isinstance(error, subprocess.TimeoutExpired):
                    raise DemoError(f"{' '.join(argv)}: no end within {seconds:g} s") from None
                raise
        return process.returncode, out, err

    def can(self, *argv: str) -> bool:
        """Does this program start, and end with success, when this user runs it?"""
        try:
            return self.run(argv, 60)[0] == 0
        except OSError:
            return False


def send(pids: Iterable[int], sig: signal.Signals) -> None:
    """Send a signal to each process; those that have gone already are passed over."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, sig)


def first_answer(who: str, process: subprocess.Popen[Any], log: Path, ask: Callable[[], T], seconds: float = 30) -> T:
    """What `ask` gives when it first raises no OSError; DemoError, with the end of the log, where it never does."""
    deadline = time.monotonic() + seconds
    while process.poll() is None and time.monotonic() < deadline:
        with contextlib.suppress(OSError):
            return ask()
        time.sleep(0.1)
    why = "has ended" if process.poll() is not None else f"does not answer within {seconds:g} s"
    tail = "\n".join(log.read_text(errors="replace").splitlines()[-8:])
    raise DemoError(f"{who} {why}; the end of its log:\n{tail}")


def end(process: subprocess.Popen[Any]) -> None:
    """Wait for the end of a process that was told to end, and insist after 5 seconds."""
    try:
        process.wait(5)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _table() -> dict[int, tuple[int, str]]:
    """Every live process: its parent and the name of its program; zombies are left out."""
    table = {}
    for file in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            head, _, tail = file.read_text(errors="replace").rpartition(")")
            state, parent = tail.split()[:2]
            if state not in "ZX":
                table[int(file.parent.name)] = int(parent), head.partition("(")[2]
    return table


def descendants(pid: int, table: Mapping[int, tuple[int, str]] | None = None) -> list[int]:
    """The live children of a process, their children and so on, parents first."""
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
    """The command line is read first, as only that is open to root in a container without CAP_SYS_PTRACE."""
    argv = _read(pid, "cmdline")
    if argv and argv[0].startswith(bytes(programs) + b"/") and bytes(folder) + b"/" in b"\0".join(argv):
        return True
    return f"{MARK}={folder}".encode() in _read(pid, "environ")


def members(folder: Path, programs: Path) -> dict[int, str]:
    """The live processes of a data folder, pid to program name.

    They are those which run a program below `programs` with the folder in their command line, those marked in their
    environment, and the descendants of both: PostgreSQL's backends write over their own command line.
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


def end_all(folder: Path, programs: Path, patience: float = 5.0) -> None:
    """End every process of a data folder and remove the folder.

    PostgreSQL is asked for an immediate shutdown, which also gives back its shared memory; whatever else there is,
    and after `patience` seconds PostgreSQL too, is killed.
    """
    deadline = time.monotonic() + patience
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
    """Remove the System V segment of a PostgreSQL that was killed: the id is the second number of line 7."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        segment = int(pid_file.read_text().split("\n")[6].split()[1])
        ctypes.CDLL(None).shmctl(segment, 0, None)  # 0 is IPC_RMID
