"""The demo: its output, its end, and that it leaves no file and no process."""

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.request import ProxyHandler, build_opener

import pytest

from tests.live.cluster import eventually
from tests.live.installed import needs, path_of
from tests.live.processes import ROOT, until

SHOWN = """\
node role Patroni REST exporter
n1 {n1} http://127.0.0.1:N/patroni http://127.0.0.1:N/metrics
n2 {n2} http://127.0.0.1:N/patroni http://127.0.0.1:N/metrics
n3 {n3} http://127.0.0.1:N/patroni http://127.0.0.1:N/metrics

first scrape of n1:
 patroni_{own[n1]}{{name="n1",scope="demo"}} 1.0
 patroni_up 1.0

first scrape of n2:
 patroni_{own[n2]}{{name="n2",scope="demo"}} 1.0
 patroni_up 1.0

first scrape of n3:
 patroni_{own[n3]}{{name="n3",scope="demo"}} 1.0
 patroni_up 1.0

Staytus (a fake), the same from each exporter:
 service_status{{service_permalink="web-application",service_status="ok"}} 1.0
 service_status{{service_permalink="api",service_status="minor"}} 1.0
 service_status{{service_permalink="public-website",service_status="major"}} 1.0
 service_status{{service_permalink="customer-support",service_status="maintenance"}} 1.0
"""

URLS = """
URLs:
 landing page of n1 http://127.0.0.1:N/
 landing page of n2 http://127.0.0.1:N/
 landing page of n3 http://127.0.0.1:N/
 alerts {alerts}
 dashboards import the files in monitoring/grafana into Grafana
 Staytus (a fake) curl -H 'X-Auth-Token: demo-token' -H 'X-Auth-Secret: demo-secret' \
http://127.0.0.1:N/api/v1/services/all

logs:
 FOLDER/n1/patroni.log
 FOLDER/n2/patroni.log
 FOLDER/n3/patroni.log
 FOLDER/exporter-n1.log
 FOLDER/exporter-n2.log
 FOLDER/exporter-n3.log
"""
FAULTS = """\
 FOLDER/prometheus/prometheus.log

try, in another terminal; nothing is started again:
 kill -9 PID # Patroni of {leader}, the leader: expect PatroniSplitBrainPossible in N min, PatroniFailover in N min
 kill -9 PID # Patroni of {replica}, a replica: expect PatroniUnreachable in N min
 kill PID # the exporter of {other}: expect ExporterDown in N min
"""
END = "\npress Ctrl-C to stop everything\n"

RUNNING = "press Ctrl-C to stop everything\n"


class Folder:
    """A folder for all files of a demo; its name is in every process of the demo."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def files(self) -> list[str]:
        return [path.name for path in self.path.iterdir()]

    @property
    def processes(self) -> dict[int, str]:
        """The command lines of the processes with the folder in it, in the environment or as working directory."""
        found = {}
        for entry in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):  # it has ended, or belongs to another user
                texts = [(entry / name).read_bytes() for name in ("cmdline", "environ")]
                if any(bytes(self.path) in text for text in (*texts, bytes((entry / "cwd").readlink()))):
                    found[int(entry.name)] = texts[0].replace(b"\0", b" ").decode()
        return found


@pytest.fixture
def folder() -> Iterator[Folder]:
    """Not a folder of pytest, which the user of PostgreSQL cannot read."""
    with tempfile.TemporaryDirectory(prefix="test-demo-", dir="/tmp") as path:
        Path(path).chmod(0o755)
        folder = Folder(Path(path))
        yield folder
        with suppress(AssertionError):  # a killed demo ends too
            until(lambda: not folder.processes)
        for pid in folder.processes:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


@contextmanager
def demo(folder: Folder, *arguments: str, **environ: str) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        [sys.executable, "-m", "demo", *arguments],
        cwd=ROOT,
        env={**os.environ, "TMPDIR": str(folder.path), **environ},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def read(process: subprocess.Popen[str], last: str | None = None) -> str:
    """The output up to this line, or all of it."""
    assert process.stdout is not None
    lines = [""]
    while lines[-1] != last and (line := process.stdout.readline()):
        lines.append(line)
    return "".join(lines)


def get(url: str) -> str:
    with build_opener(ProxyHandler({})).open(url, timeout=10) as response:
        return str(response.read().decode())


def shown(output: str) -> str:
    """The overview in the output, without ports, columns, folders, process ids and durations."""
    text = re.sub(r":\d+", ":N", output[output.index("node  ") :])
    text = re.sub(r"/.*/patroni-demo-\w+/", "FOLDER/", text)
    text = re.sub(r"in about [\d.]+ min", "in N min", re.sub(r"(kill(?: -9)?) \d+", r"\1 PID", text))
    return re.sub(r" +", " ", text)


def expected(text: str) -> str:
    """The overview for the leader in this text."""
    leaders = re.findall(r"^(n\d) leader ", text, re.MULTILINE)
    assert len(leaders) == 1, text
    nodes = ("n1", "n2", "n3")
    roles = {node: "leader" if node in leaders else "replica" for node in nodes}
    own = {node: "primary" if node in leaders else "replica" for node in nodes}
    return SHOWN.format(**roles, own=own)


def test_once(folder: Folder) -> None:
    with demo(folder, "--once") as process:
        output = read(process)
        assert process.wait(10) == 0, output
    assert (folder.processes, folder.files) == ({}, [])
    text = shown(output)
    assert text == expected(text) + "everything is stopped\n"


@needs("prometheus", "curl")
def test_prometheus_with_the_rules(folder: Folder) -> None:
    with demo(folder) as process:
        output = read(process, RUNNING)
        text = shown(output).replace("/classic/alerts", "/alerts")
        alerts = "http://127.0.0.1:N/alerts (see RUNBOOK.md; those of Staytus fire from the start)"
        (leader,) = re.findall(r"^(n\d) leader ", text, re.MULTILINE)
        replica, other = sorted({"n1", "n2", "n3"} - {leader})
        faults = FAULTS.format(leader=leader, replica=replica, other=other)
        assert text == expected(text) + URLS.format(alerts=alerts) + faults + END
        assert [name.startswith("patroni-demo-") for name in folder.files] == [True]
        commands = "".join(folder.processes.values())
        assert [commands.count(f"{file}/patroni.yml") for file in ("n1", "n2", "n3")] == [1, 1, 1]
        assert commands.count(" -m exporter ") >= 3
        assert commands.count("/prometheus.yml ") == 1
        pages = {url: get(url) for url in re.findall(r"http://\S+", output)}  # raises unless it is 200
        assert sum("<h1>Patroni and Staytus exporter</h1>" in page for page in pages.values()) == 3
        (alerts,) = (url for url in pages if url.endswith("/alerts"))
        (curl,) = re.findall(r"curl .*", output)
        services = json.loads(subprocess.check_output([path_of("curl"), "-s", *shlex.split(curl)[1:]]))
        assert services["status"] == "success"
        killed = [folder.processes[int(pid)].strip() for pid in re.findall(r"kill (?:-9 )?(\d+)", output)]
        assert [command.rpartition("/")[0][-2:] for command in killed[:2]] == [leader, replica]
        (url,) = re.findall(rf"^{other} .* (http://\S+)/patroni ", output, re.MULTILINE)
        assert killed[2].endswith(f"--patroni-url {url}/patroni")
        logs = re.findall(r"^  (/.*\.log)$", output, re.MULTILINE)
        assert [Path(log).is_file() for log in logs] == [True] * 7

        def values(query: str) -> list[tuple[dict[str, str], str]]:
            url = alerts.removesuffix("/alerts").removesuffix("/classic") + f"/api/v1/query?query={query}"
            rows = json.loads(get(url))["data"]["result"]
            return sorted(((row["metric"], row["value"][1]) for row in rows), key=str)

        running = [({"name": name}, "1") for name in ("n1", "n2", "n3")]
        eventually(lambda: values("max+by+(name)+(patroni_postgres_running)"), running)
        eventually(lambda: values("sum(patroni:member_up)"), [({}, "3")])
        process.kill()  # and it leaves nothing
    until(lambda: (folder.processes, folder.files) == ({}, []))


def test_without_prometheus(folder: Folder) -> None:
    programs = folder.path / "bin"
    programs.mkdir(0o755)
    (programs / "test").symlink_to(path_of("test"))
    with demo(folder, PATH=str(programs)) as process:
        text = shown(read(process, RUNNING))
        alerts = "none: Prometheus is not installed (no `prometheus` on PATH)"
        assert text == expected(text) + URLS.format(alerts=alerts) + END
        process.send_signal(signal.SIGINT)
        assert read(process) == "\nstopping everything\neverything is stopped\n"
        assert process.wait(20) == 0
    assert (folder.processes, folder.files) == ({}, ["bin"])
