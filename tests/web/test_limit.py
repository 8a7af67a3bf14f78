"""The limit of probes: how many there can be under each server, and what happens beyond it."""

import sys
from types import SimpleNamespace
from typing import Any

import pytest
from werkzeug.exceptions import ServiceUnavailable

import exporter.web.limit as limit_module
from exporter.web.limit import ConcurrencyLimit, limit_threads, probe_limit
from tests.conftest import logged
from tests.counted import counts


def served(limit: ConcurrencyLimit) -> int:
    """The number of probes that are served at once."""
    if counts(limit.counter)["probes"]:
        return 0
    try:
        with limit.one():
            return 1 + served(limit)
    except ServiceUnavailable:
        return 0


@pytest.mark.parametrize(
    ("probes", "threads", "limit"),
    [(200, 256, 200), (200, 201, 200), (200, 64, 63), (200, 2, 1), (200, 1, 1)],
)
def test_threads_of_gunicorn(probes: int, threads: int, limit: int, caplog: pytest.LogCaptureFixture) -> None:
    assert served(probe_limit(probes, threads)) == limit
    reduced = {"msg": "EXPORTER_PROBES reduced", "probes": probes, "threads": threads, "limit": limit}
    assert logged(caplog) == ([reduced] if limit < probes else [])


@pytest.mark.parametrize(
    ("options", "limit"),
    [
        ({"threads": b"8"}, 7),
        ({"threads": b"512"}, 200),
        ({"threads": True}, 1),
        ({}, 1),
    ],
)
def test_threads_of_uwsgi(options: dict[str, Any], limit: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "uwsgi", SimpleNamespace(opt=options))
    assert served(probe_limit(200, 256)) == limit


def test_threads_of_mod_wsgi(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mod_wsgi", SimpleNamespace(threads_per_process=15))
    assert served(probe_limit(200, 256)) == 14


def test_host_that_starts_no_more_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Probes leave one of the threads that run, for a minute."""
    monkeypatch.setattr(limit_module, "_threads", None)
    limit_threads(3)
    assert served(ConcurrencyLimit(5)) == 2
    monkeypatch.setattr(limit_module, "THREADS_AGAIN", 0.0)
    assert served(ConcurrencyLimit(5)) == 5


def test_refused_requests_are_counted() -> None:
    limit = ConcurrencyLimit(1)
    with limit.one(), pytest.raises(ServiceUnavailable) as refused, limit.one():
        pass
    assert (refused.value.description, refused.value.retry_after) == (
        "1 probes are being served, the limit of EXPORTER_PROBES: try again later",
        1,
    )
    with pytest.raises(ServiceUnavailable, match="too many: try again later"):
        limit.refuse("requests", "too many")
    assert counts(limit.counter) == {"probes": 1, "requests": 1, "overload": 0}
    with limit.one():
        pass
