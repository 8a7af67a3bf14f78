"""Fixtures of the hosts: one checkout, and an upstream that is Patroni and Staytus."""

from collections.abc import Iterator

import pytest

from tests.conftest import Upstream
from tests.hosts import hosts
from tests.limits.scrapes import STAYTUS
from tests.live.processes import recorded


@pytest.fixture(scope="session")
def shared_checkout() -> Iterator[hosts.Checkout]:
    with hosts.checkout() as made:
        yield made


@pytest.fixture
def checkout(shared_checkout: hosts.Checkout) -> Iterator[hosts.Checkout]:
    """The checkout, without a `.env`."""
    yield shared_checkout
    (shared_checkout.folder / ".env").unlink(missing_ok=True)


@pytest.fixture
def upstream(upstream: Upstream) -> Upstream:
    """The upstream with the recorded responses of Patroni and Staytus."""
    recorded(upstream).serve(STAYTUS)
    return upstream
