"""HTTP headers and the secrets in them: how their text is read, and the files that hold them."""

import errno
import os
import re
import stat
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

T = TypeVar("T")

#: Names and values of HTTP headers.
Headers = tuple[tuple[str, str], ...]

#: Headers of the connection, or that decide how a response is encoded: the HTTP client sets these itself.
_CLIENT_HEADERS = (
    *("accept-encoding", "connection", "content-length", "expect", "keep-alive", "proxy-connection", "range"),
    *("te", "trailer", "transfer-encoding", "upgrade"),
)


def header_value(text: str) -> str:
    """Returns the value of an HTTP header; raises ValueError when it is not one line of printable ASCII."""
    if not re.fullmatch(r"[!-~]([ -~]*[!-~])?", text):
        raise ValueError("not one line of printable ASCII")
    return text


def header_lines(text: str) -> Headers:
    """Returns the headers in lines of the form `Name: value`; raises ValueError when they cannot be used.

    Each name must occur once, and must not be one that the HTTP client sets itself.
    """
    headers: dict[str, tuple[str, str]] = {}
    for row in filter(str.strip, text.splitlines()):
        name, _, value = row.partition(":")
        name, key = name.strip(), name.strip().lower()
        if not re.fullmatch(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+", name) or key in _CLIENT_HEADERS or key in headers:
            raise ValueError("not lines of the form Name: value")
        headers[key] = (name, header_value(value.strip()))
    if not headers:
        raise ValueError("no headers")
    return tuple(headers.values())


def printable_line(text: str) -> str:
    """Returns the text; raises ValueError when it is not one line of printable text."""
    if not text or not text.isprintable():
        raise ValueError("not one line of printable text")
    return text


def file_content(path: str) -> bytes:
    """Returns the content of a file; raises OSError, also for a FIFO or a device, which could block the reader."""
    with open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)) as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise OSError(errno.EINVAL, "not a regular file", path)
        return file.read()


@dataclass(frozen=True)
class Secret:
    """A text, or the path of the file that holds it, which is read for each request so that it can be rotated."""

    text: str = field(default="", repr=False)
    file: str = ""

    def read(self, reader: Callable[[str], T], expected: str) -> T:
        """Returns what the reader makes of the text.

        Raises OSError when the file cannot be read, and ValueError, which names the file and what is expected in it
        but not its content, when the reader does.
        """
        if not self.file:
            return reader(self.text)
        try:
            return reader(file_content(self.file).decode("utf-8-sig").strip())
        except ValueError:
            raise ValueError(f"{self.file}: expected a file that holds {expected}") from None

    def __str__(self) -> str:
        return self.file or "***"
