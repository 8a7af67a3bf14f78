"""Basic authentication with the users of the web configuration file, after its rate limit."""

import base64
import hashlib
import logging
import secrets
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from werkzeug.exceptions import TooManyRequests
from werkzeug.wrappers import Response

from exporter.config.errors import ConfigError
from exporter.counters import LOGINS_REFUSED, counter
from exporter.log import Event
from exporter.web.rate_limit import RateLimiter
from exporter.web.web_config import WebConfigFile

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


def access_control(
    app: WSGIApplication, file: WebConfigFile, limiter: RateLimiter, passwords: "PasswordCache", *, open_health: bool
) -> WSGIApplication:
    """Returns the application with the rate limit and for the users of the file, as they are at each request.

    With `open_health`, HEALTH has neither. The application raises TooManyRequests (see RateLimiter and PasswordCache).
    Where the server does not serve the TLS of the file, that is logged once.
    """
    logged = threading.Event()

    def wsgi(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        config = file.get()
        if config.tls.is_on and environ["wsgi.url_scheme"] != "https" and not logged.is_set():
            logged.set()
            reason = "only gunicorn serves tls_server_config, and only if it was set at the start"
            log.warning(Event("TLS not served", file=file.path, reason=reason))
        if not (open_health and environ.get("PATH_INFO") in HEALTH):
            limiter.acquire(config.rate_limit)
            login, client = environ.get("HTTP_AUTHORIZATION", ""), environ.get("REMOTE_ADDR", "")
            if config.users and not passwords.verify(login, config.users, client):
                return UNAUTHORIZED(environ, start_response)
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
        self._remembered: dict[bool, dict[bytes, None]] = {True: {}, False: {}}  # changed with the lock above
        self._lock = threading.Lock()  # for what is below; it is never held for as long as a hash takes
        self.counter = counter(LOGINS_REFUSED)
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
        is_good = self._known(digest)
        if is_good is None:
            with self._waits(client, digest), self._one_at_a_time:
                is_good = self._known(digest)  # since another request with this login was verified
                if is_good is None:
                    is_good = self._checkpw(password[:72], user_hash) and is_user  # bcrypt uses only 72 bytes
                    remembered = self._remembered[is_good]
                    remembered[digest] = None
                    if len(remembered) > REMEMBERED:
                        del remembered[next(iter(remembered))]
        return is_good or self._refuse("wrong")

    def _known(self, digest: bytes) -> bool | None:
        return next((is_good for is_good, digests in self._remembered.items() if digest in digests), None)

    @contextmanager
    def _waits(self, client: str, digest: bytes) -> Iterator[None]:
        """Counts a request that waits for a hash; raises TooManyRequests at a limit."""
        request = (client, digest)
        with self._lock:
            requests = {*self._waiting, request}  # those with the same login wait for the same hash
            hashes, own = {digest for _, digest in requests}, sum(other == client for other, _ in requests)
            if len(self._waiting) >= self._most_waiting or len(hashes) > HASHES or own > HASHES_PER_CLIENT:
                self.counter.labels("busy").inc()
                raise TooManyRequests("too many logins are verified right now: try again later", retry_after=1)
            self._waiting.append(request)
        try:
            yield
        finally:
            with self._lock:
                self._waiting.remove(request)

    def _refuse(self, reason: str) -> bool:
        self.counter.labels(reason).inc()
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
