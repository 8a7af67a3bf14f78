"""What is requested and how: the URL of a target, and the options of its module in the forms that requests has."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property

from requests import PreparedRequest, Response, Session
from requests.auth import AuthBase, HTTPBasicAuth
from requests.structures import CaseInsensitiveDict

from exporter.upstream.adapter import CurlAdapter
from exporter.upstream.headers import Secret, header_lines, header_value, printable_line
from exporter.upstream.transfer import AddressPolicy
from exporter.version import __version__

#: The headers of all requests.
HEADERS = {"User-Agent": f"patroni-staytus-exporter/{__version__}", "Accept-Encoding": "identity"}


@dataclass(frozen=True)
class Header(AuthBase):
    """Sets one header. `prefix` precedes its value, such as `Bearer `; `secret` is whether the value must be hidden."""

    name: str
    value: Secret
    prefix: str = ""
    secret: bool = True

    def __call__(self, request: PreparedRequest) -> PreparedRequest:
        request.headers[self.name] = self.value.read(
            lambda text: header_value(self.prefix + text), f"the value of {self.name}, one line of ASCII"
        )
        return request

    def __str__(self) -> str:
        return f"{self.name}: {self.value if self.secret else self.value.text}"


@dataclass(frozen=True)
class HeaderLines(AuthBase):
    """Sets the headers that stand in lines of the form `Name: value`."""

    lines: Secret

    def __call__(self, request: PreparedRequest) -> PreparedRequest:
        headers = self.lines.read(header_lines, "lines of the form Name: value, each name once")
        request.headers.update(headers)
        return request

    def __str__(self) -> str:
        return f"headers: {self.lines}"


@dataclass(frozen=True)
class Login(AuthBase):
    """Sets basic authentication (RFC 7617) in UTF-8."""

    user: str = field(repr=False)  # in a URL it can be a token
    password: Secret

    def __call__(self, request: PreparedRequest) -> PreparedRequest:
        password = self.password.read(str if not self.password.file else printable_line, "a password, one line")
        authenticated: PreparedRequest = HTTPBasicAuth(self.user.encode(), password.encode())(request)
        return authenticated

    def __str__(self) -> str:
        return f"basic authentication: {self.password}"


@dataclass(frozen=True)
class Credentials(AuthBase):
    """All headers of a module, in the form of requests' `auth`: it is called for each request."""

    parts: tuple[Header | HeaderLines | Login, ...] = ()

    def __call__(self, request: PreparedRequest) -> PreparedRequest:
        """Sets the headers; raises OSError or ValueError when a file that holds one cannot be used."""
        for part in self.parts:
            part(request)
        return request


@dataclass(frozen=True)
class RequestOptions:
    """How the targets of a module are requested.

    `timeout` is how many seconds a scrape waits, and how long a connection may take; `interval` for how many seconds a
    response is used again. `verify`, `cert` (None, a file, or a file and that of its key) and `auth` are those of
    requests. `server_name` is the name in the TLS certificate where it is not the URL's host. `allows` decides which
    addresses a host name may lead to; None allows every address.
    """

    timeout: float
    verify: bool | str = True
    interval: float = 0.0
    cert: str | tuple[str, str] | None = None
    auth: Credentials = Credentials()
    server_name: str = ""
    allows: AddressPolicy | None = field(default=None, compare=False, repr=False)

    @cached_property
    def session(self) -> Session:
        """A session with the transport adapter mounted, for requests without credentials.

        The environment does not change a request: no proxy, no ~/.netrc, no REQUESTS_CA_BUNDLE.
        """
        session = _Session()
        session.trust_env = False
        session.headers = CaseInsensitiveDict(HEADERS)
        session.verify = self.verify
        session.cert = self.cert
        session.mount("http://", self.adapter)
        session.mount("https://", self.adapter)
        return session

    @cached_property
    def adapter(self) -> CurlAdapter:
        """The transport adapter of the session."""
        return CurlAdapter(server_name=self.server_name, allows=self.allows)


class _Session(Session):
    """A session that does not follow redirects: it would send the credentials to any host."""

    def get_redirect_target(self, resp: Response) -> None:  # noqa: ARG002
        return None


@dataclass(frozen=True)
class Target:
    """One server: the base URL of its API, without a slash at its end and without userinfo."""

    url: str
    options: RequestOptions

    @property
    def host(self) -> str:
        """The host and port of the URL."""
        return self.url.split("/", 3)[2]

    def requests(self, paths: Iterable[str]) -> list[PreparedRequest]:
        """Returns the requests for paths below the URL, which share their headers.

        Raises OSError or ValueError when a file with credentials cannot be used.
        """
        requests: list[PreparedRequest] = []
        for path in paths:
            request = PreparedRequest()
            request.method, request.url = "GET", f"{self.url}/{path}"
            if requests:
                request.headers = requests[0].headers
            else:
                request.headers = CaseInsensitiveDict(HEADERS)
                self.options.auth(request)
            requests.append(request)
        return requests

    def __hash__(self) -> int:
        return hash(self.url)  # targets seldom share it, and hashing the options takes longer


@dataclass(frozen=True)
class Module:
    """A target with a name. `service` is patroni or staytus; `collect` are the names of its collectors that are on.

    Without `compat_metrics` the inherited families are left out.
    """

    name: str
    service: str
    target: Target
    collect: tuple[str, ...]
    compat_metrics: bool = True
