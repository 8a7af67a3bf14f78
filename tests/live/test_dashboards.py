"""The dashboards' queries on a real Prometheus that scrapes what real Patroni and Staytus said."""

import json
import time
import urllib.parse
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from exporter.collectors.document import Answer
from tests.conftest import Upstream
from tests.limits.scrapes import STAYTUS, application
from tests.live.installed import needs
from tests.live.processes import until
from tests.live.prometheus import Prometheus, prometheus
from tests.monitoring.promtool import RULES
from tests.recorded import moments
from tests.test_dashboards import FILES, Query, queries

pytestmark = [needs("prometheus"), pytest.mark.timeout(120)]

#: Recorded states of clusters, each as a cluster of its own with the state's name, by version of Patroni.
STATES = {
    "1.6.5": ["healthy-async"],
    "4.1.5": [
        "dcs-down",
        "failsafe-enabled",
        "history-4-timelines",
        "lag",
        "paused",
        "pending-restart",
        "quorum",
        "scheduled",
        "standby-cluster",
        "sync-2",
        "sync-strict-alone",
        "tags",
    ],
}

#: What no recording has set: in the cluster "tags" it is.
MORE_CONFIGURATION = b'{"ttl": 20, "maximum_lag_on_syncnode": 65536, "primary_start_timeout": 300, '
MORE_TAGS = b'"failover_priority": 5, "nosync": true, "replicatefrom": "n2"'

Row = dict[str, str]


def named(scope: str, answers: dict[str, Answer]) -> dict[str, Answer]:
    """The answers as a cluster of this name would give them."""
    bodies = {path: answer.body for path, answer in answers.items()}
    for recorded in (b"lab", b"dr"):
        bodies = {
            path: body.replace(b'"scope": "%s"' % recorded, b'"scope": "%s"' % scope.encode())
            for path, body in bodies.items()
        }
    if scope == "tags":
        bodies["/config"] = bodies["/config"].replace(b'{"ttl": 20, ', MORE_CONFIGURATION)
        bodies["/cluster"] = bodies["/cluster"].replace(b'"failover_priority": 5', MORE_TAGS)
    return {path: Answer(answers[path].status, body) for path, body in bodies.items()}


def exposition(answers: dict[str, Answer]) -> tuple[int, bytes]:
    """What the exporter serves before a Patroni and a Staytus that answer so."""
    with Upstream() as upstream:
        upstream.serve(answers)
        page = application(upstream.url, upstream.url).test_client().get("/metrics")
        return page.status_code, page.data


def pages() -> Iterator[tuple[str, tuple[int, bytes]]]:
    """The paths of the pages that Prometheus scrapes, one for each node of each state, and the pages."""
    for version, states in STATES.items():
        for moment in moments(version):
            if moment.state in states:
                scope = moment.state if version == "4.1.5" else version
                yield f"/{scope}/{moment.node}", exposition({**named(scope, moment.answers), **STAYTUS})
    yield "/dead/n1", exposition({})


@pytest.fixture(scope="module")
def watching(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    """A Prometheus that has scraped every page, and one of them before and after its configuration changed."""
    with Upstream() as exporters:
        exporters.answers.update(pages())
        scrapes = [
            {
                "job_name": path,
                "metrics_path": path,
                "static_configs": [{"targets": [f"127.0.0.1:{exporters.server_port}"], "labels": {"instance": path}}],
            }
            for path in exporters.answers
        ]
        folder = tmp_path_factory.mktemp("prometheus")
        configuration = {
            "global": {"scrape_interval": "3s", "scrape_timeout": "3s", "evaluation_interval": "1s"},
            "scrape_configs": scrapes,
            "rule_files": [str(file) for file in at_once(folder)],
        }
        with prometheus(folder, configuration) as running:
            until(lambda: len(ask(running, "up == 1")) == len(scrapes))
            status, page = exporters.answers["/lag/n1"]  # type: ignore[misc]
            before = next(line for line in page.splitlines() if line.startswith(b"patroni_config_hash{"))
            exporters.answers["/lag/n1"] = status, page.replace(before, before.split(b"}")[0] + b"} 7")
            until(lambda: ask(running, "patroni_config_hash == 7"))
            until(lambda: ask(running, 'ALERTS{alertname="PatroniCommitsBlocked"}'))
            until(lambda: ask(running, "patroni:cluster_wal_bytes:rate5m"))
            yield running


def at_once(folder: Path) -> list[Path]:
    """The rules without the time that a condition must last."""
    files = []
    for file in RULES:
        rules = yaml.safe_load(file.read_text())
        for rule in (rule for group in rules["groups"] for rule in group["rules"]):
            rule.pop("for", None)
        files.append(folder / file.name)
        files[-1].write_text(yaml.safe_dump(rules))
    return files


def ask(watching: Prometheus, expression: str) -> list[tuple[Row, str]]:
    """The labels and the values of the series that the expression gives now."""
    found = watching.api("query", query=expression)["result"]
    return [(series["metric"], series["value"][1]) for series in found]


def put_in(query: Query, scope: str) -> str:
    """The expression with the variables replaced as Grafana does."""
    values = {
        "$scope": scope,
        "$instance": ".+",
        "$__range": "1h",
        **dict.fromkeys(("$job", "$namespace", "$cluster"), ".*"),
    }
    expr = query.expr
    for variable, value in values.items():
        expr = expr.replace(variable, value)
    assert "$" not in expr.replace('"$1"', ""), query
    return expr


SCOPES = ["1.6.5", *STATES["4.1.5"]]


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_each_query_gives_something_for_a_cluster_that_has_it_and_no_error_for_others(
    watching: Prometheus, file: Path
) -> None:
    given = {query: [scope for scope in SCOPES if ask(watching, put_in(query, scope))] for query in queries(file)}
    assert [query for query, scopes in given.items() if not scopes] == []


@pytest.mark.parametrize(
    ("file", "values"),
    [
        ("patroni-fleet.json", {"scope": SCOPES}),
        ("patroni-cluster.json", {"scope": SCOPES}),
        ("staytus.json", {"instance": [f"/{scope}/n1" for scope in ("1.6.5", "dead", "lag")]}),
    ],
)
def test_variables_offer_what_there_is(watching: Prometheus, file: str, values: dict[str, list[str]]) -> None:
    (path,) = [each for each in FILES if each.name == file]
    for variable in json.loads(path.read_text())["templating"]["list"]:
        if variable["name"] not in values:
            continue
        query = put_in(Query(variable["name"], variable["query"]), "")
        match, label = query.removeprefix("label_values(").removesuffix(")").rsplit(", ", 1)
        parameters = urllib.parse.urlencode({"match[]": match})
        status, text = watching.served.get(f"/api/v1/label/{label}/values?{parameters}")
        assert status == 200
        offered = json.loads(text)["data"]
        assert set(values[variable["name"]]) <= set(offered)
        if label == "scope":
            assert offered == sorted(SCOPES)


def table(watching: Prometheus, where: str, key: str, scope: str) -> dict[str, Row]:
    """A table as its columns fill it, without the first, whose label `key` names the rows.

    Asserts that no row has two values in a column.
    """
    file = next(file for file in FILES if file.stem == where.split(":")[0])
    first, *columns = [query for query in queries(file) if query.column and query.where == where]
    rows: dict[str, Row] = {labels[key]: {} for labels, _ in ask(watching, put_in(first, scope))}
    for query in columns:
        for labels, value in ask(watching, put_in(query, scope)):
            row = rows[labels[key]]
            assert query.column not in row, (query, labels)
            row[query.column] = labels.get(query.label, "") if query.label else value
    return rows


def test_fleet_has_one_row_for_each_cluster_though_every_node_tells_of_it(watching: Prometheus) -> None:
    rows = table(watching, "patroni-fleet: Clusters", "scope", ".+")
    assert sorted(rows) == sorted(SCOPES)
    assert [scope for scope, row in rows.items() if row.pop("DCS last seen", None) is None] == ["1.6.5"]
    healthy = {
        "Nodes that answer": "3",
        "Leader": "n1",
        "Members": "3",
        "Worst lag": "0",
        "Timeline": "1",
        "Unlocked": "0",
        "Paused": "0",
        "Failsafe active": "0",
        "Waiting for a restart": "0",
        "Versions of Patroni": "1",
    }
    assert rows["1.6.5"] == healthy
    assert rows["paused"] == {**healthy, "Paused": "1"}
    assert rows["pending-restart"] == {**healthy, "Waiting for a restart": "3"}
    assert rows["lag"] == {**healthy, "Worst lag": "3928392"}
    assert rows["history-4-timelines"] == {**healthy, "Timeline": "4"}
    told_without_dcs = ("Nodes that answer", "Paused", "Failsafe active", "Versions of Patroni")
    assert rows["dcs-down"] == {**{title: healthy[title] for title in told_without_dcs}, "Unlocked": "1"}


def test_members_are_rows_with_role_state_lag_timeline_and_tags(watching: Prometheus) -> None:
    common = {"State": "streaming", "Timeline": "1", "Waits for a restart": "0", "Host": "127.0.0.1"}
    leader = {**common, "Role": "leader", "State": "running"}
    replica = {**common, "Role": "replica"}
    lagging = table(watching, "patroni-cluster: Members", "name", "lag")
    seconds = {name: float(row.pop("Lag, s", 0)) for name, row in lagging.items()}
    assert [name for name, lag in seconds.items() if lag > 0] == ["n2", "n3"]
    assert lagging == {
        "n1": leader,
        "n2": {**replica, "Lag": "3928392", "Not received": "0", "Not replayed": "3928392"},
        "n3": {**replica, "Lag": "3928392", "Not received": "3928392", "Not replayed": "3928392"},
    }
    tagged = table(watching, "patroni-cluster: Members", "name", "tags")
    assert {row.pop("Lag, s", "0") for row in tagged.values()} == {"0"}
    assert tagged == {
        "n1": {**leader, "clonefrom": "true", "failover_priority": "5", "nosync": "true", "replicatefrom": "n2"},
        "n2": {
            **replica,
            "State": "running",
            "Lag": "0",
            "Not replayed": "0",
            "nofailover": "true",
            "noloadbalance": "true",
            "nostream": "true",
        },
        "n3": {**replica, "Lag": "0", "Not received": "0", "Not replayed": "0", "clonefrom": "true", "nosync": "true"},
    }


def test_nodes_are_rows_also_where_they_do_not_know_their_names(watching: Prometheus) -> None:
    rows = table(watching, "patroni-cluster: Nodes", "instance", "1.6.5")
    uptimes = {exporter: float(row.pop("Uptime")) for exporter, row in rows.items()}
    started = {exporter: time.time() - uptime for exporter, uptime in uptimes.items()}
    assert started == pytest.approx(
        {"/1.6.5/n1": 1795223796.718, "/1.6.5/n2": 1795223798.799, "/1.6.5/n3": 1795223798.523}, abs=10
    )
    node = {
        "Name": "",
        "PostgreSQL runs": "1",
        "Patroni": "10605",
        "PostgreSQL": "150018",
        "Replay paused": "0",
        "Failover priority": "1",
        "Sees the lock": "1",
    }
    assert rows == dict.fromkeys(uptimes, node)


def test_services_and_open_issues_are_rows(watching: Prometheus) -> None:
    rows = table(watching, "staytus: Services", "service_permalink", "")
    assert {permalink: tuple(row.values()) for permalink, row in rows.items()} == {
        "api": ("API", "2", "Degraded Performance"),
        "customer-support": ("Customer Support", "1", "Maintenance"),
        "public-website": ("Public Website", "3", "Major Outage"),
        "web-application": ("Web Application", "0", "Operational"),
    }
    issues = table(watching, "staytus: Open issues", "identifier", "").values()
    assert sorted(tuple(row.values()) for row in issues) == [
        ("API errors", "investigating", "partial-outage", "1795204800000", "1795217751000"),
        (
            'Public website unreachable "503" — недоступен',
            "identified",
            "major-outage",
            "1795208400000",
            "1795217751000",
        ),
        ("Slow logins", "monitoring", "degraded-performance", "1795217751000", "1795217751000"),
    ]
