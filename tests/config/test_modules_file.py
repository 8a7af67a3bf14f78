"""The modules file while it changes: who notices, what a bad one does, and what processes share."""

import logging
import multiprocessing
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from exporter.config import modules_file
from exporter.config.errors import ConfigError
from exporter.config.modules_file import ModulesFile

BAD = "modules: 1\n"


def modules(*names: str) -> str:
    """A file with these modules."""
    return "modules:\n" + "".join(f"  {name}: {{collector: patroni, targets: [db1]}}\n" for name in names)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    file = tmp_path / "m.yml"
    file.write_text(modules("one"))
    return file


def state(file: ModulesFile) -> tuple[list[str], str | None]:
    return list(file.get()), file.failure


def test_file_is_loaded_when_it_is_named(path: Path) -> None:
    before = time.time()
    file = ModulesFile.load(str(path))
    assert state(file) == (["one"], None)
    assert before <= file.loaded_at <= time.time()


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda path: path.write_text(BAD), ":1: modules: expected a mapping, found a number"),
        (lambda path: path.write_bytes(b"\xff"), ": not text in UTF-8"),
        (lambda path: path.unlink(), ": no such file or directory"),
        (lambda path: (path.unlink(), path.mkdir()), ": is a directory"),
    ],
)
def test_file_that_cannot_be_used_and_never_could_is_an_error_and_later_one_that_leaves_the_modules(
    path: Path, change: Callable[[Path], object], reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    file = ModulesFile.load(str(path))
    loaded_at = file.loaded_at
    change(path)
    other = f"{path.parent}/./{path.name}"  # a name by which it was never loaded
    with pytest.raises(ConfigError) as raised:
        ModulesFile.load(other)
    assert str(raised.value) == other + reason
    file.reload()
    assert (state(file), file.loaded_at) == ((["one"], str(path) + reason), loaded_at)
    assert f"{path}{reason}; the modules stay as they were" in [record.getMessage() for record in caplog.records]


def test_changed_file_is_noticed_within_a_second_and_loaded_once(
    path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "exporter")
    monkeypatch.setattr(modules_file, "LOOK_AFTER", 0.2)
    file = ModulesFile.load(str(path))
    path.write_text(modules("one", "two"))
    assert state(file) == (["one"], None)  # nobody has looked yet
    time.sleep(0.25)
    assert state(file) == (["one", "two"], None)
    time.sleep(0.25)
    assert state(file) == (["one", "two"], None)
    path.write_text(BAD)
    time.sleep(0.25)
    assert state(file) == (["one", "two"], f"{path}:1: modules: expected a mapping, found a number")
    path.write_text(modules("three"))
    time.sleep(0.25)
    assert state(file) == (["three"], None)
    assert [record.getMessage() for record in caplog.records] == [
        f"{path}: loaded, with the modules one, two",
        f"{path}:1: modules: expected a mapping, found a number; the modules stay as they were",
        f"{path}: loaded, with the modules three",
    ]


def test_file_that_a_link_leads_to_is_noticed_when_the_link_is_turned(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Kubernetes turns a link of the folder that it mounts."""
    monkeypatch.setattr(modules_file, "LOOK_AFTER", 0.0)
    other, link = tmp_path / "other.yml", tmp_path / "link.yml"
    other.write_text(modules("two"))
    os.utime(other, ns=(path.stat().st_atime_ns, path.stat().st_mtime_ns))
    link.symlink_to(path)
    file = ModulesFile.load(str(link))
    assert state(file) == (["one"], None)
    (tmp_path / "new").symlink_to(other)
    (tmp_path / "new").rename(link)
    assert state(file) == (["two"], None)


def test_verification_that_is_off_is_said_when_it_is_loaded(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path.write_text(modules("one").replace("targets", "tls_config: {insecure_skip_verify: true}, targets"))
    ModulesFile.load(str(path)).reload()
    warnings = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert warnings == ["one: its TLS certificates are not verified"]


FORK = multiprocessing.get_context("fork")


def in_a_child(what: Callable[[], Any]) -> Any:
    """What it returns in a process that is forked from this one, as a server forks its workers."""
    receive, send = FORK.Pipe(duplex=False)
    child = FORK.Process(target=lambda: send.send(what()))
    child.start()
    told = receive.recv() if receive.poll(20) else None
    child.join(20)
    return told


def test_worker_that_starts_while_the_file_is_bad_has_what_another_worker_loaded_last(path: Path) -> None:
    file = ModulesFile.load(str(path))
    path.write_text(modules("one", "two"))

    def load() -> tuple[tuple[list[str], str | None], float]:
        return state(ModulesFile.load(str(path))), file.loaded_at

    told, loaded_at = in_a_child(load)
    assert told == (["one", "two"], None)
    assert (list(file._modules), file.loaded_at) == (["one"], loaded_at)  # it has not looked; the time is everybody's
    path.write_text(BAD)
    failure = f"{path}:1: modules: expected a mapping, found a number"
    assert in_a_child(load) == ((["one", "two"], failure), loaded_at)
    file.reload()
    assert state(file) == (["one", "two"], failure)
