"""Secrets that a response repeats."""

import pytest

from exporter.upstream.headers import Secret
from exporter.upstream.redaction import without_secrets
from exporter.upstream.target import Credentials, Header, Login, RequestOptions, Target
from exporter.version import __version__

CREDENTIALS = Credentials(
    (
        Header("X-Auth-Token", Secret("a/b&c")),
        Login("user", Secret('p"<w ')),
        Header("X-Short", Secret("s3c")),
        Header("X-Word", Secret("postgres")),
        Header("X-Port", Secret("5432")),
        Header("Host", Secret("db1.example")),
        Header("X-Public", Secret("public-value"), secret=False),
    )
)
LOGIN = "dXNlcjpwIjx3IA=="


def hidden(body: str, credentials: Credentials) -> str:
    (request,) = Target("http://h", RequestOptions(timeout=5, auth=credentials)).requests(["patroni"])
    return without_secrets([body.encode()], credentials, request)[0].decode()


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
        ("s3c and user and postgres and a/b&", "s3c and user and postgres and a/b&"),
        ('{"port": 5432, "host": "db1.example"}', '{"port": 5432, "host": "db1.example"}'),
        ("public-value", "public-value"),
    ],
)
def test_every_spelling_is_hidden(body: str, shown: str) -> None:
    assert hidden(body, CREDENTIALS) == shown


@pytest.mark.parametrize(
    ("part", "body", "shown"),
    [
        (Header("Authorization", Secret("Bearer t0k en")), "Bearer t0k en, t0k en", "***, ***"),
        (Header("X", Secret("Basic no base64")), "it was Basic no base64", "it was ***"),
        (Header("X", Secret("s3cr")), f"s3cr, patroni-staytus-exporter/{__version__}, identity",
            f"***, patroni-staytus-exporter/{__version__}, identity"),
        (Header("X", Secret("elevenchars")), "elevenchars", "elevenchars"),
        (Header("X", Secret("twelveletter")), "twelveletter", "***"),
        (Header("X", Secret("12345678901")), "12345678901", "12345678901"),
        (Header("X", Secret("123456789012")), "123456789012", "***"),
        (Login("user", Secret("pa:ss5")), "user:pa:ss5, pa:ss5, ss5", "***, ***, ss5"),
    ],
)  # fmt: skip
def test_one_secret(part: Header | Login, body: str, shown: str) -> None:
    assert hidden(body, Credentials((part,))) == shown
