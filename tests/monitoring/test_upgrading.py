"""The rules over patroni_xlog_* in docs/upgrading.md: which nodes of a healthy cluster they select."""

import re
from pathlib import Path

import yaml

from tests.live.installed import needs
from tests.live.processes import ROOT
from tests.monitoring.promtool import INTERVAL, alerts, series
from tests.monitoring.situations import healthy

ROWS = re.findall(r"^\| `(.+?)` \| [^|]+ \| `(.+?)`", (ROOT / "docs" / "upgrading.md").read_text(), re.MULTILINE)

#: The nodes that the old and the new rule select; n1 is the primary, and an aggregation has no instance.
SELECTED = {
    "time() - patroni_xlog_replayed_timestamp > 300": (["n1"], []),
    "min(patroni_xlog_replayed_location)": ([""], [""]),
    "count(patroni_xlog_location)": ([""], [""]),
    "absent(patroni_xlog_location)": ([], []),
    "scalar(max(patroni_xlog_location)) - patroni_xlog_replayed_location > 1e6": (["n1"], []),
    "patroni_xlog_paused == 0": (["n1", "n2", "n3"], ["n2", "n3"]),
}


@needs("promtool")
def test_selected_nodes(tmp_path: Path) -> None:
    table = {old: new for old, new in ROWS if "patroni_xlog" in old and old != new}
    assert table.keys() == SELECTED.keys()
    file = tmp_path / "rules.yml"
    rules = [{"alert": f"{old}: {n}", "expr": expr} for old in table for n, expr in enumerate((old, table[old]))]
    file.write_text(yaml.safe_dump({"groups": [{"name": "upgrading", "rules": rules}]}))
    writes = {f'patroni_xlog_replayed_timestamp{{name="{name}"}}': (0.0, INTERVAL) for name in ("n2", "n3")}
    (found,) = alerts(tmp_path, series(healthy(8, changes=writes)), 7, files=[file])
    for old, selected in SELECTED.items():
        for n, expected in enumerate(selected):
            firing = [alert.get("instance", "") for alert in found if alert["alertname"] == f"{old}: {n}"]
            assert (old, n, sorted(instance.partition(":")[0] for instance in firing)) == (old, n, expected)
