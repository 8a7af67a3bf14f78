"""What a server says of the secrets that it was shown is hidden, before anything is quoted of it."""

import base64
import html
import json
from contextlib import suppress
from urllib.parse import quote, quote_plus

from exporter.upstream.target import Target

#: Characters that a secret has at least; what is shorter stands in any text by chance.
LEAST = 4


def without_secrets(body: bytes, target: Target) -> bytes:
    """Returns the body with *** in place of the secrets of this target, also as HTML, JSON or a URL spell them.

    A server that shows a bad request to whoever sent it says them all again.
    """
    spellings = {spelling for secret in _secrets(target) for spelling in _spellings(secret)}
    for spelling in sorted(spellings, key=len, reverse=True):
        if len(spelling) >= LEAST:
            body = body.replace(spelling.encode(), b"***")
    return body


def _secrets(target: Target) -> set[str]:
    headers = set(target.headers)
    for file in target.header_files:
        with suppress(OSError, ValueError):
            headers |= set(file.headers())
    secrets = {value for _, value in headers}
    secrets |= {value.partition(" ")[2] for name, value in headers if name.lower() == "authorization"}
    for login in [secret.partition(" ")[2] for secret in secrets if secret.startswith("Basic ")]:
        with suppress(ValueError):  # a header that somebody gave as it is
            text = base64.b64decode(login).decode()
            secrets |= {login, text, text.partition(":")[2]}
    return secrets


def _spellings(secret: str) -> set[str]:
    in_json = json.dumps(secret)[1:-1]
    in_urls = {quote(secret), quote(secret, safe=""), quote_plus(secret)}
    return {secret, html.escape(secret), in_json, in_json.replace("/", r"\/"), *in_urls}
