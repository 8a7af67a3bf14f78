"""The commands as processes of their own: what they print, what they refuse in one line, and their exit status."""

import re
import shutil
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

import pytest
from prometheus_client.parser import text_string_to_metric_families

from exporter.version import __version__
from tests.config.test_settings import KEY_OPTIONS, KEYS
from tests.conftest import Upstream
from tests.limits.scrapes import RECORDED
from tests.recorded import staytus
from tests.test_main import PROGRAM, ROOT, clean, run


def serve(upstream: Upstream) -> dict[str, str]:
    """Lets it answer as Patroni and Staytus, and returns what makes the exporter ask it."""
    upstream.serve(RECORDED)
    return {"STAYTUS_API_URL": upstream.url.replace("://", "://us3r:p4ss@"), **KEYS}


def test_version_is_told() -> None:
    assert run("exporter", "--version", given={}) == (0, f"{PROGRAM} {__version__}\n", "")


def test_check_tells_settings_and_that_all_modules_answer(upstream: Upstream) -> None:
    url = f"{upstream.url}/patroni".replace("://", "://us3r:p4ss@")
    words = ["--port", "9548", "--patroni-url", url, "--timeout", "4", "--debug", "check"]  # as docker run gives them
    status, text, errors = run("exporter", *words, given=serve(upstream))
    absent = [f"{name} = (none)  (default)\n" for name in KEY_OPTIONS]
    patroni_keys, staytus_keys = "".join(absent[:6]), "".join(absent[6:])
    expected = f"""\
PATRONI_EXPORTER_PORT = 9548  (environment)
PATRONI_EXPORTER_BIND =   (default)
PATRONI_EXPORTER_ADDRESS_FAMILY = AF_INET  (default)
PATRONI_EXPORTER_DEBUG = true  (environment)
PATRONI_EXPORTER_URL = {upstream.url}/patroni  (environment)
PATRONI_EXPORTER_TIMEOUT = 4.0  (environment)
PATRONI_EXPORTER_REQUEST_VERIFY = true  (default)
PATRONI_EXPORTER_COLLECT = node,cluster,history,config,failsafe  (default)
{patroni_keys}STAYTUS_API_URL = {upstream.url}  (environment)
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
EXPORTER_THREADS = 256  (default)
EXPORTER_PROBES = 200  (default)
EXPORTER_CONFIG_FILE = (none)  (default)
EXPORTER_WEB_ENABLE_LIFECYCLE = false  (default)
EXPORTER_ENV_FILE = /dev/null
listens on 0.0.0.0:9548
patroni node: {upstream.url}/patroni: answers (0 s)
patroni cluster: {upstream.url}/cluster: answers (0 s)
patroni history: {upstream.url}/history: answers (0 s)
patroni config: {upstream.url}/config: answers (0 s)
patroni failsafe: {upstream.url}/failsafe: answers (0 s)
staytus services: {upstream.url}/api/v1/services/all: answers (0 s)
staytus issues: {upstream.url}/api/v1/issues/all: answers (0 s)
"""
    assert (status, re.sub(r"\d+\.\d{3} s", "0 s", text), errors) == (0, expected, "")


def test_check_tells_who_does_not_answer_and_reads_env_beside_wsgi(upstream: Upstream, tmp_path: Path) -> None:
    house = tmp_path / "house"
    shutil.copytree(ROOT / "exporter", house / "exporter")
    (house / ".env").write_text("PATRONI_EXPORTER_URL=http://us3r:p4ss@127.0.0.1:1/patroni\nSTAYTUS_API_TOKEN=other\n")
    (tmp_path / ".env").write_text("PATRONI_EXPORTER_TIMEOUT=of-the-working-folder\n")
    given = {**serve(upstream), "EXPORTER_ENV_FILE": ""}
    status, text, errors = run("exporter", "check", given=given, cwd=tmp_path, path=house)
    some = "".join(re.findall(r".*(?:_URL|_TOKEN|ENV_FILE|/patroni|/services).*\n", text))
    expected = (
        f"PATRONI_EXPORTER_URL = http://127.0.0.1:1/patroni  ({house}/.env)\n"
        f"STAYTUS_API_URL = {upstream.url}  (environment)\n"
        "STAYTUS_API_TOKEN = ********  (environment)\n"
        "EXPORTER_ENV_FILE = .env beside wsgi.py\n"
        "patroni node: http://127.0.0.1:1/patroni: no connection: connection refused (0 s)\n"
        f"staytus services: {upstream.url}/api/v1/services/all: answers (0 s)\n"
    )
    assert (status, re.sub(r"\d+\.\d{3} s", "0 s", some), errors) == (1, expected, "")
    assert re.findall("us3r|p4ss|t0ken|s3cret|other", text) == []


def test_check_tells_the_modules_of_the_file_and_its_first_mistake(tmp_path: Path) -> None:
    file = tmp_path / "modules.yml"
    shutil.copy(ROOT / "tests" / "modules.yml", file)
    status, text, errors = run("exporter", "--config.file", str(file), "check", given={})
    assert (status, errors) == (0, "")
    assert text.splitlines()[-3:] == [
        "listens on 0.0.0.0:9547",
        f"{file}: module db.prod: patroni, cluster,node",
        f"{file}: module status: staytus, services,issues",
    ]
    file.write_text(file.read_text().replace("timeout", "tiemout"))
    status, text, errors = run("exporter", "--config.file", str(file), "check", given={})
    assert (status, text) == (2, "")
    assert errors.startswith(f"{PROGRAM}: {file}:6: modules.db.prod.tiemout: unknown key; expected collector, ")
    assert errors.count("\n") == 1


def test_scrape_prints_what_prometheus_reads_whatever_the_locale(upstream: Upstream) -> None:
    given = {**serve(upstream), "PYTHONIOENCODING": "ascii"}
    services = staytus("services_all_ok_minor_major_maintenance").body.decode().replace("Web Application", "Büro")
    upstream.answers["/api/v1/services/all"] = (200, services.encode())
    status, text, errors = run("exporter", "-u", upstream.url, "scrape", given=given, cwd=Path("/"))
    samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
    up = {sample.name: sample.value for sample in samples if sample.name.endswith("_up")}
    names = [sample.labels["name"] for sample in samples if sample.name == "staytus_service_info"]
    assert (status, up, names[:2], errors) == (0, {"patroni_up": 1.0, "staytus_up": 1.0}, ["Büro", "API"], "")


def test_port_in_use_is_one_line(upstream: Upstream) -> None:
    port = str(upstream.server_port)
    line = f"{PROGRAM}: cannot listen on 127.0.0.1:{port}: address already in use\n"
    assert run("exporter", "--bind", "127.0.0.1", "--port", port, given={}) == (2, "", line)


@pytest.mark.skipif(not socket.has_dualstack_ipv6(), reason="there is no IPv6 here")
def test_old_systemd_unit_serves_ipv6_and_ipv4(upstream: Upstream, tmp_path: Path) -> None:
    serve(upstream)
    with socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True) as free:
        port = free.getsockname()[1]
    unit = f"--port {port} --address-family AF_INET6 --patroni-url {upstream.url}/patroni --timeout 5"
    words = ["-m", "exporter", "--bind", "", *unit.split(), "--requests-verify", "true", ""]
    with subprocess.Popen([sys.executable, *words], cwd=tmp_path, env=clean({})) as process:
        try:
            assert [ask(f"http://{host}:{port}/metrics") for host in ("127.0.0.1", "[::1]")] == ["patroni_up 1.0\n"] * 2
        finally:
            process.terminate()
    assert process.returncode == 0


def ask(url: str) -> str:
    """The line of patroni_up, waiting up to 20 seconds for the server to be there."""
    for _ in range(400):
        with suppress(URLError), urlopen(url) as answer:
            return str(next(line for line in answer if line.startswith(b"patroni_up")).decode())
        time.sleep(0.05)
    pytest.fail(f"nobody listens at {url}")
