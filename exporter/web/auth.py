"""The lock before all doors: users with passwords, and the headers that go with every answer."""

import base64
import hashlib
import logging
import secrets
import threading
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from werkzeug.wrappers import Response

from exporter.config.errors import ConfigError
from exporter.log import known
from exporter.web.web_config import WebConfigFile

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

log = logging.getLogger(__name__)

#: What only says that this process answers.
HEALTH = ("/-/healthy", "/-/ready")

#: How many good logins are remembered, which each scrape would else pay some 0.1 s of computing for.
REMEMBERED = 100


def locked(app: "WSGIApplication", path: str, *, open_health: bool) -> "WSGIApplication":
    """Returns the application behind what the web configuration file says, which is read again when it changes.

    Raises ConfigError for a file that cannot be used.
    """
    config = WebConfigFile.load(path)
    config.log_state()
    for remark in config.get().tls.remarks:
        log.warning("%s: %s", path, remark, extra=known("TLS is not as the file says", file=path, reason=remark))
    logins = Logins()
    told = threading.Event()

    def answer(environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        now = config.get()
        if now.tls.is_on and environ["wsgi.url_scheme"] != "https" and not told.is_set():
            told.set()
            reason = "tls_server_config is not served here; gunicorn does so, from its start on"
            log.warning("%s: %s", path, reason, extra=known("no TLS is served", file=path, reason=reason))

        def start(status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Any:
            ours = {name.lower() for name, _ in now.headers}
            return start_response(
                status, [h for h in headers if h[0].lower() not in ours] + list(now.headers), exc_info
            )

        is_open = not now.users or (open_health and environ.get("PATH_INFO") in HEALTH)
        if is_open or logins.good(environ.get("HTTP_AUTHORIZATION", ""), now.users):
            return app(environ, start)
        return unauthorized(environ, start)

    return answer


#: The same for whoever gave nothing, another user and another password.
unauthorized = Response(
    "Unauthorized: a user and a password are asked for\n",
    401,
    {"WWW-Authenticate": 'Basic realm="exporter", charset="UTF-8"', "Content-Type": "text/plain; charset=utf-8"},
)


class Logins:
    """Compares logins with bcrypt hashes, and remembers the last good ones by a digest that is worth nothing elsewhere.

    No thread waits for another one's hash.
    """

    def __init__(self) -> None:
        try:
            # Not at the top, so that whoever has no passwords needs no bcrypt: a process can import it into one
            # interpreter alone, and mod_wsgi makes one for each application that is not in its global group.
            from bcrypt import checkpw
        except ImportError as error:
            raise ConfigError(f"no passwords: {error}; mod_wsgi needs WSGIApplicationGroup %{{GLOBAL}}") from None
        self._checkpw = checkpw
        self._key = secrets.token_bytes(32)
        self.remembered: dict[bytes, None] = {}  # never changed, only replaced

    def good(self, authorization: str, users: Mapping[str, str]) -> bool:
        """Tells whether the header of a request is the login of one of the users (RFC 7617)."""
        scheme, _, credentials = authorization.partition(" ")
        if scheme.lower() != "basic":
            return False
        try:
            login = base64.b64decode(credentials.strip(), validate=True)
        except ValueError:
            return False
        name, colon, password = login.partition(b":")
        if not colon:
            return False
        user_hash, known = hash_of(name, users, self._key)
        # With the hash, which has 60 characters: who has another password now is not remembered by the old one.
        digest = hashlib.blake2b(user_hash + login, key=self._key).digest()
        if digest in self.remembered:
            return True
        if not self._checkpw(password[:72], user_hash) or not known:  # 72 bytes are all that bcrypt counts anywhere
            return False
        self.remembered = dict.fromkeys([*list(self.remembered)[1 - REMEMBERED :], digest])
        return True


def hash_of(name: bytes, users: Mapping[str, str], key: bytes) -> tuple[bytes, bool]:
    """Returns the hash of this user and True; else one that costs as much as that of some user, and False.

    It is always that of the same user for the same unknown name, so that no name stands out where costs differ.
    """
    known = users.get(name.decode("utf-8", "surrogateescape"))
    if known is not None:
        return known.encode(), True
    hashes = sorted(users.values())
    like = hashes[int.from_bytes(hashlib.blake2b(name, key=key).digest()) % len(hashes)]
    return like[:7].encode() + b"." * 53, False  # its version and cost, and what is the hash of no password
