"""What the documents of Patroni have in common: which answers count, and the labels of whom they speak of."""

from exporter.collectors.document import Answer, NotProvided, ParseError

SCOPE = ("scope",)
SCOPE_NAME = ("scope", "name")


def counting(answer: Answer) -> Answer:
    """Returns the answer when its HTTP status is 200, which is when any document but /patroni counts.

    Raises NotProvided for the answer to a path that this version of Patroni does not know, which is 503 with the JSON
    of /patroni (patroni/api.py: an unknown path is a health check), and ParseError for every other status.
    """
    if answer.status == 200:
        return answer
    if answer.status == 503:
        try:
            unknown_path = "patroni" in answer.fields()
        except ParseError:
            unknown_path = False
        if unknown_path:
            raise NotProvided
    raise ParseError(f"HTTP {answer.status}, not 200")
