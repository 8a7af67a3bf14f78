"""The expected expositions of the recordings."""

from pathlib import Path

import pytest

from tests.golden import expected
from tests.recorded import RECORDINGS

TEXTS = expected()


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: str(path.relative_to(RECORDINGS)))
def test_exposition(path: Path) -> None:
    assert path.read_text() == TEXTS[path]


def test_every_expected_exposition_is_compared() -> None:
    assert set(RECORDINGS.glob("*/*.prom")) == set(TEXTS)
