"""A server that is asked, and how: all that the HTTP client is told of it."""

from dataclasses import dataclass, field
from ipaddress import IPv4Network, IPv6Network

from exporter.config import readers
from exporter.config.readers import Headers

Networks = tuple[IPv4Network | IPv6Network, ...]


@dataclass(frozen=True)
class HeaderFile:
    """Headers that come of a file, which is read again with each request, so that a secret in it can be rotated.

    The file holds the value of the header with this `name`, in which something can stand `before` it, or the password
    of this `user`, or, without either, lines of the form Name: value.
    """

    path: str
    name: str = ""
    user: str = field(default="", repr=False)
    before: str = ""

    def headers(self) -> Headers:
        """Returns the headers as they are now; raises OSError, or ValueError that names the file and no content."""
        try:
            return self.headers_of(readers.file_content(self.path).decode("utf-8-sig").strip())
        except ValueError:
            a_value = "a password, one line" if self.user else f"the value of {self.name}, one line of ASCII"
            what = a_value if self.user or self.name else "lines of the form Name: value, each name once"
            raise ValueError(f"{self.path}: expected a file that holds {what}") from None

    def headers_of(self, text: str) -> Headers:
        """Returns the headers that a file with this text gives; raises ValueError when it gives none."""
        if self.user:
            return readers.basic_login(self.user.encode(), readers.line(text).encode())
        return ((self.name, readers.header_value(self.before + text)),) if self.name else readers.header_lines(text)


@dataclass(frozen=True)
class Target:
    """One server of a service and how it is asked.

    `url` is the base of its API, without a slash at its end and without userinfo. `timeout` and `interval` are seconds;
    an answer younger than the interval is used again. `verify` is True, False or the path of a CA bundle, for a
    certificate with the `server_name`, or with the URL's host where that is empty. `cert_file` and `key_file` are the
    paths of the client's certificate and key, or empty; files are read when they are used. `headers` and those of the
    `header_files` go with every request and can be secret. An address is connected to only when it is in one of the
    networks that it `admits`, where there are any, and in none that it `refuses`.
    """

    url: str
    timeout: float
    verify: bool | str
    interval: float = 0.0
    headers: Headers = field(default=(), repr=False)
    header_files: tuple[HeaderFile, ...] = ()
    cert_file: str = ""
    key_file: str = ""
    server_name: str = ""
    admits: Networks = ()
    refuses: Networks = ()

    def __hash__(self) -> int:
        return hash(self.url)  # which tells nearly all of them apart, and to hash the rest takes long


@dataclass(frozen=True)
class Module:
    """A target with a name; its service (patroni or staytus) tells which collectors can read it, `collect` which do."""

    name: str
    service: str
    target: Target
    collect: tuple[str, ...]
