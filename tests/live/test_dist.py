"""`make dist`: the content of the sdist and the wheel, and both in an empty environment."""

import re
import shutil
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from exporter.version import __version__
from tests.conftest import Upstream
from tests.live.processes import ROOT, packager, recorded, run, serving

pytestmark = pytest.mark.timeout(120)

NAME = f"patroni_staytus_exporter-{__version__}"
SDIST, WHEEL = f"{NAME}.tar.gz", f"{NAME}-py3-none-any.whl"
NOT_OURS = shutil.ignore_patterns(
    ".git", ".venv", ".env", ".*_cache", ".coverage*", ".hypothesis", "__pycache__", "dist", "build"
)


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the checkout after `make dist`, with a `.env`."""
    folder = tmp_path_factory.mktemp("dist") / "checkout"
    shutil.copytree(ROOT, folder, ignore=NOT_OURS)
    (folder / ".env").write_text("STAYTUS_API_SECRET=secret\n")
    line = ["make", "dist", f"VENV={sys.prefix}", "-o", f"{sys.prefix}/.ready"]  # installs nothing
    status, output = run(line, cwd=folder, environ=packager())
    assert status == 0, output
    assert sorted(path.name for path in (folder / "dist").iterdir()) == [WHEEL, SDIST]
    return folder


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A virtual environment with requirements.txt."""
    folder = tmp_path_factory.mktemp("environment")
    assert run([sys.executable, "-m", "venv", "--without-pip", str(folder)], cwd=folder) == (0, "")
    install(folder, "--require-hashes", "-r", str(ROOT / "requirements.txt"))
    return folder


def install(environment: Path, *arguments: str) -> None:
    pip = [sys.executable, "-m", "pip", "--quiet", "--python", str(environment / "bin" / "python")]
    status, output = run([*pip, "install", *arguments], cwd=environment, environ=packager())
    assert status == 0, output
    assert run([*pip, "check"], cwd=environment, environ=packager())[0] == 0


def files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def shipped_files(checkout: Path) -> set[str]:
    """What a user of the wheel needs besides its code."""
    deploy = {name for name in files(checkout) if name.startswith("deploy/")}
    not_shipped = {name for name in deploy if name.startswith("deploy/compose/")} | {"deploy/healthcheck.py"}
    data = {name for name in files(checkout) if re.fullmatch(r"monitoring/.*\.(json|ya?ml)", name)}
    return deploy - not_shipped | data | {".env.sample", "gunicorn.conf.py", "wsgi.py"}


def test_sdist_is_the_checkout(checkout: Path) -> None:
    with tarfile.open(checkout / "dist" / SDIST) as sdist:
        names = {member.name.removeprefix(f"{NAME}/") for member in sdist.getmembers() if member.isfile()}
    kept = {name for name in files(checkout) if not name.startswith("dist/") and "__pycache__" not in name}
    assert names == kept - {".env"} | {"PKG-INFO"}


def test_wheel_is_the_package(checkout: Path) -> None:
    with zipfile.ZipFile(checkout / "dist" / WHEEL) as wheel:
        names = set(wheel.namelist())
    code = {name for name in files(checkout) if name.startswith("exporter/") and "__pycache__" not in name}
    shipped = {f"exporter/shipped/{name}" for name in shipped_files(checkout)}
    about = {"METADATA", "RECORD", "WHEEL", "entry_points.txt", "licenses/LICENSE"}
    assert names == code | shipped | {f"{NAME}.dist-info/{name}" for name in about}


@pytest.mark.parametrize("file", [SDIST, WHEEL])
def test_install(checkout: Path, environment: Path, upstream: Upstream, tmp_path: Path, port: int, file: str) -> None:
    install(environment, "--no-deps", "--force-reinstall", str(checkout / "dist" / file))
    program, gunicorn = (str(environment / "bin" / name) for name in ("patroni-staytus-exporter", "gunicorn"))
    environ = {"PYTHONPATH": "", "PATRONI_EXPORTER_URL": recorded(upstream).url}
    empty = tmp_path / "empty"
    empty.mkdir()
    assert run([program, "--version"], cwd=empty, environ=environ) == (0, f"patroni-staytus-exporter {__version__}\n")
    factory = [gunicorn, "--bind", f"127.0.0.1:{port}", "--no-control-socket", "exporter:create_app()"]
    for command in ([program, "--port", str(port)], factory):
        with serving(tmp_path, port, command, cwd=empty, environ=environ) as exporter:
            assert exporter.up() == "1.0"
            assert exporter.get("/")[0] == 200
            assert exporter.end() == 0
    assert list(empty.iterdir()) == []


def test_files(checkout: Path, environment: Path, upstream: Upstream, tmp_path: Path, port: int) -> None:
    """The files of the wheel beside its virtual environment are what the hosts need."""
    install(environment, "--no-deps", "--force-reinstall", str(checkout / "dist" / WHEEL))
    program, gunicorn = (str(environment / "bin" / name) for name in ("patroni-staytus-exporter", "gunicorn"))
    folder = tmp_path / "opt" / "exporter"
    expected = sorted(shipped_files(checkout))
    environ = {"PYTHONPATH": "", "EXPORTER_ENV_FILE": ""}
    line = [program, "files", str(folder)]
    status, output = run(line, cwd=tmp_path, environ=environ)
    assert (status, sorted(output.splitlines())) == (0, [f"{folder}/{name}" for name in expected])
    for name in expected:
        assert (folder / name).read_bytes() == (checkout / name).read_bytes()

    (folder / expected[0]).unlink()
    reason = f"{folder}/{expected[1]} exists: expected a directory without files of the exporter"
    assert run(line, cwd=tmp_path, environ=environ) == (2, f"patroni-staytus-exporter: {reason}\n")
    assert not (folder / expected[0]).exists()

    (folder / ".env").write_text(f"PATRONI_EXPORTER_URL={recorded(upstream).url}\n")
    command = [gunicorn, "-c", "gunicorn.conf.py", "--bind", f"127.0.0.1:{port}", "--no-control-socket", "wsgi:app"]
    with serving(tmp_path, port, command, cwd=folder, environ=environ) as exporter:
        assert exporter.up() == "1.0"
        assert exporter.end() == 0
