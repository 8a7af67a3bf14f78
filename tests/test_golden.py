"""The expected expositions of the recordings."""

from tests.golden import expected
from tests.recorded import RECORDINGS


def test_expositions() -> None:
    texts = expected()
    for path, text in texts.items():
        assert path.read_text() == text, path
    assert set(RECORDINGS.glob("*/*.prom")) == set(texts)
