"""The format that all responses of the Staytus API share; most errors have HTTP status 200."""

from exporter.collectors.document import Answer, Fields, ParseError, kind_of

#: The error statuses of the API (moonrope, errors.rb and rack_middleware.rb); other texts are not quoted.
ERRORS = (
    "error",
    "internal-server-error",
    "invalid-controller-or-action",
    "invalid-json",
    "not-found",
    "parameter-error",
    "validation-error",
)


def envelope(answer: Answer) -> tuple[Fields, ...]:
    """Returns the objects of the list `data`; raises ParseError if the response is not a success."""
    fields = answer.fields()
    status = fields.text("status")
    if status == "access-denied":
        raise ParseError("access-denied: Staytus does not accept this token and secret")
    if status != "success":
        found = status if status in ERRORS else kind_of(status)
        raise ParseError(f"HTTP {answer.status}: expected status 'success', found {found}")
    if answer.status != 200:
        raise ParseError(f"HTTP {answer.status}: expected 200")
    return fields.items("data")
