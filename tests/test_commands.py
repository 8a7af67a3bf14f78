"""The commands: their output and exit status."""

import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from exporter.collectors import COLLECTORS
from exporter.version import __version__
from tests.config.test_settings import KEY_OPTIONS, KEYS
from tests.conftest import Upstream
from tests.limits.scrapes import RECORDED
from tests.live.processes import MODULE, ROOT, run
from tests.recorded import staytus
from tests.test_main import PROGRAM


def serve(upstream: Upstream) -> dict[str, str]:
    """Serves the documents of Patroni and Staytus; returns the settings of Staytus."""
    upstream.serve(RECORDED)
    return {"STAYTUS_API_URL": upstream.url.replace("://", "://us3r:p4ss@"), **KEYS}


def command(*arguments: str, environ: Mapping[str, str] = {}, cwd: Path = ROOT) -> tuple[int, str]:
    """The exit status and the output of the program, without durations."""
    status, output = run((*MODULE, *arguments), cwd=cwd, environ=environ)
    return status, re.sub(r"\d+\.\d{3} s", "0 s", output)


def test_version() -> None:
    assert command("--version") == (0, f"{PROGRAM} {__version__}\n")


def test_check(upstream: Upstream) -> None:
    url = f"{upstream.url}/patroni".replace("://", "://us3r:p4ss@")
    arguments = ["--port", "9548", "--patroni-url", url, "--timeout", "4", "--debug", "check"]  # as with docker run
    result = command(*arguments, environ=serve(upstream))
    absent = [f"{name} = (none)  (default)\n" for name in KEY_OPTIONS]
    patroni_keys, staytus_keys = "".join(absent[:6]), "".join(absent[6:])
    expected = f"""\
PATRONI_EXPORTER_PORT = 9548  (argument)
PATRONI_EXPORTER_BIND =   (default)
PATRONI_EXPORTER_ADDRESS_FAMILY = AF_INET  (default)
PATRONI_EXPORTER_DEBUG = true  (argument)
PATRONI_EXPORTER_URL = {upstream.url}/patroni  (argument)
PATRONI_EXPORTER_TIMEOUT = 4.0  (argument)
PATRONI_EXPORTER_REQUEST_VERIFY = true  (default)
PATRONI_EXPORTER_COLLECT = node,cluster,history,config,failsafe  (default)
{patroni_keys}PATRONI_EXPORTER_COMPAT_METRICS = true  (default)
STAYTUS_API_URL = {upstream.url}  (environment)
STAYTUS_API_TOKEN = ********  (environment)
STAYTUS_API_SECRET = ********  (environment)
POLLING_INTERVAL_SECONDS = 2.0  (default)
STAYTUS_TIMEOUT = 5.0  (default)
STAYTUS_REQUEST_VERIFY = true  (default)
STAYTUS_COLLECT = services,issues  (default)
{staytus_keys}EXPORTER_PORT = 9877  (default)
DEBUG = false  (default)
EXPORTER_LOG_LEVEL = info  (default)
EXPORTER_LOG_FORMAT = logfmt  (default)
EXPORTER_WEB_CONFIG_FILE = (none)  (default)
EXPORTER_WEB_OPEN_HEALTH = false  (default)
EXPORTER_WORKERS = 1  (default)
EXPORTER_THREADS = 1024  (default)
EXPORTER_PROBES = 1000  (default)
EXPORTER_CONFIG_FILE = (none)  (default)
EXPORTER_WEB_ENABLE_LIFECYCLE = false  (default)
EXPORTER_ENV_FILE = /dev/null  (environment, read)
listens on 0.0.0.0:9548
patroni node: {upstream.url}/patroni: answers (0 s)
patroni cluster: {upstream.url}/cluster: answers (0 s)
patroni history: {upstream.url}/history: answers (0 s)
patroni config: {upstream.url}/config: answers (0 s)
patroni failsafe: {upstream.url}/failsafe: answers (0 s)
staytus services: {upstream.url}/api/v1/services/all: answers (0 s)
staytus issues: {upstream.url}/api/v1/issues/all: answers (0 s)
"""
    assert result == (0, expected)


def test_check_with_env_file_and_failure(upstream: Upstream, tmp_path: Path) -> None:
    checkout = tmp_path / "checkout"
    shutil.copytree(ROOT / "exporter", checkout / "exporter")
    (checkout / ".env").write_text(
        "PATRONI_EXPORTER_URL=http://us3r:p4ss@127.0.0.1:1/patroni\nSTAYTUS_API_TOKEN=other\np4ss\nEXPORTER_PORTS=1\n"
    )
    (tmp_path / ".env").write_text("PATRONI_EXPORTER_TIMEOUT=of-the-working-folder\n")
    environ = {**serve(upstream), "EXPORTER_ENV_FILE": "", "STATUS_API_SECRET": "s3cret", "PYTHONPATH": str(checkout)}
    status, text = command("check", environ=environ, cwd=tmp_path)
    some = "".join(re.findall(r".*(?:_URL|_TOKEN|ENV_FILE|warning|/patroni|/services).*\n", text))
    expected = (
        f"PATRONI_EXPORTER_URL = http://127.0.0.1:1/patroni  ({checkout}/.env)\n"
        f"STAYTUS_API_URL = {upstream.url}  (environment)\n"
        "STAYTUS_API_TOKEN = ********  (environment)\n"
        f"EXPORTER_ENV_FILE = {checkout}/.env  (default, read)\n"
        f"warning: {checkout}/.env:3: expected a line of the form NAME=value\n"
        "warning: environment: STATUS_API_SECRET is not a setting; did you mean STAYTUS_API_SECRET?\n"
        f"warning: {checkout}/.env: EXPORTER_PORTS is not a setting; did you mean EXPORTER_PORT?\n"
        "patroni node: http://127.0.0.1:1/patroni: no connection: connection refused (0 s)\n"
        f"staytus services: {upstream.url}/api/v1/services/all: answers (0 s)\n"
    )
    assert (status, some) == (1, expected)
    assert re.findall("us3r|p4ss|t0ken|s3cret|other", text) == []


def test_check_of_a_modules_file(tmp_path: Path) -> None:
    file = tmp_path / "modules.yml"
    shutil.copy(ROOT / "tests" / "modules.yml", file)
    status, text = command("--config.file", str(file), "check")
    assert status == 0
    assert text.splitlines()[-4:] == [
        "listens on 0.0.0.0:9547",
        f"{file}: module db.prod: patroni, cluster,node",
        f"{file}: module status: staytus, services,issues",
        f"{file}: no target was checked: use check --module NAME --target HOST",
    ]
    file.write_text(file.read_text().replace("timeout", "tiemout"))
    status, text = command("--config.file", str(file), "check")
    assert (status, text.count("\n")) == (2, 1)
    assert text.startswith(f"{PROGRAM}: {file}:6: modules.db.prod.tiemout: unknown key; expected collector, ")


def test_check_of_targets(upstream: Upstream, tmp_path: Path) -> None:
    file = tmp_path / "modules.yml"
    file.write_text("modules: {db: {collector: patroni, collect: [node, cluster], targets: [127.0.0.1]}}")
    environ = {"EXPORTER_CONFIG_FILE": str(file)}
    serve(upstream)
    host = upstream.url.removeprefix("http://")
    status, text = command("check", "--target", host, environ=environ)
    up = [f"db node: {upstream.url}/patroni: answers (0 s)", f"db cluster: {upstream.url}/cluster: answers (0 s)"]
    assert (status, text.splitlines()[-3:]) == (0, [f"{file}: module db: patroni, node,cluster", *up])
    status, text = command("--target", host, "--module=db", "--target=127.0.0.1:1", "check", environ=environ)
    refused = "no connection: connection refused (0 s)"
    down = [f"db node: http://127.0.0.1:1/patroni: {refused}", f"db cluster: http://127.0.0.1:1/cluster: {refused}"]
    assert (status, text.splitlines()[-4:]) == (1, up + down)


def test_check_of_a_wrong_path(upstream: Upstream) -> None:
    """Patroni responds to an unknown path with the JSON of /patroni, and with 200 to one with the name of a check."""
    for path, status in (("patron", 503), ("health", 200)):
        answer = (status, RECORDED["/patroni"].body)
        upstream.answers.update({f"/{path}/{each.path}": answer for each in COLLECTORS["patroni"]})
        status, text = command("-u", f"{upstream.url}/{path}", "check")
        assert (status, text.splitlines()[-2:]) == (1, [
            f"patroni node: {upstream.url}/{path}/patroni: answers (0 s)",
            f"patroni: {upstream.url}/{path}: not a path of Patroni's REST API: "
            "expected a URL such as http://localhost:8008/patroni",
        ])  # fmt: skip


def test_output_that_is_not_read() -> None:
    """As with `check | head`."""
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "wb") as output:
        done = subprocess.run(
            [*MODULE, "--patroni-url", "http://127.0.0.1:1", "check"],
            cwd=ROOT,
            stdout=output,
            stderr=subprocess.PIPE,
            check=False,
        )
    assert (done.returncode, done.stderr) == (1, b"")


def test_scrape_prints_utf_8(upstream: Upstream) -> None:
    environ = {**serve(upstream), "PYTHONIOENCODING": "ascii"}
    services = staytus("services_all_ok_minor_major_maintenance").body.decode().replace("Web Application", "Büro")
    upstream.answers["/api/v1/services/all"] = (200, services.encode())
    status, text = command("-u", upstream.url, "scrape", environ=environ, cwd=Path("/"))
    samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
    up = {sample.name: sample.value for sample in samples if sample.name.endswith("_up")}
    names = [sample.labels["name"] for sample in samples if sample.name == "staytus_service_info"]
    assert (status, up, names[:2]) == (0, {"patroni_up": 1.0, "staytus_up": 1.0}, ["Büro", "API"])
