"""What the collectors of Patroni share."""

from exporter.collectors.document import Answer, NotSupported, ParseError

SCOPE = ("scope",)
SCOPE_NAME = ("scope", "name")


def require_ok(answer: Answer) -> Answer:
    """Returns the response if its HTTP status is 200, which all documents except /patroni must have.

    Raises NotSupported if this version of Patroni does not have the path: it then responds as to a failed health check,
    with 503 and the JSON of /patroni (patroni/api.py, do_GET). Raises ParseError for all other statuses.
    """
    if answer.status == 503:
        try:
            is_unknown_path = answer.fields().fields("patroni") is not None
        except ParseError:
            is_unknown_path = False
        if is_unknown_path:
            raise NotSupported
    if answer.status != 200:
        raise ParseError(f"HTTP {answer.status}: expected 200")
    return answer
