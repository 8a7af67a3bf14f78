"""The values of the recording rules that docs/alerts.md documents."""

import re
from pathlib import Path

import pytest

from tests.live.installed import needs
from tests.live.processes import ROOT
from tests.monitoring.promtool import Phase, holds, series
from tests.monitoring.situations import LAG, healthy, listing, recorded, standby_and_source

DOCUMENTED = set(re.findall(r"`(patroni:[\w:]+)`", (ROOT / "docs" / "alerts.md").read_text()))

#: n2 is behind and n3 is not, and the last transaction was committed at the first minute.
BEHIND = healthy(20, changes={LAG: 2e6, "patroni_xlog_replayed_timestamp": 60.0})
WRITING = healthy(20, changes={'patroni_xlog_location{name="n1"}': (68242616.0, 3e8)})
UNKNOWN = healthy(
    20, changes={f'patroni_member_{kind}lag_bytes{{name="n2"}}': None for kind in ("", "replay_", "receive_")}
)
FORBIDDEN = recorded("tags", 20)

VALUES: list[tuple[Phase, str]] = [
    (BEHIND, 'patroni:member_leader{name="n1"} == 1 and on () patroni:member_leader{name="n2"} == 0'),
    (BEHIND, 'patroni:member_following{name="n2"} == 1 and on () patroni:member_following{name="n1"} == 0'),
    (recorded("start-failed", 20), 'patroni:member_up{name="n1"} == 1 and on () patroni:member_up{name="n2"} == 0'),
    (recorded("sync-2", 20), "sum(patroni:member_synchronous) == 2"),
    (BEHIND, 'patroni:member_lag_bytes{name="n2"} == 2e6 and on () patroni:member_lag_bytes{name="n3"} == 0'),
    (
        BEHIND,
        'patroni:member_lag_seconds{name="n2"} == 1020 and on () patroni:member_lag_seconds{name="n3"} == 0',
    ),
    (UNKNOWN, 'patroni:member_lag_known{name="n2"} == 0 and on () patroni:member_lag_known{name="n3"} == 1'),
    (BEHIND, "count(patroni:member_lag_known) == 2"),
    (WRITING, "9e6 < (patroni:cluster_wal_bytes:rate5m < 11e6)"),
    (recorded("paused", 20), "patroni:cluster_paused == 1"),
    (BEHIND, "patroni:cluster_paused == 0"),
    (recorded("not-streaming", 20), "sum(patroni:replica_healthy) == 0 and on () count(patroni:replica_healthy) == 2"),
    (BEHIND, "sum(patroni:replica_healthy) == 2"),
    (listing(BEHIND, n2={"timeline": 7}), 'patroni:replica_healthy{name="n2"} == 0'),
    (BEHIND, "count(patroni:member_candidate) == 2"),
    (FORBIDDEN, 'patroni:member_candidate{name="n3"} unless on () patroni:member_candidate{name="n2"}'),
]


@needs("promtool")
@pytest.mark.parametrize(("phase", "expr"), VALUES, ids=[expr for _, expr in VALUES])
def test_value(tmp_path: Path, phase: Phase, expr: str) -> None:
    assert holds(tmp_path, series(phase), 18, expr)


@needs("promtool")
def test_lag_of_a_standby_leader_to_its_source(tmp_path: Path) -> None:
    given = standby_and_source(series, 20, 5000)
    assert holds(tmp_path, given, 18, 'patroni:member_lag_bytes{scope="dr", name="n1"} == 5000')


def test_every_documented_record_is_tested() -> None:
    assert {name for name in DOCUMENTED if not any(name in expr for _, expr in VALUES)} == set()
