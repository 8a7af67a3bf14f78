"""Basic authentication with the users of the web configuration file, and its headers on every response."""

import base64
import hashlib
import logging
import secrets
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from werkzeug.exceptions import TooManyRequests
from werkzeug.wrappers import Response

from exporter.config.errors import ConfigError
from exporter.log import Event
from exporter.upstream.headers import Headers
from exporter.web.web_config import WebConfig

log = logging.getLogger(__name__)

#: The paths that only say that this process answers.
HEALTH = ("/-/healthy", "/-/ready")

#: Logins that are remembered, good ones and wrong ones each: a hash takes about 0.1 s.
REMEMBERED = 100

#: Hashes that are computed or waited for at once, and those of one client: one client cannot keep the others out.
HASHES = 4
HASHES_PER_CLIENT = 2

#: Requests that wait for a hash at once; also never more than half of the threads.
WAITING = 32

#: The same for no login, an unknown user and a wrong password.
UNAUTHORIZED = Response(
    "Unauthorized: a user name and a password are required\n",
    401,
    {"WWW-Authenticate": 'Basic realm="exporter", charset="UTF-8"', "Content-Type": "text/plain; charset=utf-8"},
)


def basic_auth(
    app: WSGIApplication, config: Callable[[], WebConfig], passwords: "PasswordCache", *, open_health: bool
) -> WSGIApplication:
    """Returns the application for the users of the current configuration; for everyone where it has none.

    With `open_health`, HEALTH needs no login. The application raises TooManyRequests (see PasswordCache).
    """

    def wsgi(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        users = config().users
        is_open = not users or (open_health and environ.get("PATH_INFO") in HEALTH)
        login, client = environ.get("HTTP_AUTHORIZATION", ""), environ.get("REMOTE_ADDR", "")
        if is_open or passwords.verify(login, users, client):
            return app(environ, start_response)
        return UNAUTHORIZED(environ, start_response)

    return wsgi


def with_headers(app: WSGIApplication, headers: Callable[[], Headers]) -> WSGIApplication:
    """Returns the application with these headers on every response, in place of its own of the same names."""

    def wsgi(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        ours = headers()
        names = {name.lower() for name, _ in ours}

        def start(status: str, theirs: list[tuple[str, str]], exc_info: Any = None) -> Any:
            return start_response(status, [h for h in theirs if h[0].lower() not in names] + list(ours), exc_info)

        return app(environ, start)

    return wsgi


def with_tls_warnings(app: WSGIApplication, config: Callable[[], WebConfig], file: str) -> WSGIApplication:
    """Returns the application; logs where the TLS of the file is not or not fully served."""
    for remark in config().tls.remarks:
        log.warning(Event("TLS setting not applied", file=file, reason=remark))
    logged = threading.Event()

    def wsgi(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        if config().tls.is_on and environ["wsgi.url_scheme"] != "https" and not logged.is_set():
            logged.set()
            reason = "only gunicorn serves tls_server_config, and only if it was set at the start"
            log.warning(Event("TLS not served", file=file, reason=reason))
        return app(environ, start_response)

    return wsgi


class PasswordCache:
    """Verifies logins with bcrypt, one at a time, and remembers the last good and the last wrong ones.

    A remembered login never waits. It is kept as a digest with a key of this process. Thread-safe.
    """

    def __init__(self, threads: int = 2 * WAITING) -> None:
        try:
            # Not at the top: a process can import bcrypt into one interpreter only, and mod_wsgi has one for each
            # application outside its global group. Without passwords that must not fail.
            from bcrypt import checkpw
        except ImportError as error:
            raise ConfigError(f"no passwords: {error}; mod_wsgi needs WSGIApplicationGroup %{{GLOBAL}}") from None
        self._checkpw = checkpw
        self._key = secrets.token_bytes(32)
        self._most_waiting = max(1, min(WAITING, threads // 2))
        self._one_at_a_time = threading.Lock()
        self._lock = threading.Lock()  # for all below; it is never held for as long as a hash takes
        #: Refused logins since the start by reason; `busy` are those with a TooManyRequests.
        self.refused = Counter(missing=0, wrong=0, busy=0)
        self._remembered: dict[bool, dict[bytes, None]] = {True: {}, False: {}}
        self._waiting: list[tuple[str, bytes]] = []  # client and digest of each request

    def verify(self, authorization: str, users: Mapping[str, str], client: str) -> bool:
        """Returns whether this Authorization header is the login of one of the users.

        Raises TooManyRequests where too many hashes of other logins wait, of all clients or of this one.
        """
        login = _login(authorization)
        if login is None:
            return self._refuse("missing")
        name, password = login
        user_hash, is_user = hash_of(name, users)
        # With the hash, which has 60 characters: after a change of the password the old one is not remembered.
        digest = hashlib.blake2b(b"%b%b:%b" % (user_hash, name, password), key=self._key).digest()
        is_good = self._is_remembered(digest)
        if is_good is None:
            with self._waits(client, digest), self._one_at_a_time:
                is_good = self._is_remembered(digest)  # since another request with this login was verified
                if is_good is None:
                    is_good = self._checkpw(password[:72], user_hash) and is_user  # bcrypt uses only 72 bytes
                    self._remember(digest, is_good)
        return is_good or self._refuse("wrong")

    def _is_remembered(self, digest: bytes) -> bool | None:
        return next((is_good for is_good, digests in self._remembered.items() if digest in digests), None)

    def _remember(self, digest: bytes, is_good: bool) -> None:
        with self._lock:
            digests = self._remembered[is_good]
            digests[digest] = None
            if len(digests) > REMEMBERED:
                del digests[next(iter(digests))]

    @contextmanager
    def _waits(self, client: str, digest: bytes) -> Iterator[None]:
        """Counts a request that waits for a hash; raises TooManyRequests at a limit."""
        request = (client, digest)
        with self._lock:
            requests = {*self._waiting, request}  # those with the same login wait for the same hash
            hashes, own = {digest for _, digest in requests}, sum(other == client for other, _ in requests)
            if len(self._waiting) >= self._most_waiting or len(hashes) > HASHES or own > HASHES_PER_CLIENT:
                self.refused["busy"] += 1
                raise TooManyRequests("too many logins are verified right now: try again later", retry_after=1)
            self._waiting.append(request)
        try:
            yield
        finally:
            with self._lock:
                self._waiting.remove(request)

    def _refuse(self, reason: str) -> bool:
        with self._lock:
            self.refused[reason] += 1
        return False


def hash_of(name: bytes, users: Mapping[str, str]) -> tuple[bytes, bool]:
    """Returns the hash of this user and True; for an unknown user the hash of no password, and False.

    The latter has the highest cost of all users, so that with one cost for all no time tells whether a user exists.
    """
    user_hash = users.get(name.decode("utf-8", "surrogateescape"))
    if user_hash is not None:
        return user_hash.encode(), True
    cost = max(known[4:6] for known in users.values())
    return f"$2b${cost}${'.' * 53}".encode(), False


def _login(authorization: str) -> tuple[bytes, bytes] | None:
    """Returns the user and the password of an Authorization header (RFC 7617)."""
    scheme, _, credentials = authorization.partition(" ")
    try:
        name, colon, password = base64.b64decode(credentials.strip(), validate=True).partition(b":")
    except ValueError:
        return None
    return (name, password) if scheme.lower() == "basic" and colon else None
