"""A YAML file that is read strictly: an error is one line with the file, the line and the key."""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from exporter.config.errors import ConfigError
from exporter.config.readers import Reader

T = TypeVar("T")

#: Levels of nesting that are accepted. libyaml composes recursively and overflows the stack at some 40,000.
MAX_DEPTH = 50

#: The kinds of a text that can look like a number.
TEXT_OR_NUMBER = ("str", "int", "float")

_KINDS = {
    "map": "a mapping",
    "seq": "a list",
    "null": "nothing",
    "bool": "true or false",
    "int": "a number",
    "float": "a number",
    "timestamp": "a date",
    "str": "a text",
}


def text_of(path: str) -> str:
    """Returns the text of a file; raises ConfigError when it cannot be read or is not in UTF-8."""
    try:
        return Path(path).read_text(encoding="utf-8-sig")
    except OSError as error:
        raise ConfigError(f"{path}: {(error.strerror or '').lower()}") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{path}: not UTF-8") from None


class Entry:
    """One value of the file; `key` is its path, such as modules.db.timeout, empty for the whole file."""

    def __init__(self, file: str, key: str, node: Any):
        self.key = key
        self._file = file
        self._node = node

    @classmethod
    def of(cls, text: str, file: str) -> "Entry":
        """Returns the whole of a file with this text; raises ConfigError when it is not YAML."""
        import yaml  # 1.3 MiB in each process, so only where there is a file

        # libyaml where PyYAML has it: ten times as fast, which matters for a list of some thousand targets.
        loader: type = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
        depth = 0
        event: Any
        try:
            for event in yaml.parse(text, Loader=loader):
                depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
                if depth > MAX_DEPTH:
                    raise _error(file, event.start_mark.line + 1, f"more than {MAX_DEPTH} levels of nesting")
            node: Any = yaml.compose(text, Loader=loader) or yaml.compose("null", Loader=loader)
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            line = mark.line if mark else 0
            found = re.search(r"[*[]", "".join(text.splitlines()[line : line + 1]))
            hint = "; a text that begins with * or [ needs quotes" if found else ""
            problem = re.sub(r" '\w.*'", "", error.problem or "")  # a password after * is an unknown alias
            raise _error(file, line + 1, f"not YAML: {problem}{hint}") from None
        except yaml.YAMLError as error:
            raise _error(file, 1, f"not YAML: {str(error).splitlines()[0]}") from None
        return cls(file, "", node)

    @property
    def line(self) -> int:
        """The number of its line, from 1."""
        return int(self._node.start_mark.line) + 1

    @property
    def is_null(self) -> bool:
        """Whether there is no value."""
        return self._kind == "null"

    def fail(self, reason: str) -> NoReturn:
        """Raises ConfigError for this value."""
        raise _error(self._file, self.line, f"{self.key}: {reason}" if self.key else reason)

    def keys(self, known: Iterable[str] | None = None, required: Iterable[str] = ()) -> dict[str, "Entry"]:
        """Returns the values of a mapping by their keys, which must be known; with None any key is."""
        if self._node.id != "mapping":
            self._fail_kind("a mapping")
        entries: dict[str, Entry] = {}
        for name, node in self._node.value:
            key = Entry(self._file, f"{self.key}.{name.value}" if self.key else str(name.value), name)
            if name.id != "scalar":
                Entry(self._file, self.key, name).fail("expected a text as the key")
            if known is not None and name.value not in (names := tuple(known)):
                key.fail(f"unknown key; expected {', '.join(names)}")
            if name.value in entries:
                key.fail(f"duplicate key, also in line {entries[name.value].line}")
            entries[name.value] = Entry(self._file, key.key, node)
        for name in required:
            if name not in entries:
                self.fail(f"{name} is missing")
        return entries

    def items(self, *, can_be_empty: bool = False) -> list["Entry"]:
        """Returns the values of a list."""
        if self._node.id != "sequence" or not (self._node.value or can_be_empty):
            self._fail_kind("a list")
        return [Entry(self._file, f"{self.key}[{index}]", node) for index, node in enumerate(self._node.value)]

    def read(self, reader: Reader[T], *, secret: bool = False, kinds: tuple[str, ...] = ("str",)) -> T:
        """Returns what the reader makes of a scalar of one of these kinds; a secret is not in the error."""
        if self._node.id != "scalar" or self.is_null:
            self._fail_kind(reader.expected)
        if self._kind not in kinds:
            hint = "; a text needs quotes here" if "str" in kinds else ""
            self.fail(f"expected {reader.expected}, found {_KINDS[self._kind]}{hint}")
        try:
            return reader(self._node.value)
        except (OSError, ValueError):
            self.fail(f"{'' if secret else ascii(self._node.value)[:200] + ': '}expected {reader.expected}")

    def read_path(self, reader: Reader[T]) -> T:
        """Returns what the reader makes of a path that is relative to the directory of this file."""
        return self.read(Reader(reader.expected, lambda text: reader(self.path(text))))

    def path(self, text: str) -> str:
        """Returns a path that is relative to the directory of this file as an absolute one."""
        return str(Path(self._file).absolute().parent / text)

    def boolean(self) -> bool:
        """Returns true or false."""
        if self._kind != "bool":
            self._fail_kind("true or false")
        return str(self._node.value).lower() in ("true", "yes", "on")

    @property
    def _kind(self) -> str:
        kind = str(self._node.tag).rpartition(":")[2]
        return kind if kind in _KINDS else "str"

    def _fail_kind(self, expected: str) -> NoReturn:
        empty = self._node.id == "sequence" and not self._node.value
        self.fail(f"expected {expected}, found {'an empty list' if empty else _KINDS[self._kind]}")


def _error(file: str, line: int, reason: str) -> ConfigError:
    printable = "".join(character if character.isprintable() else ascii(character)[1:-1] for character in reason)
    return ConfigError(f"{file}:{line}: {printable}")
