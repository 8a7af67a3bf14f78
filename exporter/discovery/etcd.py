"""The clusters in an etcd, which is read through its JSON gateway."""

import base64
import logging
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from exporter.collectors.document import Answer, Fields, ParseError
from exporter.config.discovery import Etcd
from exporter.config.readers import password
from exporter.discovery.clusters import FoundCluster
from exporter.discovery.keys import Keys
from exporter.log import Event
from exporter.upstream.errors import FetchError, not_sent
from exporter.upstream.headers import header_value

log = logging.getLogger(__name__)

#: The paths of the gateway: since etcd 3.4, in 3.3, and in 3.2 and earlier, which have no authentication there.
GATEWAYS = ("/v3", "/v3beta", "/v3alpha")

#: Keys of a response. Those of a cluster are about ten, and have some 500 bytes each.
PAGE = 1000

#: The codes of gRPC for a request that any endpoint refuses: InvalidArgument, PermissionDenied and Unauthenticated.
REFUSED = (3, 7, 16)


class EtcdError(Exception):
    """The clusters cannot be read; the text is one line without secrets. `code` is that of gRPC, 0 if there is none."""

    def __init__(self, reason: str, code: int = 0) -> None:
        super().__init__(reason)
        self.code = code

    @property
    def needs_token(self) -> bool:
        """Whether the request had no token, or one that is not valid any more."""
        return self.code == 16 or (
            self.code == 3 and str(self).endswith(("user name is empty", "revision of auth store is old"))
        )


def clusters(etcd: Etcd, seconds: float) -> list[FoundCluster]:
    """Returns the clusters below the prefix, without a view, within `seconds`; raises EtcdError.

    A member whose value is not valid is left out, with a warning in the log.
    """
    client = _clients.get(etcd) or _clients.setdefault(etcd, _Client(etcd))
    keys = client.keys(time.monotonic() + seconds)
    found = keys.clusters()
    if keys.skipped:
        log.warning(
            Event("members in etcd skipped", prefix=etcd.prefix, members=len(keys.skipped), reason=keys.skipped[0])
        )
    return found


class _Client:
    """What is kept between two reads: the endpoint that responded, the path of its gateway, and the token."""

    def __init__(self, etcd: Etcd) -> None:
        self._etcd = etcd
        self._endpoints = etcd.endpoints  # the one that responded last is the first
        self._gateway = GATEWAYS[0]
        self._token: str | None = None  # empty if authentication is not enabled

    def keys(self, end: float) -> Keys:
        """Returns the keys from the first endpoint that has them; `end` is in monotonic seconds."""
        endpoints, failures = self._endpoints, []
        for index, endpoint in enumerate(endpoints):
            attempt = _Attempt(endpoint, end, share=len(endpoints) - index)
            try:
                keys = self._keys(attempt)
            except (EtcdError, FetchError, ParseError) as error:
                failures.append(f"{endpoint}: {error}")
                if isinstance(error, EtcdError) and error.code in REFUSED:
                    break
            else:
                self._endpoints = endpoints[index:] + endpoints[:index]
                return keys
        raise EtcdError("; ".join(failures))

    def _keys(self, attempt: "_Attempt") -> Keys:
        """Returns the keys, page by page at the revision of the first one."""
        keys = Keys(self._etcd.prefix)
        key = self._etcd.prefix.encode()
        body = {"key": "", "range_end": _encode(key[:-1] + b"0"), "limit": PAGE, "revision": "0"}
        while True:
            body["key"] = _encode(key)
            try:
                page = self._call(attempt, "/kv/range", body)
            except (EtcdError, FetchError) as error:
                if not _can_continue(body, str(error)):
                    raise
                continue
            rows = page.items("kvs")
            for row in rows:
                key = _decode(row, "key")
                keys.add(key, _decode(row, "value"))
            if not page.flag("more"):
                return keys
            if not rows:
                raise ParseError("kvs: expected keys, since there are more")
            key += b"\0"  # the next key
            if body["revision"] == "0":
                body["revision"] = (page.fields("header") or page).required_text("revision")

    def _call(self, attempt: "_Attempt", method: str, body: Mapping[str, Any]) -> Fields:
        """Returns the response; authenticates before if that is necessary."""
        if not self._etcd.user:
            return self._post(attempt, method, body)
        if self._token is None:
            self._authenticate(attempt)
        try:
            return self._post(attempt, method, body)
        except EtcdError as error:
            if not error.needs_token:
                raise
        self._authenticate(attempt)
        return self._post(attempt, method, body)

    def _authenticate(self, attempt: "_Attempt") -> None:
        """Gets a token. It expires five minutes after its last use by default, and when etcd is restarted."""
        self._token = None
        try:
            text = self._etcd.password.read(password, password.expected) if self._etcd.password else ""
        except (OSError, ValueError) as error:
            raise not_sent(error) from None
        try:
            response = self._post(attempt, "/auth/authenticate", {"name": self._etcd.user, "password": text})
            self._token = header_value(response.required_text("token"))
        except EtcdError as error:
            if not str(error).endswith("authentication is not enabled"):
                raise
            self._token = ""
        except ValueError:
            raise ParseError("token: expected one line of ASCII") from None

    def _post(self, attempt: "_Attempt", method: str, body: Mapping[str, Any]) -> Fields:
        """Returns the response of the first gateway that the endpoint has."""
        options = self._etcd.options
        for gateway in dict.fromkeys((self._gateway, *GATEWAYS)):
            response = options.session.post(
                f"{attempt.endpoint}{gateway}{method}",
                json=body,
                headers={"Authorization": self._token} if self._token else {},
                timeout=attempt.seconds(options.timeout),
            )
            if response.status_code != 404:
                self._gateway = gateway
                break
        answer = Answer(response.status_code, response.content)
        if response.status_code != 200:
            raise _error(answer, hidden=(self._token, body.get("password")))
        return answer.fields()


@dataclass(frozen=True)
class _Attempt:
    """A read of one endpoint, which leaves time for others; `share` is their number, with this one."""

    endpoint: str
    end: float
    share: int

    def seconds(self, most: float) -> float:
        """Returns how many seconds its next request may take."""
        seconds = round((self.end - time.monotonic()) / self.share, 2)
        if seconds <= 0:
            raise EtcdError("the time is up")
        return min(most, seconds)


#: The clients of this process.
_clients: dict[Etcd, _Client] = {}


def _can_continue(body: dict[str, Any], reason: str) -> bool:
    """Changes the request so that it does not fail again for this reason; returns False if that is not possible."""
    if "larger than" in reason and body["limit"] > 1:  # than our limit, or that of the gateway, which is 4 MiB in 3.3
        body["limit"] = max(1, body["limit"] // 8)
        return True
    if "revision has been compacted" in reason:  # the other pages are those of a newer revision
        body["revision"] = "0"
        return True
    return False


def _error(answer: Answer, hidden: Iterable[str | None]) -> EtcdError:
    """Returns the error in a response, without these secrets. The key of the message depends on the version."""
    try:
        fields = answer.fields()
        code, message = fields.integer("code"), fields.text("message") or fields.text("error") or ""
    except ParseError:
        code, message = None, ""
    for secret in filter(None, hidden):
        message = message.replace(secret, "***")
    return EtcdError(f"HTTP {answer.status}: {ascii(message)[1:-1][:200] or 'expected 200'}", code or 0)


def _encode(key: bytes) -> str:
    return base64.b64encode(key).decode()


def _decode(row: Fields, name: str) -> bytes:
    """Returns a value in base64; an empty one is left out by etcd."""
    try:
        return base64.b64decode(row.text(name) or "", validate=True)
    except ValueError:
        raise ParseError(f"{name}: expected base64") from None
