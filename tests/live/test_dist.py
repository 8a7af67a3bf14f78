"""`make dist` for real: what is in the sdist and the wheel, and that both install and serve in an empty environment."""

import shutil
import sys
import tarfile
import zipfile
from importlib.metadata import version
from pathlib import Path

import pytest

from exporter.version import __version__
from tests.conftest import Upstream
from tests.live.processes import ROOT, free_port, packager, recorded, run, serving

pytestmark = pytest.mark.timeout(120)

NAME = f"patroni_staytus_exporter-{__version__}"
SDIST, WHEEL = f"{NAME}.tar.gz", f"{NAME}-py3-none-any.whl"
NOT_OURS = shutil.ignore_patterns(".git", ".venv", ".env", ".*_cache", ".hypothesis", "__pycache__", "dist", "build")


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the checkout in which `make dist` has run, beside a `.env` that is nobody's business."""
    folder = tmp_path_factory.mktemp("dist") / "checkout"
    shutil.copytree(ROOT, folder, ignore=NOT_OURS)
    (folder / ".env").write_text("STAYTUS_API_SECRET=secret\n")
    # With the packages of this Python, and without installing them again.
    line = ["make", "dist", f"VENV={sys.prefix}", "-o", f"{sys.prefix}/.ready"]
    status, output = run(line, cwd=folder, environ=packager())
    assert status == 0, output
    return folder


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty virtual environment with what requirements.txt names."""
    folder = tmp_path_factory.mktemp("environment")
    assert run([sys.executable, "-m", "venv", "--without-pip", str(folder)], cwd=folder) == (0, "")
    install(folder, "--require-hashes", "-r", str(ROOT / "requirements.txt"))
    return folder


def install(environment: Path, *arguments: str) -> None:
    pip = [sys.executable, "-m", "pip", "--quiet", "--python", str(environment / "bin" / "python")]
    status, output = run([*pip, "install", *arguments], cwd=environment, environ=packager())
    assert status == 0, output
    assert run([*pip, "check"], cwd=environment, environ=packager())[0] == 0


def ours(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def test_make_dist_gives_one_sdist_and_one_wheel(checkout: Path) -> None:
    assert sorted(path.name for path in (checkout / "dist").iterdir()) == [WHEEL, SDIST]


def test_sdist_holds_the_checkout_and_no_secret(checkout: Path) -> None:
    with tarfile.open(checkout / "dist" / SDIST) as sdist:
        files = {member.name.removeprefix(f"{NAME}/") for member in sdist.getmembers() if member.isfile()}
    kept = {name for name in ours(checkout) if not name.startswith("dist/") and "__pycache__" not in name}
    assert files == kept - {".env"} | {"PKG-INFO"}


def test_wheel_holds_the_package_and_the_configuration_of_gunicorn(checkout: Path) -> None:
    with zipfile.ZipFile(checkout / "dist" / WHEEL) as wheel:
        files = set(wheel.namelist())
    kinds = {".py", ".html", ".css"}
    code = {str(path.relative_to(checkout)) for path in (checkout / "exporter").rglob("*") if path.suffix in kinds}
    about = {"METADATA", "RECORD", "WHEEL", "entry_points.txt", "licenses/LICENSE"}
    assert files == code | {"exporter/gunicorn.conf.py"} | {f"{NAME}.dist-info/{name}" for name in about}


@pytest.mark.parametrize("file", [SDIST, WHEEL])
def test_it_installs_and_serves_in_an_empty_folder(
    checkout: Path, environment: Path, upstream: Upstream, tmp_path: Path, file: str
) -> None:
    install(environment, "--no-deps", "--force-reinstall", str(checkout / "dist" / file))
    program = str(environment / "bin" / "patroni-staytus-exporter")
    alone = {"PYTHONPATH": ""}
    empty = tmp_path / "empty"
    empty.mkdir()
    assert run([program, "--version"], cwd=empty, environ=alone) == (0, f"patroni-staytus-exporter {__version__}\n")
    with free_port() as port:
        line = [program, "--port", str(port), "--patroni-url", recorded(upstream).url]
        with serving(tmp_path, port, line, cwd=empty, environ=alone) as exporter:
            assert exporter.up() == "1.0"
            assert exporter.get("/")[0] == 200
            assert exporter.end() == 0
    assert exporter.lines()[0] == f"INFO Starting gunicorn {version('gunicorn')}"
    assert list(empty.iterdir()) == []


def test_gunicorn_serves_the_application_factory_of_the_wheel(
    checkout: Path, environment: Path, upstream: Upstream, tmp_path: Path
) -> None:
    install(environment, "--no-deps", "--force-reinstall", str(checkout / "dist" / WHEEL))
    environ = {"PYTHONPATH": "", "PATRONI_EXPORTER_URL": recorded(upstream).url}
    with free_port() as port:
        options = ["--bind", f"127.0.0.1:{port}", "--no-control-socket", "exporter:create_app()"]
        line = [str(environment / "bin" / "gunicorn"), *options]
        with serving(tmp_path, port, line, environ=environ) as exporter:
            assert exporter.up() == "1.0"
            assert exporter.end() == 0
