"""The expositions that stand beside the recordings are what the code makes of them."""

from pathlib import Path

import pytest

from tests.golden import expected
from tests.recorded import RECORDINGS

TEXTS = expected()


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: str(path.relative_to(RECORDINGS)))
def test_recordings_give_the_exposition_beside_them(path: Path) -> None:
    assert path.read_text() == TEXTS[path]


def test_every_expected_exposition_is_compared() -> None:
    assert set(RECORDINGS.glob("*/*.prom")) == set(TEXTS)
