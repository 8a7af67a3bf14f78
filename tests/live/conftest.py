"""What the tests of real servers share."""

from collections.abc import Iterator

import pytest

from tests.live.processes import free_port


@pytest.fixture
def port() -> Iterator[int]:
    """A port that nobody listens on."""
    with free_port() as number:
        yield number
