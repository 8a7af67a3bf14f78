"""The command line, in processes of its own: what it prints, what it refuses in one line, and its exit status."""

import os
import re
import runpy
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from contextlib import suppress
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

import pytest
from prometheus_client.parser import text_string_to_metric_families

from exporter.__main__ import main
from exporter.options import OPTIONS
from exporter.settings import Settings
from exporter.version import __version__
from tests.conftest import Upstream
from tests.recorded import moment, staytus
from tests.test_options import EXPECTED_SECONDS, KEY, REFUSED
from tests.test_settings import KEY_OPTIONS, KEYS, ROWS, env_file

ROOT = Path(__file__).parent.parent
PROGRAM = "patroni-staytus-exporter"
SWITCHES = {flag for option in OPTIONS if option.is_switch for flag in option.flags}
FLAGS = {option.variable: option.flags for option in OPTIONS if option.flags}

Environ = MutableMapping[str, str]
Capture = pytest.CaptureFixture[str]


@pytest.fixture
def environ() -> Iterator[Environ]:
    """What these tests give in the environment of this process, which is as before after them."""
    before = dict(os.environ)
    for name in [name for option in OPTIONS for name in (option.variable, f"{option.variable}_FILE")]:
        os.environ.pop(name, None)
    os.environ["EXPORTER_ENV_FILE"] = os.devnull
    yield os.environ
    os.environ.clear()
    os.environ.update(before)


def clean(given: Mapping[str, str], path: Path = ROOT) -> dict[str, str]:
    """An environment with these variables and nothing of ours; the exporter is found in the folder `path`."""
    return {"PATH": os.environ["PATH"], "PYTHONPATH": str(path), "EXPORTER_ENV_FILE": os.devnull, **given}


def run(*command: str, given: Mapping[str, str], cwd: Path = ROOT, path: Path = ROOT) -> tuple[int, str, str]:
    """Runs `python -m` with this command; returns its exit status, standard output and standard error."""
    done = subprocess.run(
        [sys.executable, "-m", *command], cwd=cwd, env=clean(given, path), capture_output=True, check=False, timeout=60
    )
    return done.returncode, done.stdout.decode(), done.stderr.decode()


# Arguments ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("variable", "one", "as_one", "two"), [row[:4] for row in ROWS if row[0] in FLAGS])
def test_argument_wins_over_environment_and_that_over_env_file(
    variable: str, one: str, as_one: Settings, two: str, environ: Environ, tmp_path: Path
) -> None:
    for flag in FLAGS[variable]:
        environ["EXPORTER_ENV_FILE"] = env_file(tmp_path, {variable: two})
        environ[variable] = two
        assert main([flag, "reference", "env"] if flag in SWITCHES else [flag, one, "reference", "env"]) == 0
        assert Settings.load() == as_one


@pytest.mark.parametrize(
    "variable", [variable for variable in FLAGS if not variable.endswith(("BIND", "DEBUG", "LIFECYCLE", "HEALTH"))]
)
@pytest.mark.parametrize("empty", ["", " "])
def test_empty_argument_counts_for_nothing(variable: str, empty: str, environ: Environ) -> None:
    environ[variable], as_one = next((row[1], row[2]) for row in ROWS if row[0] == variable)
    assert main([FLAGS[variable][-1], empty, "reference", "env", empty]) == 0
    assert Settings.load() == as_one


def test_empty_bind_argument_is_all_interfaces(environ: Environ) -> None:
    environ["PATRONI_EXPORTER_BIND"] = "127.0.0.1"
    assert (main(["--bind", "", "reference", "env"]), Settings.load().listen()) == (0, "0.0.0.0:9547")


def refused(capsys: Capture, *arguments: str) -> str:
    """The one line on standard error that these arguments end with, which is all there is, and the status is 2."""
    with pytest.raises(SystemExit) as ended:
        main(list(arguments))
    output = capsys.readouterr()
    assert (ended.value.code, output.out, output.err.count("\n"), output.err[-1]) == (2, "", 1, "\n")
    return output.err.removeprefix(f"{PROGRAM}: ").removesuffix("\n")


COMMANDS = "expected serve, check, scrape or reference TOPIC"


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["--bogus"], "unknown argument: '--bogus'"),
        (["--bogus", "x", "-x", "check"], "unknown argument: '--bogus -x'"),
        (["bogus"], f"unknown command: 'bogus'; {COMMANDS}"),
        (["check", "scrape"], f"unknown command: 'check scrape'; {COMMANDS}"),
        (["reference"], f"unknown command: 'reference'; {COMMANDS}"),
        (["reference", "bogus"], f"unknown command: 'reference bogus'; {COMMANDS}"),
        (["a\nb"], f"unknown command: 'a\\nb'; {COMMANDS}"),
        (["--port"], "argument -p/--port: expected one argument"),
        (["--debug=x"], "argument -d/--debug: ignored explicit argument 'x'"),
        # What stands before an @ can be a password, wherever it was put.
        (["--patroni-urll=http://u:s3 cr/t@h"], "unknown argument: '--patroni-urll=***@h'"),
        (["--patroni-url=", "http://u:s3'cr/t@h"], f'unknown command: "***@h"; {COMMANDS}'),
        (["--p=http://u:s3\ncr/t@h"], "ambiguous option: --p=***@h could match --port, --patroni-url, --probes"),
        (["--debug=http://u:s3@cr't@h"], 'argument -d/--debug: ignored explicit argument "***@h"'),
    ],
)
def test_arguments_that_do_not_exist_are_one_line(
    arguments: list[str], line: str, capsys: Capture, environ: Environ
) -> None:
    assert refused(capsys, *arguments) == f"{line} (see --help)"


# Settings that cannot be used -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("variable", "value", "line"), REFUSED)
def test_value_that_cannot_be_used_is_one_line(
    variable: str,
    value: str,
    line: str,
    capsys: Capture,
    environ: Environ,
    tmp_path: Path,
) -> None:
    given = {**KEYS, variable: value}
    environ["EXPORTER_ENV_FILE"] = env_file(tmp_path, given)
    assert refused(capsys, "serve") == line
    environ.update(given, EXPORTER_ENV_FILE=os.devnull)
    assert refused(capsys, "scrape") == line
    if variable in FLAGS and FLAGS[variable][-1] not in SWITCHES:
        del environ[variable]
        assert refused(capsys, f"{FLAGS[variable][-1]}={value}") == line


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda path: None, "No such file or directory"),
        (Path.mkdir, "Is a directory"),
        (lambda path: path.write_bytes(b"A=\xff\n"), "not text in UTF-8"),
    ],
)
def test_env_file_that_cannot_be_read_is_one_line(
    make: Callable[[Path], object], reason: str, capsys: Capture, environ: Environ, tmp_path: Path
) -> None:
    make(tmp_path / "some.env")
    environ["EXPORTER_ENV_FILE"] = name = str(tmp_path / "some.env")
    line = f"EXPORTER_ENV_FILE={name!r}: {reason}; expected a file with lines of the form NAME=value"
    assert refused(capsys) == line


@pytest.mark.parametrize(
    ("given", "line"),
    [
        ({"PATRONI_EXPORTER_TIMEOUT": "ten"}, f"PATRONI_EXPORTER_TIMEOUT='ten': {EXPECTED_SECONDS}"),
        ({"STAYTUS_API_TOKEN": "h1dden"}, f"STAYTUS_API_SECRET is missing: {KEY}"),
        (
            {"PATRONI_EXPORTER_BIND": "a..b"},
            "PATRONI_EXPORTER_BIND='a..b': expected an address or a host name with an address of the family AF_INET "
            "(PATRONI_EXPORTER_ADDRESS_FAMILY)",
        ),
    ],
)
def test_gunicorn_alone_refuses_with_the_same_line(given: dict[str, str], line: str) -> None:
    for command in (["gunicorn", "-c", "gunicorn.conf.py", "wsgi:app"], ["exporter"]):
        assert run(*command, given=given) == (2, "", f"{PROGRAM}: {line}\n")


def test_gunicorn_is_configured_from_the_settings(environ: Environ) -> None:
    environ.update(EXPORTER_WORKERS="2", EXPORTER_THREADS="3", PATRONI_EXPORTER_PORT="1", DEBUG="1")
    configured = runpy.run_path(str(ROOT / "gunicorn.conf.py"))
    expected = {"bind": "0.0.0.0:1", "workers": 2, "threads": 3, "loglevel": "debug"}
    assert {name: configured[name] for name in expected} == expected


# Processes ------------------------------------------------------------------------------------------------------------


def serve(upstream: Upstream) -> dict[str, str]:
    """Lets it answer as Patroni and Staytus, and returns what makes the exporter ask it."""
    for path, answer in moment("4.1.5", "failsafe-enabled", "n1").answers.items():
        upstream.answers[path] = (answer.status, answer.body)
    upstream.answers["/api/v1/services/all"] = (200, staytus("services_all_ok_minor_major_maintenance").body)
    upstream.answers["/api/v1/issues/all"] = (200, staytus("issues_all_four_states").body)
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
PATRONI_EXPORTER_URL = {upstream.url}/patroni  (environment)
PATRONI_EXPORTER_DEBUG = true  (environment)
PATRONI_EXPORTER_TIMEOUT = 4.0  (environment)
PATRONI_EXPORTER_ADDRESS_FAMILY = AF_INET  (default)
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
