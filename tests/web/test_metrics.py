"""/metrics as Prometheus requests it."""

import gzip
import logging
import math
import platform
from pathlib import Path

import pytest
from flask.testing import FlaskClient
from prometheus_client.openmetrics import parser as openmetrics

from exporter import __version__
from exporter.web.metrics import scrape_seconds
from tests.conftest import Upstream, logged
from tests.limits.scrapes import PATRONI, RECORDED, application, read_samples, scrape
from tests.limits.servers import Odd, silent
from tests.live.processes import families
from tests.recorded import RECORDINGS

RELOAD = "exporter_config_last_reload_successful"


@pytest.fixture
def client(upstream: Upstream) -> FlaskClient:
    upstream.serve(PATRONI)
    return application(f"{upstream.url}/patroni").test_client()


def test_exposition(client: FlaskClient) -> None:
    response = client.get("/metrics")
    assert (response.status_code, response.content_type) == (200, "text/plain; version=0.0.4; charset=utf-8")
    own = ("python_", "process_", "exporter_", "_collector_")
    lines = [line for line in response.text.splitlines(keepends=True) if not any(word in line for word in own)]
    assert "".join(lines) == (RECORDINGS / "patroni" / "exposition.prom").read_text()


def test_families_of_the_scrape_and_the_process(client: FlaskClient) -> None:
    samples = read_samples(client.get("/metrics").text)
    assert samples["exporter_build_info"] == {(platform.python_version(), __version__): 1.0}
    assert samples["patroni_scrape_collector_success"][("node",)] == 1.0
    assert 0 < samples["patroni_scrape_collector_duration_seconds"][("node",)] < 5
    assert samples["process_start_time_seconds"][()] > 0
    assert samples["python_gc_collections"][("0",)] >= 0


def test_nothing_is_requested_before_the_first_scrape(upstream: Upstream, client: FlaskClient) -> None:
    assert upstream.paths == []
    client.get("/metrics")
    assert sorted(upstream.paths) == ["/cluster", "/config", "/failsafe", "/history", "/patroni"]


def test_upstreams_are_down(upstream: Upstream) -> None:
    samples = scrape(application(upstream.url, upstream.url)).samples
    assert (samples["patroni_up"], samples["staytus_up"]) == ({(): 0.0}, {(): 0.0})


@pytest.mark.parametrize("name", ["name[]", "name%5B%5D", "name%5b]"])
def test_names(client: FlaskClient, name: str) -> None:
    response = client.get(f"/metrics?{name}=patroni_up&{name}=patroni_primary&{name}=unknown")
    assert sorted(line for line in response.text.splitlines() if line[0] != "#") == [
        'patroni_primary{name="n1",scope="lab"} 1.0',
        "patroni_up 1.0",
    ]


@pytest.mark.parametrize(
    "name",
    ["process_start_time_seconds", "python_info", "exporter_build_info", "exporter_config_last_reload_successful"],
)
def test_names_of_the_exporter(upstream: Upstream, modules_file: Path, name: str) -> None:
    client = application(upstream.url, EXPORTER_CONFIG_FILE=str(modules_file)).test_client()
    assert families(client.get(f"/metrics?name[]={name}").text) == [name]


def test_gzip_and_openmetrics(client: FlaskClient) -> None:
    accept = "application/openmetrics-text; version=1.0.0"
    response = client.get("/metrics", headers={"Accept-Encoding": "gzip", "Accept": accept})
    assert response.headers["Content-Encoding"] == "gzip"
    assert response.content_type.startswith(accept)
    text = gzip.decompress(response.data).decode()
    parsed = list(openmetrics.text_string_to_metric_families(text))  # type: ignore[no-untyped-call]
    assert [family.samples[0].value for family in parsed if family.name == "patroni_up"] == [1.0]


@pytest.mark.parametrize(
    "accept",
    [
        *("", ";;,,==;q=;version", "\xff\xfe", "text/plain; version=", "text/plain; version=1.0", "version=abc"),
        *(f"application/openmetrics-text; version={version}" for version in ("abc", "1.0.0.a", "\xff", '"1.0.0"')),
        *(f"application/openmetrics-text; version={version}" for version in (" 1.0.0", "1.0.0; version=a")),
        "application/openmetrics-text; version=0.0.1,application/openmetrics-text; version=x",
    ],
)
def test_unusual_accept(client: FlaskClient, accept: str) -> None:
    response = client.get("/metrics?name[]=patroni_up", headers={"Accept": accept})
    assert (response.status_code, response.content_type) == (200, "text/plain; version=0.0.4; charset=utf-8")
    assert response.text.endswith("\npatroni_up 1.0\n")


@pytest.mark.parametrize(("path", "status"), [("/metrics/", 200), ("/metrics/x", 404), ("/metrics//", 404)])
def test_subpaths(client: FlaskClient, path: str, status: int) -> None:
    assert (client.get(path).status_code, client.head(path).status_code) == (status, status)


@pytest.mark.parametrize(("header", "seconds"), [("10", 9.5), ("1.5", 1.0), ("0.4", 0.2), ("", math.inf)])
def test_scrape_seconds(header: str, seconds: float) -> None:
    """The timeout of Prometheus less the time for the response."""
    assert scrape_seconds({"HTTP_X_PROMETHEUS_SCRAPE_TIMEOUT_SECONDS": header}) == seconds


@pytest.mark.parametrize("value", ["ten", "-1", "0", "nan", "-inf", "1,5", "5s", "0x10", "1 2", "\xb2", "1e", "_1"])
def test_scrape_timeout_that_is_not_valid(value: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "exporter")
    assert scrape_seconds({"HTTP_X_PROMETHEUS_SCRAPE_TIMEOUT_SECONDS": value}) == math.inf
    assert logged(caplog) == [
        {"msg": "header ignored", "header": "X-Prometheus-Scrape-Timeout-Seconds", "value": value}
    ]
    assert caplog.records[0].levelno == logging.DEBUG


def test_hung_staytus_delays_patroni_no_longer_than_its_timeout(upstream: Upstream) -> None:
    upstream.serve(PATRONI)
    with Odd(silent) as hung:
        scraped = scrape(application(upstream.url, hung.url, STAYTUS_TIMEOUT="0.3"))
    assert 0.3 <= scraped.seconds < 2
    assert (scraped.samples["patroni_up"], scraped.samples["staytus_up"]) == ({(): 1.0}, {(): 0.0})
    assert scraped.samples["patroni_cluster_members"] == {("lab",): 3.0}
    assert max(scraped.samples["patroni_scrape_collector_duration_seconds"].values()) < 0.3


@pytest.fixture
def modules_file(tmp_path: Path) -> Path:
    file = tmp_path / "modules.yml"
    file.write_text("modules: {m: {collector: patroni, targets: [localhost]}}")
    return file


def test_reload_state_is_current_within_the_interval_of_staytus(upstream: Upstream, modules_file: Path) -> None:
    upstream.serve(RECORDED)
    settings = {"EXPORTER_CONFIG_FILE": str(modules_file), "POLLING_INTERVAL_SECONDS": "60"}
    app = application("", upstream.url, **settings)
    states = []
    for text in (modules_file.read_text(), "modules: 7", "modules: {}"):
        modules_file.write_text(text)
        samples = scrape(app).samples
        states.append(samples[RELOAD][()])
        assert samples["staytus_up"] == {(): 1.0}
    assert states[:2] == [1.0, 0.0]
    assert len(upstream.paths) == 2
