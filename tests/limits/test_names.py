"""Targets by name while lookups hang or fail."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest

from tests.conftest import Upstream
from tests.limits.resolver import resolver
from tests.live.installed import needs
from tests.live.processes import Served, recorded, running_exporter, until

pytestmark = needs("gcc")

#: Names that start with h hang. The others are 127.0.0.1, do not exist or hang, as the files here say.
NAMES = """
    if (node && strstr(node, ".example")) {
        if (node[0] == 'h' || !access("hang", F_OK)) { sleep(30); return EAI_AGAIN; }
        if (!access("fail", F_OK)) return EAI_AGAIN;
        if (!access("none", F_OK)) return EAI_NONAME;
        node = "127.0.0.1";
    }
"""

MODULES = "modules: {fleet: {collector: patroni, timeout: 4s, collect: [node], targets: ['*.example']}}\n"


@pytest.fixture
def exporter(tmp_path: Path) -> Iterator[Served]:
    """An exporter that looks up each name again at each scrape."""
    file = tmp_path / "modules.yml"
    file.write_text(MODULES)
    code, environ = "import exporter.upstream.names as names; names.KEPT = 0", resolver(tmp_path, NAMES)
    with running_exporter(tmp_path, "--config.file", str(file), before=code, environ=environ) as served:
        yield served


def up(served: Served, target: str) -> str:
    """Returns the sample patroni_up of a target."""
    return served.get(f"/probe?module=fleet&target={target}&name[]=patroni_up")[1].splitlines()[-1][-3:]


def test_names_that_hang_do_not_delay_others(exporter: Served, upstream: Upstream) -> None:
    port = recorded(upstream).url.rpartition(":")[2]
    with ThreadPoolExecutor(100) as prometheus:
        hanging = [prometheus.submit(up, exporter, f"h{number}.example:{port}") for number in range(100)]
        until(lambda: up(exporter, f"new.example:{port}") == "1.0")
        assert {each.result() for each in hanging} == {"0.0"}
    reasons = {event["reason"] for event in exporter.events("exporter.scrape")}
    assert reasons <= {"no response within 4 s", "no connection within 4 s"}
    until(lambda: up(exporter, f"new.example:{port}") and "in_flight 0.0\n" in exporter.get("/metrics")[1])


@pytest.mark.parametrize("trouble", ["hang", "fail"])
def test_known_name(exporter: Served, upstream: Upstream, tmp_path: Path, trouble: str) -> None:
    """Its addresses are used while the name server does not respond, and no longer when the name does not exist."""
    target = "known.example:" + recorded(upstream).url.rpartition(":")[2]
    scrape = partial(up, exporter, target)
    assert scrape() == "1.0"
    (tmp_path / trouble).touch()
    assert [scrape(), scrape(), up(exporter, f"new-{target}")] == ["1.0", "1.0", "0.0"]
    if trouble == "fail":
        (event,) = until(lambda: exporter.events("exporter.upstream"))
        assert (event["msg"], event["host"]) == ("lookup failed, known addresses are used", "known.example")
        reason = "the lookup of the host name failed: temporary failure in name resolution"
        assert [event["reason"] for event in exporter.events("exporter.scrape")] == [reason]


def test_name_that_is_removed_and_comes_back(exporter: Served, upstream: Upstream, tmp_path: Path) -> None:
    target = "known.example:" + recorded(upstream).url.rpartition(":")[2]
    scrape = partial(up, exporter, target)
    assert scrape() == "1.0"
    (removed := tmp_path / "none").touch()
    until(lambda: scrape() == "0.0")
    assert {event["reason"] for event in exporter.events("exporter.scrape")} == {"the host name is not known"}
    removed.unlink()
    until(lambda: scrape() == "1.0")
