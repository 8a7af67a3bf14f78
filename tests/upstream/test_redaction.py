"""What is hidden of an answer that says again what it was asked with."""

import base64

import pytest

from exporter.upstream.redaction import without_secrets
from exporter.upstream.target import Target

LOGIN = base64.b64encode(b'user:p"<w ').decode()
TARGET = Target(
    "http://h", 5, True, headers=(("X-Auth-Token", "a/b&c"), ("Authorization", f"Basic {LOGIN}"), ("X", "up"))
)


@pytest.mark.parametrize(
    ("body", "shown"),
    [
        ("X-Auth-Token: a/b&c", "X-Auth-Token: ***"),
        ("a/b&amp;c", "***"),
        (r'"a\/b&c"', '"***"'),
        ("a%2Fb%26c a/b%26c", "*** ***"),
        (f"Authorization: Basic {LOGIN}", "Authorization: ***"),
        (f"basic {LOGIN}", "basic ***"),
        ('user:p"<w , p"<w , p&quot;&lt;w , p%22%3Cw+, p\\"<w .', "***, ***, ***, ***, ***."),
        ("up and user and a/b&", "up and user and a/b&"),
    ],
)
def test_secret_that_is_said_again_is_hidden_in_every_spelling(body: str, shown: str) -> None:
    assert without_secrets(body.encode(), TARGET) == shown.encode()


def test_header_that_is_no_login_though_it_says_so_is_hidden_as_it_is() -> None:
    target = Target("http://h", 5, True, headers=(("X", "Basic \xe9 no base64"),))
    assert without_secrets("it was Basic \xe9 no base64".encode(), target) == b"it was ***"
