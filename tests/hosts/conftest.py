"""Fixtures for the hosts: one checkout as a user has it, and an upstream that is a real Patroni and Staytus at once."""

from collections.abc import Iterator

import pytest

from tests.conftest import Upstream
from tests.hosts.hosts import Place, checkout
from tests.limits.scrapes import STAYTUS
from tests.live.processes import free_port, recorded


@pytest.fixture(scope="session")
def _checkout() -> Iterator[Place]:
    with checkout() as made:
        yield made


@pytest.fixture
def place(_checkout: Place) -> Iterator[Place]:
    """The checkout, without a `.env`."""
    yield _checkout
    (_checkout.folder / ".env").unlink(missing_ok=True)


@pytest.fixture
def both(upstream: Upstream) -> Upstream:
    """The upstream with the answers of a real Patroni and of a real Staytus."""
    recorded(upstream).serve(STAYTUS)
    return upstream


@pytest.fixture
def port() -> Iterator[int]:
    with free_port() as number:
        yield number
