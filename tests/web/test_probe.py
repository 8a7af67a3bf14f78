"""/probe: the families of one target, rejected requests, limits, and debug=true."""

import time
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from threading import Event
from urllib.parse import quote

import pytest
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from exporter.upstream.adapter import LATE, is_overloaded
from exporter.upstream.client import PER_HOST, Client, Response
from tests.conftest import Upstream, at, begin, value_of
from tests.limits.scrapes import PATRONI, STAYTUS, Samples, application, read_samples
from tests.limits.servers import Odd, silent
from tests.live.processes import families, until
from tests.recorded import RECORDINGS

MODULES = """\
modules:
  patroni:
    collector: patroni
    targets: [127.0.0.1, db1.example.org, "*.example.org:8008", 10.0.0.0/8]
  node:
    collector: patroni
    collect: [node]
    basic_auth: {username: monitor, password: hush-hush}
    http_headers: {X-Key: {secrets: [top-secret]}}
    timeout: 400ms
    targets: [127.0.0.1, localhost]
  status:
    collector: staytus
    token: t0ken
    secret: s3cret
    allow_paths: true
    targets: [127.0.0.1]
"""


def client_of(folder: Path, text: str = MODULES, **settings: str) -> FlaskClient:
    """A client of an exporter with this modules file."""
    file = folder / "modules.yml"
    file.write_text(text)
    return application(EXPORTER_CONFIG_FILE=str(file), **settings).test_client()


@pytest.fixture
def client(tmp_path: Path) -> FlaskClient:
    return client_of(tmp_path)


def probe(client: FlaskClient, module: str, target: str, more: str = "", **headers: str) -> TestResponse:
    return client.get(f"/probe?module={quote(module)}&target={quote(target, safe='')}{more}", headers=headers)


def host(upstream: Upstream) -> str:
    return upstream.url.removeprefix("http://")


@pytest.mark.parametrize("form", ["{host}", "{url}", "{url}/", "{url}/patroni", "{url}/patroni/"])
def test_exposition_of_the_target(upstream: Upstream, client: FlaskClient, form: str) -> None:
    upstream.serve(PATRONI)
    response = probe(client, "patroni", form.format(host=host(upstream), url=upstream.url))
    assert (response.status_code, response.content_type) == (200, "text/plain; version=0.0.4; charset=utf-8")
    lines = [line for line in response.text.splitlines(keepends=True) if "_collector_" not in line]
    assert "".join(lines) == (RECORDINGS / "patroni" / "exposition.prom").read_text()
    assert families(response.text)[-3:] == [
        "patroni_up",
        "patroni_scrape_collector_success",
        "patroni_scrape_collector_duration_seconds",
    ]
    assert sorted(upstream.paths) == ["/cluster", "/config", "/failsafe", "/history", "/patroni"]


def test_staytus_below_a_path(upstream: Upstream, client: FlaskClient) -> None:
    upstream.serve({f"/s{path}": answer for path, answer in STAYTUS.items()})
    response = probe(client, "status", f"{upstream.url}/s/")
    assert ("staytus_up 1.0\n" in response.text, "patroni_" in response.text) == (True, False)
    assert [(r["X-Auth-Token"], r["X-Auth-Secret"]) for _, r in upstream.requests] == [("t0ken", "s3cret")] * 2


def test_collectors_and_credentials_of_the_module(upstream: Upstream, client: FlaskClient) -> None:
    upstream.serve(PATRONI)
    assert "patroni_up 1.0\n" in probe(client, "node", host(upstream)).text
    ((path, headers),) = upstream.requests
    assert (path, headers["Authorization"], headers["X-Key"]) == (
        "/patroni",
        "Basic bW9uaXRvcjpodXNoLWh1c2g=",
        "top-secret",
    )


@pytest.mark.parametrize(
    ("query", "paths"),
    [
        ("&collect[]=node", ["/patroni"]),
        ("&collect=node", ["/patroni"]),
        ("&collect[]=cluster&collect[]=history", ["/cluster", "/history"]),
    ],
)
def test_selected_collectors(upstream: Upstream, client: FlaskClient, query: str, paths: list[str]) -> None:
    upstream.serve(PATRONI)
    assert "patroni_up 1.0\n" in probe(client, "patroni", host(upstream), query).text
    assert sorted(upstream.paths) == paths


def test_timeouts_of_the_module_and_of_prometheus(client: FlaskClient) -> None:
    with Odd(silent) as server:
        for headers, seconds in [({"X-Prometheus-Scrape-Timeout-Seconds": "0.2"}, 0.1), ({}, 0.4)]:
            start = time.monotonic()
            text = probe(client, "node", server.url, **headers).text
            assert seconds <= time.monotonic() - start < seconds + 1.5
            assert "patroni_up 0.0\n" in text


def test_names_and_openmetrics(upstream: Upstream, client: FlaskClient) -> None:
    upstream.serve(PATRONI)
    response = probe(client, "patroni", host(upstream), "&name[]=patroni_up", Accept="application/openmetrics-text")
    assert response.text.endswith("patroni_up 1.0\n# EOF\n")
    assert families(response.text) == ["patroni_up"]


EXPECTED = (
    "is not valid: expected HOST, HOST:PORT or a URL such as http://db1:8008, with IPv6 in brackets and without "
    "user, query or fragment"
)
NO_MODULE = "expected one parameter module, the name of a module in the modules file"
NO_TARGET = "expected one parameter target, the host and port to probe"
METADATA = (
    "target 169.254.169.254:8008 is a link-local or metadata address, which is allowed only if the targets of this "
    "module have it as an address or as a network of its own"
)


@pytest.mark.parametrize(
    ("query", "status", "sentence"),
    [
        *((query, 400, NO_MODULE) for query in ("", "?target=a", "?module=patroni&module=node&target=a")),
        ("?module=<b>&target=127.0.0.1", 400, "unknown module '<b>': it is not in the modules file"),
        *((f"?module=patroni{query}", 400, NO_TARGET) for query in ("", "&target=", "&target=a&target=b")),
        ("?module=patroni&target=::1", 400, f"target '::1' {EXPECTED}"),
        ("?module=patroni&target=u:hush@127.0.0.1", 400, f"a target with a user {EXPECTED}"),
        (
            "?module=node&target=127.0.0.1&collect[]=cluster",
            400,
            "collect[]='cluster': expected a collector of module node: node",
        ),
        ("?module=patroni&target=127.0.0.1&debug=perhaps", 400, "expected debug=true or debug=false"),
        ("?module=patroni&target=127.0.0.2", 403, "target 127.0.0.2:8008 is not among the targets of this module"),
        ("?module=patroni&target=169.254.169.254", 403, METADATA),
        (
            "?module=patroni&target=http://127.0.0.1/x",
            403,
            "the targets of this module must have no path (allow_paths)",
        ),
    ],
)
def test_rejected_request(client: FlaskClient, query: str, status: int, sentence: str) -> None:
    response = client.get(f"/probe{query}")
    assert (response.status_code, response.text) == (status, f"{sentence}\n")
    headers = (response.content_type, response.headers["X-Content-Type-Options"])
    assert headers == ("text/plain; charset=utf-8", "nosniff")


def test_no_modules_file() -> None:
    response = application().test_client().get("/probe?module=patroni&target=a")
    sentence = "no modules: EXPORTER_CONFIG_FILE or --config.file is not set\n"
    assert (response.status_code, response.text) == (400, sentence)


def refused(client: FlaskClient) -> Samples:
    """The requests that were refused, by reason."""
    families = ("probes_refused", "requests_refused")
    names = "&".join(f"name[]=patroni_staytus_exporter_{family}_total" for family in families)
    samples = read_samples(client.get(f"/metrics?{names}").text)
    return {family: samples[f"patroni_staytus_exporter_{family}"] for family in families}


def test_limit_of_probes(tmp_path: Path) -> None:
    text = "modules: {slow: {collector: patroni, collect: [node], timeout: 2s, targets: [127.0.0.1]}}"
    app = client_of(tmp_path, text, EXPORTER_PROBES="2").application
    client = app.test_client()
    with Odd(silent) as one, Odd(silent) as two, ThreadPoolExecutor(2) as prometheus:
        served = [prometheus.submit(probe, app.test_client(), "slow", hung.url) for hung in (one, two)]
        until(lambda: (one.connections, two.connections) == (1, 1))
        for path in ("/probe", "/sd"):
            response = client.get(f"{path}?module=slow&target={one.url}")
            sentence = "2 probes are being served, the limit of EXPORTER_PROBES: try again later\n"
            assert (response.status_code, response.headers["Retry-After"], response.text) == (503, "1", sentence)
        assert client.get("/-/healthy").status_code == 200
        assert [response.result().status_code for response in served] == [200, 200]
        assert probe(client, "slow", one.url).status_code == 200
    assert refused(client) == {
        "probes_refused": {("probes",): 2.0, ("requests",): 0.0, ("overload",): 0.0},
        "requests_refused": {("host",): 0.0, ("total",): 0.0},
    }


def test_limit_of_requests_to_one_host(tmp_path: Path) -> None:
    """A client cannot exceed it with other paths, which are other targets."""
    text = "modules: {m: {collector: patroni, collect: [node], allow_paths: true, targets: [127.0.0.1]}}"
    client = client_of(tmp_path, text)
    with Odd(silent) as server:
        timeout = {"X-Prometheus-Scrape-Timeout-Seconds": "0.1"}
        responses = [probe(client, "m", f"{server.url}/{number}", **timeout) for number in range(PER_HOST + 1)]
    assert [response.status_code for response in responses] == [200] * PER_HOST + [503]
    sentence = f"{PER_HOST} requests to {server.url[7:]} are in flight, the limit of one host: try again later\n"
    assert (responses[-1].headers["Retry-After"], responses[-1].text) == ("1", sentence)
    assert refused(client) == {
        "probes_refused": {("probes",): 0.0, ("requests",): 1.0, ("overload",): 0.0},
        "requests_refused": {("host",): 1.0, ("total",): 0.0},
    }


class Busy:
    """A document that keeps the thread that sends requests busy, until `end` is set."""

    def __init__(self, upstream: Upstream) -> None:
        self.begun, self.end = Event(), Event()
        begin(Client(), at(upstream.url), "patroni", self._read)

    def _read(self, _: Response) -> None:
        self.begun.set()
        self.end.wait(10)


def test_overload(upstream: Upstream, client: FlaskClient) -> None:
    """Requests are late twice in a row."""
    upstream.serve(PATRONI)
    first = Busy(upstream)
    assert first.begun.wait(5)
    second = Busy(upstream)
    time.sleep(2 * LATE)
    assert not is_overloaded()
    first.end.set()
    assert second.begun.wait(5)
    assert not is_overloaded()
    third = begin(Client(), at(upstream.url), "patroni")
    time.sleep(2 * LATE)
    for path in ("/probe", "/sd"):
        response = client.get(f"{path}?module=node&target={host(upstream)}")
        sentence = f"the CPU is overloaded: requests wait for more than {LATE} s to be sent: try again later\n"
        assert (response.status_code, response.headers["Retry-After"], response.text) == (503, "1", sentence)
    second.end.set()
    assert value_of(third)[0] == 200
    assert "\npatroni_up 1.0\n" in probe(client, "node", host(upstream)).text
    assert refused(client)["probes_refused"] == {("probes",): 0.0, ("requests",): 0.0, ("overload",): 2.0}


# debug=true


def test_debug_page(upstream: Upstream, client: FlaskClient) -> None:
    upstream.serve(PATRONI)
    response = probe(client, "node", host(upstream), "&debug=true")
    assert response.content_type == "text/plain; charset=utf-8"
    log, _, rest = response.text.partition("Request:\n")
    request, _, samples = rest.partition("Samples:\n")
    assert log.startswith(f"Log of this probe of module node:\nnode: {upstream.url}/patroni: answers (0.")
    assert request == (
        f"target: {upstream.url}\n"
        "timeout: 0.4 s\n"
        "interval: 0 s\n"
        "verify: True\n"
        "credentials: basic authentication: ***, X-Key: ***\n\n"
    )
    assert "patroni_up 1.0\n" in samples


def test_debug_page_hides_secrets(upstream: Upstream, tmp_path: Path) -> None:
    """Also when the target repeats them."""
    (tmp_path / "token").write_text("b3arer-t0ken")
    module = "{collector: patroni, authorization: {credentials_file: token}, collect: [cluster], targets: [127.0.0.1]}"
    upstream.answers["/cluster"] = (200, b'{"scope": "b3arer-t0ken", "members": []}')
    text = probe(client_of(tmp_path, f"modules: {{m: {module}}}"), "m", host(upstream), "&debug=true").text
    assert upstream.requests[0][1]["Authorization"] == "Bearer b3arer-t0ken"
    assert f"credentials: Authorization: {tmp_path}/token\n" in text
    assert ('patroni_cluster_members{scope="***"} 0.0\n' in text, "b3arer" in text) == (True, False)


def test_debug_page_without_the_file_of_a_secret(upstream: Upstream, tmp_path: Path) -> None:
    module = "{collector: patroni, authorization: {credentials_file: token}, collect: [node], targets: [127.0.0.1]}"
    (tmp_path / "token").write_text("b3arer-t0ken")
    client = client_of(tmp_path, f"modules: {{m: {module}}}")
    (tmp_path / "token").unlink()
    response = probe(client, "m", host(upstream), "&debug=true")
    assert (response.status_code, upstream.requests) == (200, [])
    assert f"node: {upstream.url}/patroni: {tmp_path}/token: no such file or directory (0." in response.text


def test_secret_in_the_media_type(upstream: Upstream, tmp_path: Path) -> None:
    """Also one that is longer than what is shown of a media type."""
    secret = "s3cret" * 20
    module = f"{{collector: patroni, authorization: {{credentials: {secret}}}, collect: [node], targets: [127.0.0.1]}}"

    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Type", secret)
        handler.end_headers()
        handler.wfile.write(b"?")

    upstream.answers["/patroni"] = answer
    text = probe(client_of(tmp_path, f"modules: {{m: {module}}}"), "m", host(upstream), "&debug=true").text
    assert ("expected valid JSON, found 1 bytes (0." in text, "s3cret" in text) == (True, False)


def test_debug_page_has_the_log_of_its_own_probe(upstream: Upstream, client: FlaskClient) -> None:
    with Odd(silent) as server, ThreadPoolExecutor() as threads:
        other = threads.submit(probe, client.application.test_client(), "node", server.url)

        def answer(handler: BaseHTTPRequestHandler) -> None:
            other.result()  # the other probe fails while this one waits
            handler.send_error(404)

        upstream.answers["/patroni"] = answer
        text = probe(client, "patroni", host(upstream), "&debug=true").text
        assert "patroni_up 0.0\n" in other.result().text
    assert server.url not in text
    assert f"WARNING scrape failed module=patroni collector=node url={upstream.url}/patroni reason=" in text
