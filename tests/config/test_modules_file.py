"""Reloading, with the modules file: changes, versions that cannot be used, and what processes share."""

import logging
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from exporter.config import reloadable
from exporter.config.errors import ConfigError
from exporter.config.modules_file import ModulesFile
from tests.forked import in_a_child

BAD = "modules: 1\n"


def modules(*names: str) -> str:
    """The text of a file with these modules."""
    return "modules:\n" + "".join(f"  {name}: {{collector: patroni, targets: [db1]}}\n" for name in names)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    file = tmp_path / "m.yml"
    file.write_text(modules("one"))
    return file


def state(file: ModulesFile) -> tuple[list[str], str | None]:
    return list(file.get()), file.failure


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda path: path.write_text(BAD), ":1: modules: expected a mapping, found a number"),
        (lambda path: path.write_bytes(b"\xff"), ": not UTF-8"),
        (lambda path: path.unlink(), ": no such file or directory"),
        (lambda path: (path.unlink(), path.mkdir()), ": is a directory"),
    ],
)
def test_version_that_cannot_be_used(
    path: Path, change: Callable[[Path], object], reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    """It leaves the last good one in place, and is an error only where there is none."""
    file = ModulesFile.load(str(path))
    loaded_at = file.loaded_at
    change(path)
    other = f"{path.parent}/./{path.name}"  # has never been loaded under this name
    with pytest.raises(ConfigError) as raised:
        ModulesFile.load(other)
    assert str(raised.value) == other + reason
    file.reload()
    assert (state(file), file.loaded_at) == ((["one"], str(path) + reason), loaded_at)
    assert [record.getMessage() for record in caplog.records] == [
        f'file not loaded file={path} reason="{path}{reason}"',
    ]


def test_change(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "exporter")
    before = time.time()
    file = ModulesFile.load(str(path))
    assert before <= file.loaded_at <= time.time()
    path.write_text(modules("one", "two"))
    assert [state(file), state(file)] == [(["one", "two"], None)] * 2
    path.write_text(BAD)
    failure = f"{path}:1: modules: expected a mapping, found a number"
    assert [state(file), state(file)] == [(["one", "two"], failure)] * 2
    path.write_text(modules("three"))
    time.sleep(reloadable.RETRY_AFTER)
    assert state(file) == (["three"], None)
    assert [record.getMessage() for record in caplog.records] == [
        f'file loaded file={path} modules="one, two"',
        f'file not loaded file={path} reason="{failure}"',
        f"file loaded file={path} modules=three",
    ]


def test_secret_file_that_comes_later(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The failure is logged once."""
    caplog.set_level(logging.WARNING, "exporter")
    file = ModulesFile.load(str(path))
    path.write_text(modules("one", "two").replace("targets", "authorization: {credentials_file: token}, targets"))
    assert list(file.get()) == ["one"]
    time.sleep(reloadable.RETRY_AFTER)
    assert list(file.get()) == ["one"]
    (path.parent / "token").write_text("t0ken")
    time.sleep(reloadable.RETRY_AFTER)
    assert state(file) == (["one", "two"], None)
    assert [record.levelname for record in caplog.records if record.levelno > logging.INFO] == ["ERROR"]


@pytest.mark.parametrize("name", ["m.yml", ""])
def test_symbolic_link_that_is_replaced(name: str, tmp_path: Path) -> None:
    """As Kubernetes does in a mounted directory, with the link to a file or to its directory."""
    for module in ("one", "two"):
        (tmp_path / module).mkdir()
        (tmp_path / module / "m.yml").write_text(modules(module))
        os.utime(tmp_path / module / "m.yml", (0, 0))
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "one" / name)
    file = ModulesFile.load(str(link if name else link / "m.yml"))
    assert state(file) == (["one"], None)
    (tmp_path / "new").symlink_to(tmp_path / "two" / name)
    (tmp_path / "new").rename(link)
    assert state(file) == (["two"], None)


def test_warning_without_verification(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path.write_text(modules("one").replace("targets", "tls_config: {insecure_skip_verify: true}, targets"))
    ModulesFile.load(str(path)).reload()
    warnings = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert warnings == ["TLS certificates are not verified module=one"]


def test_new_worker_gets_the_last_good_version(path: Path) -> None:
    file = ModulesFile.load(str(path))
    path.write_text(modules("one", "two"))

    def load() -> tuple[tuple[list[str], str | None], float]:
        return state(ModulesFile.load(str(path))), file.loaded_at

    loaded, loaded_at = in_a_child(load)
    assert loaded == (["one", "two"], None)
    assert file.loaded_at == loaded_at
    path.write_text(BAD)
    failure = f"{path}:1: modules: expected a mapping, found a number"
    assert in_a_child(load) == ((["one", "two"], failure), loaded_at)
    file.reload()
    assert state(file) == (["one", "two"], failure)
