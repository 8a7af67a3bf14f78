"""/metrics as Prometheus asks for it."""

import gzip
import math
import platform
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from prometheus_client.openmetrics import parser as openmetrics
from prometheus_client.parser import text_string_to_metric_families

from exporter import __version__, create_app
from exporter.config.settings import Settings
from exporter.web.metrics import budget
from tests.conftest import Upstream
from tests.recorded import RECORDINGS, moment

LEADER = moment("4.1.5", "failsafe-enabled", "n1").answers


def settings(upstream: Upstream) -> Settings:
    return Settings.load({"PATRONI_EXPORTER_URL": f"{upstream.url}/patroni"})


def test_metrics_are_the_expected_exposition_of_the_recording(upstream: Upstream) -> None:
    upstream.serve(LEADER)
    answer = create_app(settings(upstream)).test_client().get("/metrics")
    assert answer.status_code == 200
    assert answer.content_type.startswith("text/plain; version=0.0.4; charset=utf-8")
    own = [
        line
        for line in answer.text.splitlines(keepends=True)
        if "python_" not in line and "process_" not in line and "_build_info" not in line and "_collector_" not in line
    ]
    assert "".join(own) == (RECORDINGS / "patroni" / "exposition.prom").read_text()


def test_metrics_tell_of_the_scrape_and_of_the_process(upstream: Upstream) -> None:
    upstream.serve(LEADER)
    answer = create_app(settings(upstream)).test_client().get("/metrics")
    samples = {
        (sample.name, tuple(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }
    build = (("pythonversion", platform.python_version()), ("version", __version__))
    assert samples["exporter_build_info", build] == 1.0
    assert samples["patroni_scrape_collector_success", (("collector", "node"),)] == 1.0
    assert 0 < samples["patroni_scrape_collector_duration_seconds", (("collector", "node"),)] < 5
    assert samples["process_start_time_seconds", ()] > 0
    assert samples["python_gc_collections_total", (("generation", "0"),)] >= 0


def test_metrics_are_200_when_nobody_answers(upstream: Upstream) -> None:
    answer = create_app(settings(upstream)).test_client().get("/metrics")
    assert (answer.status_code, "patroni_up 0.0\n" in answer.text) == (200, True)


@pytest.mark.parametrize("name", ["name[]", "name%5B%5D", "name%5b]"])
def test_name_chooses_families(name: str, upstream: Upstream) -> None:
    upstream.serve(LEADER)
    answer = create_app(settings(upstream)).test_client().get(f"/metrics?{name}=patroni_up&{name}=patroni_primary")
    assert [line for line in answer.text.splitlines() if line[0] != "#"] == [
        'patroni_primary{name="n1",scope="lab"} 1.0',
        "patroni_up 1.0",
    ]


def test_gzip_and_openmetrics_are_negotiated(upstream: Upstream) -> None:
    upstream.serve(LEADER)
    answer = (
        create_app(settings(upstream))
        .test_client()
        .get("/metrics", headers={"Accept-Encoding": "gzip", "Accept": "application/openmetrics-text; version=1.0.0"})
    )
    assert answer.headers["Content-Encoding"] == "gzip"
    assert answer.content_type.startswith("application/openmetrics-text; version=1.0.0")
    text = gzip.decompress(answer.data).decode()
    families = list(openmetrics.text_string_to_metric_families(text))  # type: ignore[no-untyped-call]
    assert [family.samples[0].value for family in families if family.name == "patroni_up"] == [1.0]


def test_nothing_is_fetched_before_the_first_scrape(upstream: Upstream) -> None:
    app = create_app(settings(upstream))
    assert upstream.paths == []
    app.test_client().get("/metrics")
    assert sorted(upstream.paths) == ["/cluster", "/config", "/failsafe", "/history", "/patroni"]


@pytest.mark.parametrize("path", ["/metrics/x", "/metric", "/nothing"])
def test_other_paths_are_404(upstream: Upstream, path: str) -> None:
    assert create_app(settings(upstream)).test_client().get(path).status_code == 404


@pytest.mark.parametrize(
    ("header", "seconds"),
    [("10", 9.5), ("1.5", 1.0), ("0.4", 0.2), ("", math.inf), ("ten", math.inf), ("-1", math.inf), ("nan", math.inf)],
)
def test_budget_is_what_prometheus_leaves_less_the_way_back(header: str, seconds: float) -> None:
    assert budget({"HTTP_X_PROMETHEUS_SCRAPE_TIMEOUT_SECONDS": header}) == seconds


def test_budget_is_without_limit_where_nobody_says() -> None:
    assert budget({}) == math.inf


def test_scrapes_that_waited_for_the_same_answers_get_the_same_page_and_later_ones_their_own(
    upstream: Upstream,
) -> None:
    upstream.serve(LEADER)
    release = upstream.hold(*LEADER)
    client = create_app(settings(upstream)).test_client
    with ThreadPoolExecutor(6) as clients:
        pages = [clients.submit(lambda: client().get("/metrics").data) for _ in range(5)]
        other = clients.submit(lambda: client().get("/metrics?name[]=patroni_up").data)
        while len(upstream.paths) < 5:
            time.sleep(0.01)
        time.sleep(0.2)  # so that all have come to wait
        release.set()
        (page,) = {page.result() for page in pages}
    assert other.result().endswith(b"\npatroni_up 1.0\n")
    assert len(upstream.paths) == 5
    assert client().get("/metrics").data != page
    assert len(upstream.paths) == 10
