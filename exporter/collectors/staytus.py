"""The envelope that every answer of the Staytus API comes in, and its errors, most of which have HTTP status 200."""

from exporter.collectors.document import Answer, Fields, ParseError


def envelope(answer: Answer) -> tuple[Fields, ...]:
    """Returns the objects of the list in `data`.

    Raises ParseError with the API's own word (such as access-denied) when the answer is not a success.
    """
    if answer.status >= 300 and not answer.body.lstrip().startswith(b"{"):
        raise ParseError(f"HTTP {answer.status}")  # 404 in HTML, 500 in plain text, a proxy's redirect
    fields = answer.fields()
    status = fields.text("status")
    if status == "access-denied":
        raise ParseError("access-denied: Staytus does not accept this token and secret")
    if status != "success":
        raise ParseError(f"HTTP {answer.status} with status {(status or 'nothing')[:60]!r}, not 'success'")
    if answer.status != 200:
        raise ParseError(f"HTTP {answer.status}, not 200")
    return fields.items("data")
