"""The command line: its arguments, and its one-line errors."""

import os
import sys
from collections.abc import Callable, Iterator, MutableMapping
from pathlib import Path

import pytest

from exporter.__main__ import main
from exporter.config.allow_list import EXPECTED
from exporter.config.options import OPTIONS
from exporter.config.settings import Settings
from exporter.files import SHIPPED
from tests.config.test_options import EXPECTED_SECONDS, KEY, REFUSED
from tests.config.test_settings import KEYS, ROWS, env_file
from tests.live.processes import ROOT, run

PROGRAM = "patroni-staytus-exporter"
FILE = str(ROOT / "tests" / "modules.yml")
SWITCHES = {flag for option in OPTIONS if option.is_switch for flag in option.flags}
FLAGS = {option.variable: option.flags for option in OPTIONS if option.flags}

Environ = MutableMapping[str, str]
Capture = pytest.CaptureFixture[str]


@pytest.fixture
def environ() -> Iterator[Environ]:
    """The environment of this process without options; it is restored at the end."""
    before = dict(os.environ)
    for name in [name for option in OPTIONS for name in (option.variable, f"{option.variable}_FILE")]:
        os.environ.pop(name, None)
    os.environ["EXPORTER_ENV_FILE"] = os.devnull
    yield os.environ
    os.environ.clear()
    os.environ.update(before)


@pytest.mark.parametrize(("variable", "one", "as_one", "two"), [row[:4] for row in ROWS if row[0] in FLAGS])
def test_argument_precedes_environment_precedes_env_file(
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
def test_empty_argument_is_ignored(variable: str, empty: str, environ: Environ) -> None:
    environ[variable], as_one = next((row[1], row[2]) for row in ROWS if row[0] == variable)
    assert main([FLAGS[variable][-1], empty, "reference", "env", empty]) == 0
    assert Settings.load() == as_one


def test_empty_bind_argument_is_all_interfaces(environ: Environ) -> None:
    environ["PATRONI_EXPORTER_BIND"] = "127.0.0.1"
    assert (main(["--bind", "", "reference", "env"]), Settings.load().listen()) == (0, "0.0.0.0:9547")


def refused(capsys: Capture, *arguments: str) -> str:
    """The error of these arguments: one line on standard error, and status 2."""
    with pytest.raises(SystemExit) as ended:
        main(list(arguments))
    output = capsys.readouterr()
    assert (ended.value.code, output.out, output.err.count("\n"), output.err[-1]) == (2, "", 1, "\n")
    return output.err.removeprefix(f"{PROGRAM}: ").removesuffix("\n")


COMMANDS = "expected serve, check, scrape, files DIR or reference TOPIC"


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
        (["--target", "n1", "scrape"], "--module and --target are for the command check"),
        (["--debug=x"], "argument -d/--debug: ignored explicit argument 'x'"),
        # The text before an @ can be a password.
        (["--patroni-urll=http://u:s3 cr/t@h"], "unknown argument: '--patroni-urll=***@h'"),
        (["--patroni-url=", "http://u:s3'cr/t@h"], f'unknown command: "***@h"; {COMMANDS}'),
        (["--p=http://u:s3\ncr/t@h"], "ambiguous option: --p=***@h could match --port, --patroni-url, --probes"),
        (["--debug=http://u:s3@cr't@h"], 'argument -d/--debug: ignored explicit argument "***@h"'),
    ],
)
def test_unknown_arguments(arguments: list[str], line: str, capsys: Capture, environ: Environ) -> None:
    assert refused(capsys, *arguments) == f"{line} (see --help)"


@pytest.mark.parametrize(("variable", "value", "line"), REFUSED)
def test_bad_values(variable: str, value: str, line: str, capsys: Capture, environ: Environ, tmp_path: Path) -> None:
    given = {**KEYS, variable: value}
    environ["EXPORTER_ENV_FILE"] = env_file(tmp_path, given)
    assert refused(capsys, "serve") == line
    environ.update(given, EXPORTER_ENV_FILE=os.devnull)
    assert refused(capsys, "scrape") == line
    if variable in FLAGS and FLAGS[variable][-1] not in SWITCHES:
        del environ[variable]
        assert refused(capsys, f"{FLAGS[variable][-1]}={value}") == line


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["--module", "db"], "--target is not set: --module needs it"),
        (["--target", "h"], "--target needs a modules file: EXPORTER_CONFIG_FILE or --config.file is not set"),
        (["--config.file", FILE, "--target", "h"], "--module is not set: expected one of db.prod, status"),
        (["--config.file", FILE, "--module", "db", "--target", "h"], "--module='db': expected one of db.prod, status"),
        (["--config.file", FILE, "--module", "db.prod", "--target", "h/x"],
            f"--target: target 'h/x' has a path but no http:// before it: expected {EXPECTED}"),
        (["--config.file", FILE, "--module", "db.prod", "--target", "10.9.9.9"],
            "--target: target 10.9.9.9:8008 is not among the targets of this module"),
    ],
)  # fmt: skip
def test_check_of_wrong_targets(arguments: list[str], line: str, capsys: Capture, environ: Environ) -> None:
    assert refused(capsys, "check", *arguments) == line


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda path: None, "No such file or directory"),
        (Path.mkdir, "Is a directory"),
        (lambda path: path.write_bytes(b"A=\xff\n"), "not UTF-8"),
    ],
)
def test_bad_env_file(
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
        ({"STAYTUS_API_TOKEN": "h1dden"}, f"STAYTUS_API_SECRET is not set: {KEY}"),
        (
            {"PATRONI_EXPORTER_BIND": "a..b"},
            "PATRONI_EXPORTER_BIND='a..b': expected an address or a host name with an address of the family AF_INET "
            "(PATRONI_EXPORTER_ADDRESS_FAMILY)",
        ),
    ],
)
def test_gunicorn_has_the_same_errors(given: dict[str, str], line: str) -> None:
    for command in (["-m", "gunicorn", "-c", "gunicorn.conf.py", "wsgi:app"], ["-m", "exporter"]):
        assert run([sys.executable, *command], cwd=ROOT, environ=given) == (2, f"{PROGRAM}: {line}\n")


def test_gunicorn_conf_reads_the_settings() -> None:
    """In another process, since several workers change how prometheus_client counts in this one."""
    expected = {"bind": "0.0.0.0:1", "workers": 2, "threads": 3, "loglevel": "debug"}
    code = f"import runpy; conf = runpy.run_path('gunicorn.conf.py'); print([conf[key] for key in {[*expected]}])"
    given = {"EXPORTER_WORKERS": "2", "EXPORTER_THREADS": "3", "PATRONI_EXPORTER_PORT": "1", "DEBUG": "1"}
    assert run([sys.executable, "-c", code], cwd=ROOT, environ=given) == (0, f"{[*expected.values()]}\n")


def test_files_in_a_checkout(tmp_path: Path, capsys: Capture) -> None:
    reason = f"{SHIPPED} does not exist: expected an installed wheel; a checkout has the files itself"
    assert refused(capsys, "files", str(tmp_path)) == reason
