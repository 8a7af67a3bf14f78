"""What the collectors of Patroni share."""

import re

from exporter.collectors.document import Answer, NotSupported, ParseError

SCOPE = ("scope",)
SCOPE_NAME = ("scope", "name")


class UnknownPath(ParseError):
    """Patroni does not have the path, but this version has the document: the path in the target's URL is wrong."""


def require_ok(answer: Answer, since: str) -> Answer:
    """Returns the response if its HTTP status is 200, which all documents except /patroni must have.

    Patroni responds to an unknown path as to a health check, with 200 or 503 and the JSON of /patroni (patroni/api.py,
    do_GET). Raises NotSupported for this response from a version before `since`, the first one with the document, and
    UnknownPath from later versions. Raises ParseError for all other statuses.
    """
    # As json.dumps writes it; parsing each document twice would take too long.
    if b'"patroni": {' in answer.body and (version := _version(answer)) is not None:
        number = version_number(version)
        if number is None or number < (version_number(since) or 0):
            raise NotSupported
        raise UnknownPath("not a path of Patroni's REST API: expected a URL such as http://localhost:8008/patroni")
    if answer.status != 200:
        raise ParseError(f"HTTP {answer.status}: expected 200")
    return answer


def _version(answer: Answer) -> str | None:
    """Returns the version of Patroni in the JSON of /patroni; None if the response is another one."""
    try:
        patroni = answer.fields().fields("patroni") if answer.status in (200, 503) else None
        return None if patroni is None else patroni.text("version") or ""
    except ParseError:
        return None


def version_number(version: str) -> int | None:
    """Returns a version of Patroni as a number, with two digits per part: 4.1.5 is 40105."""
    parts = re.match(r"(\d{1,4})\.(\d{1,2})(?:\.(\d{1,2}))?", version)
    return None if parts is None else int(parts[1]) * 10000 + int(parts[2]) * 100 + int(parts[3] or 0)
