"""Secrets that a server repeats in its response are hidden before the response is read."""

import base64
import html
import json
from collections.abc import Iterator, Sequence
from contextlib import suppress
from functools import lru_cache
from urllib.parse import quote, quote_plus

from requests import PreparedRequest

from exporter.upstream.target import Credentials, Header

#: Characters of the shortest secret that is hidden, and of the shortest that has only letters or only digits. Shorter
#: ones, such as `postgres` or `5432`, occur in documents by chance.
SHORTEST, SHORTEST_WORD = 4, 12

#: Headers that are never secret.
_PUBLIC = ("user-agent", "accept-encoding", "host")


def without_secrets(texts: Sequence[bytes], credentials: Credentials, request: PreparedRequest) -> Sequence[bytes]:
    """Returns the texts with *** in place of the secrets of a request, also as HTML, JSON or a URL spell them."""
    if credentials.parts:
        spellings = {spelling for secret in _secrets(credentials, request) for spelling in _spellings(secret)}
        for spelling in sorted(spellings, key=len, reverse=True):
            texts = [text.replace(spelling, b"***") for text in texts]
    return texts


def _secrets(credentials: Credentials, request: PreparedRequest) -> Iterator[str]:
    public = {part.name.lower() for part in credentials.parts if isinstance(part, Header) and not part.secret}
    for name, value in request.headers.items():
        if name.lower() in public or name.lower() in _PUBLIC:
            continue
        yield value
        scheme, _, token = value.partition(" ")
        if name.lower() == "authorization":
            yield token
        if scheme == "Basic":
            with suppress(ValueError):  # a header of the operator's own
                login = base64.b64decode(token).decode()
                yield from (token, login, login.partition(":")[2])


@lru_cache(maxsize=256)
def _spellings(secret: str) -> frozenset[bytes]:
    if len(secret) < (SHORTEST_WORD if secret.isalpha() or secret.isdigit() else SHORTEST):
        return frozenset()
    in_json = json.dumps(secret)[1:-1]
    in_urls = (quote(secret), quote(secret, safe=""), quote_plus(secret))
    texts = {secret, html.escape(secret), in_json, in_json.replace("/", r"\/"), *in_urls}
    return frozenset(text.encode() for text in texts)
