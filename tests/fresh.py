"""`python -m tests.fresh` runs the commands of the README on minimal Debian systems. Requires root and debootstrap.

Each system is made in a temporary folder, with a clone of the last commit and this machine's settings of apt, pip and
certificates. Its processes have their own mounts, process ids and shared memory, so that they leave nothing; they share
the network.
"""

import argparse
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
CLONE = "root/patroni-staytus-exporter"

#: What README requires before its commands.
PACKAGES = ["ca-certificates", "make", "python3-venv"]

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

    @classmethod
    def make(cls, folder: Path, release: str) -> "System":
        """Makes the system, or returns the one in the folder with a new clone."""
        system = cls(folder)
        if not (folder / ".made").exists():
            included = ",".join(PACKAGES)
            bootstrap = ["debootstrap", "--variant=minbase", f"--include={included}", release, str(folder), mirror()]
            output = subprocess.run(bootstrap, check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
            if output.returncode:
                raise FreshError(f"debootstrap failed: {output.stdout.strip().splitlines()[-1]}")
            for name in FILES:
                copy(Path(name), folder / name.lstrip("/"))
            system.run("update-ca-certificates", 60)
            (folder / ".made").touch()
        shutil.rmtree(folder / CLONE, ignore_errors=True)
        subprocess.run(["git", "clone", "--quiet", str(ROOT), str(folder / CLONE)], check=True)
        return system

    def run(self, command: str, seconds: float, until: str = "") -> None:
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
                print(line, end="", flush=True)
                if until and not seen and until in line:
                    seen = True
                    interrupt(process.pid)
            status = process.wait()
        except TimeoutError:
            raise FreshError(f"{command}: not finished after {seconds:.0f} s") from None
        finally:
            signal.alarm(0)
            process.kill()
            process.wait()
        if not seen:
            raise FreshError(f"{command}: its output has no line with {until!r}")
        if status and not until:
            raise FreshError(f"{command}: exit status {status}")


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


STEPS: dict[str, Callable[[System], None]] = {
    "demo": lambda system: system.run("make demo", 900, until="Ctrl-C"),
    "wheel": lambda system: system.run(INSTALL_WHEEL, 900),
    "test": lambda system: system.run("make test", 7200),
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
        steps = {"tests": lambda system: system.run(command, 7200)}
    with tempfile.TemporaryDirectory(prefix="fresh-") as temporary:
        results = [
            run_step(release, name, step, given.folder or Path(temporary))
            for release in given.release or ["bookworm", "trixie"]
            for name, step in steps.items()
        ]
    print("\n".join(["", *(line for line, _ in results)]))
    return 0 if all(passed for _, passed in results) else 1


def run_step(release: str, name: str, step: Callable[[System], None], folder: Path) -> tuple[str, bool]:
    """Runs a step; returns a line of the summary and whether the step passed."""
    print(f"== {release}: {name}", flush=True)
    start = time.monotonic()
    result = "passed"
    try:
        step(System.make(folder.absolute() / release, release))
    except FreshError as error:
        result = f"failed: {error}"
    return f"{release} {name}: {result} ({time.monotonic() - start:.0f} s)", result == "passed"


def _time_is_over(*_: object) -> None:
    raise TimeoutError


if __name__ == "__main__":
    sys.exit(main())
