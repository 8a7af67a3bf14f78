"""`python -m tests.fresh` runs the commands of the README on minimal Debian systems. Requires root and debootstrap.

Each system is made in a temporary folder, with a clone of the last commit and this machine's settings of apt, pip and
certificates. Its processes have their own mounts, process ids and shared memory, so that they leave nothing; they share
the network. The output of each step is a log in build/fresh.
"""

import argparse
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO

ROOT = Path(__file__).parents[1]
CLONE = "root/patroni-staytus-exporter"
LOGS = Path("build/fresh")

#: What README requires before its commands.
PACKAGES = ["ca-certificates", "make", "python3-venv"]

#: The lines of a log that say what failed: those of pytest, ruff, mypy and make.
FAILURES = re.compile(r"(?m)^(?:FAILED |ERROR:? |E: |\S+:\d+: error: |make(?:\[\d+\])?: \*\*\* ).*$")

#: Settings of this machine that apt, pip and programs in the system need.
FILES = ["/etc/resolv.conf", "/etc/hosts", "/etc/pip.conf", "/etc/apt/apt.conf.d", "/usr/local/share/ca-certificates"]
VARIABLES = [
    *("http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY"),
    *("PIP_INDEX_URL", "PIP_PROXY", "PIP_CERT", "PIP_DEFAULT_TIMEOUT", "SSL_CERT_FILE", "CI"),
]

MOUNTS = """\
mount -t proc proc "$0/proc"
mount --rbind /dev "$0/dev"
mount -t tmpfs tmpfs "$0/dev/shm"
chroot "$0" /bin/sh -c "$1" || exit $?
"""

INSTALL_WHEEL = """\
apt-get update -qq && apt-get install -qq --no-install-recommends pipx >/dev/null &&
make dist >/dev/null && pipx install dist/*.whl && cd / && export PATH="$PATH:/root/.local/bin" &&
patroni-staytus-exporter --version && patroni-staytus-exporter files /root/exporter &&
patroni-staytus-exporter --config.file /root/exporter/deploy/modules.yml check
"""


class FreshError(Exception):
    """A command failed or cannot run."""


@dataclass(frozen=True)
class System:
    """A Debian system in a folder."""

    folder: Path

    def make(self, log: IO[str]) -> None:
        """Makes the system if it does not exist."""
        if (self.folder / ".made").exists():
            log.write(f"{self.folder} exists\n")
            return
        command = ["debootstrap", "--variant=minbase", f"--include={','.join(PACKAGES)}", self.folder.name]
        line = [*command, str(self.folder), mirror()]
        if status := subprocess.run(line, check=False, stdout=log, stderr=subprocess.STDOUT).returncode:
            raise FreshError(f"debootstrap: exit status {status}")
        for name in FILES:
            copy(Path(name), self.folder / name.lstrip("/"))
        self.run(log, "update-ca-certificates", 60)
        (self.folder / ".made").touch()

    def clone(self) -> None:
        """Replaces the clone with a new one."""
        shutil.rmtree(self.folder / CLONE, ignore_errors=True)
        subprocess.run(["git", "clone", "--quiet", str(ROOT), str(self.folder / CLONE)], check=True)

    def run(self, log: IO[str], command: str, seconds: float, until: str = "") -> None:
        """Runs a command in the clone. With `until`, presses Ctrl-C when a line contains this text."""
        script = f"cd /{CLONE} 2>/dev/null; {command}"
        own = ["unshare", "--mount", "--pid", "--ipc", "--fork", "--kill-child"]
        process = subprocess.Popen(
            [*own, "sh", "-ec", MOUNTS, self.folder, script],
            env=environ(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,
        )
        assert process.stdout is not None
        signal.alarm(int(seconds))
        try:
            seen = not until
            for line in process.stdout:
                log.write(line)
                if until and not seen and until in line:
                    seen = True
                    interrupt(process.pid)
            status = process.wait()
        except TimeoutError:
            raise FreshError(f"not finished after {seconds:.0f} s") from None
        finally:
            signal.alarm(0)
            process.kill()
            process.wait()
        if not seen:
            raise FreshError(f"no line has {until!r}")
        if status and not until:
            raise FreshError(f"exit status {status}")


def copy(source: Path, target: Path) -> None:
    """Copies a file or a folder if it exists."""
    if source.is_dir():
        shutil.copytree(source, target, dirs_exist_ok=True)
    elif source.exists():
        shutil.copy(source, target)


def mirror() -> str:
    """The first package archive of this machine."""
    command = ["apt-get", "indextargets", "--format", "$(REPO_URI)", "Identifier: Packages"]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.split("\n")[0]


def environ() -> dict[str, str]:
    """The environment of root after a login."""
    path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    own = {name: os.environ[name] for name in VARIABLES if name in os.environ}
    return {"HOME": "/root", "USER": "root", "LANG": "C.UTF-8", "PATH": path, **own}


def interrupt(unshare: int) -> None:
    """Sends SIGINT to all processes of the system, as Ctrl-C does."""
    inside = subprocess.run(["pgrep", "--session", str(unshare)], check=True, capture_output=True, text=True)
    for process in map(int, inside.stdout.split()):
        if process != unshare:
            os.kill(process, signal.SIGINT)


Step = Callable[[System, IO[str]], None]

STEPS: dict[str, Step] = {
    "demo": lambda system, log: system.run(log, "make demo", 900, until="Ctrl-C"),
    "wheel": lambda system, log: system.run(log, INSTALL_WHEEL, 900),
    "test": lambda system, log: system.run(log, "make test", 7200),
}


def main() -> int:
    """Runs the steps on each release; returns 1 if one failed, 2 if they cannot run."""
    parser = argparse.ArgumentParser(prog="python -m tests.fresh", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--release", action="append", help="a release of Debian; default: bookworm and trixie")
    parser.add_argument("--only", action="append", choices=STEPS, help="one of the steps; default: all")
    parser.add_argument("--tests", metavar="PATHS", help="run only these tests, with pytest")
    parser.add_argument("--folder", type=Path, help="keep the systems in this folder, and use them again")
    given = parser.parse_args()
    missing = [program for program in ("debootstrap", "unshare", "git", "pgrep") if shutil.which(program) is None]
    if os.geteuid() != 0 or missing:
        print(f"make fresh requires root{' and ' * bool(missing)}{', '.join(missing)}", file=sys.stderr)
        return 2
    signal.signal(signal.SIGALRM, _time_is_over)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell starts background processes that ignore it
    steps = {name: STEPS[name] for name in given.only or STEPS}
    if given.tests:
        command = f"make .venv/.ready .venv/.servers && .venv/bin/python -m pytest {given.tests}"
        steps = {"tests": lambda system, log: system.run(log, command, 7200)}
    failed: list[str] = []
    try:
        with tempfile.TemporaryDirectory(prefix="fresh-") as temporary:
            for release in given.release or ["bookworm", "trixie"]:
                run_steps(System((given.folder or Path(temporary)).absolute() / release), steps, failed)
    except KeyboardInterrupt:
        failed.append("interrupted")
    print("\n".join(["", *failed] if failed else ["passed"]))
    return bool(failed)


def run_steps(system: System, steps: dict[str, Step], failed: list[str]) -> None:
    """Makes the system and runs the steps, each with a line of output; adds what failed."""
    for name, step in {"system": System.make, **steps}.items():
        path = LOGS / f"{system.folder.name}-{name}.log"
        (ROOT / path).parent.mkdir(parents=True, exist_ok=True)
        print(f"{system.folder.name:9} {name:7}", end="", flush=True)
        start = time.monotonic()
        error = ""
        with (ROOT / path).open("w", buffering=1) as log:
            try:
                if name != "system":
                    system.clone()
                step(system, log)
            except FreshError as raised:
                error = str(raised)
        counts = re.findall(r"(?m)^=* ?(\d+ (?:passed|failed).*) in [\d.]+s", text := (ROOT / path).read_text())
        print(f"{'failed' if error else 'passed'} {time.monotonic() - start:5.0f} s  {'  '.join([*counts, str(path)])}")
        if error:
            lines = FAILURES.findall(text) or text.splitlines()[-10:]
            failed += [f"{system.folder.name} {name}: {error}; {path}:", *(f"    {line}" for line in lines)]
            if name == "system":
                return


def _time_is_over(*_: object) -> None:
    raise TimeoutError


if __name__ == "__main__":
    sys.exit(main())
