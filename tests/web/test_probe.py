"""/probe: one target's families and nothing else, what is refused how, and debug=true."""

import os
import time
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from urllib.parse import quote

import pytest
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from exporter import create_app
from exporter.config.settings import Settings
from tests.conftest import Upstream
from tests.limits.servers import Odd, silent
from tests.live.processes import families, until
from tests.recorded import RECORDINGS, moment, staytus

LEADER = moment("4.1.5", "failsafe-enabled", "n1").answers

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
    targets: [127.0.0.1]
"""


def client_of(folder: Path, text: str = MODULES) -> FlaskClient:
    """A client of an exporter with this modules file."""
    file = folder / "modules.yml"
    file.write_text(text)
    return create_app(Settings.load({"EXPORTER_ENV_FILE": os.devnull, "EXPORTER_CONFIG_FILE": str(file)})).test_client()


@pytest.fixture
def client(tmp_path: Path) -> FlaskClient:
    return client_of(tmp_path)


def probe(client: FlaskClient, module: str, target: str, more: str = "", **headers: str) -> TestResponse:
    return client.get(f"/probe?module={quote(module)}&target={quote(target, safe='')}{more}", headers=headers)


def host(upstream: Upstream) -> str:
    return upstream.url.removeprefix("http://")


@pytest.mark.parametrize("form", ["{host}", "{url}", "{url}/", "{url}/patroni", "{url}/patroni/"])
def test_probe_is_the_exposition_of_the_target_alone(upstream: Upstream, client: FlaskClient, form: str) -> None:
    upstream.serve(LEADER)
    answer = probe(client, "patroni", form.format(host=host(upstream), url=upstream.url))
    assert (answer.status_code, answer.content_type) == (200, "text/plain; version=0.0.4; charset=utf-8")
    lines = [line for line in answer.text.splitlines(keepends=True) if "_collector_" not in line]
    assert "".join(lines) == (RECORDINGS / "patroni" / "exposition.prom").read_text()
    assert families(answer.text)[-3:] == [
        "patroni_up",
        "patroni_scrape_collector_success",
        "patroni_scrape_collector_duration_seconds",
    ]
    assert sorted(upstream.paths) == ["/cluster", "/config", "/failsafe", "/history", "/patroni"]


def test_probe_of_staytus_shows_its_keys_and_keeps_the_path(upstream: Upstream, client: FlaskClient) -> None:
    upstream.answers["/s/api/v1/services/all"] = (200, staytus("services_all_ok_minor_major_maintenance").body)
    upstream.answers["/s/api/v1/issues/all"] = (200, staytus("issues_all_four_states").body)
    answer = probe(client, "status", f"{upstream.url}/s/")
    assert "staytus_up 1.0\n" in answer.text
    assert "patroni_" not in answer.text
    assert [(r["X-Auth-Token"], r["X-Auth-Secret"]) for _, r in upstream.requests] == [("t0ken", "s3cret")] * 2


def test_module_says_what_is_asked_and_with_which_keys(upstream: Upstream, client: FlaskClient) -> None:
    upstream.serve(LEADER)
    assert "patroni_up 1.0\n" in probe(client, "node", host(upstream)).text
    ((path, headers),) = upstream.requests
    assert (path, headers["Authorization"], headers["X-Key"]) == (
        "/patroni",
        "Basic bW9uaXRvcjpodXNoLWh1c2g=",
        "top-secret",
    )


def test_target_that_does_not_answer_is_down_and_the_probe_is_200(upstream: Upstream, client: FlaskClient) -> None:
    answer = probe(client, "node", host(upstream))
    assert (answer.status_code, "patroni_up 0.0\n" in answer.text) == (200, True)
    assert 'patroni_scrape_collector_success{collector="node"} 0.0\n' in answer.text


def test_probe_ends_at_the_timeout_of_its_module_or_before_that_of_prometheus(client: FlaskClient) -> None:
    with Odd(silent) as server:
        for headers, seconds in [({}, 0.4), ({"X-Prometheus-Scrape-Timeout-Seconds": "0.2"}, 0.1)]:
            start = time.monotonic()
            text = probe(client, "node", server.url, **headers).text
            assert seconds <= time.monotonic() - start
            assert "patroni_up 0.0\n" in text


def test_name_chooses_families_and_openmetrics_is_negotiated(upstream: Upstream, client: FlaskClient) -> None:
    upstream.serve(LEADER)
    answer = probe(client, "patroni", host(upstream), "&name[]=patroni_up", Accept="application/openmetrics-text")
    assert answer.text.endswith("patroni_up 1.0\n# EOF\n")
    assert families(answer.text) == ["patroni_up"]


def test_redirect_is_not_followed(upstream: Upstream, client: FlaskClient) -> None:
    with Odd(silent) as elsewhere:

        def redirect(handler: BaseHTTPRequestHandler) -> None:
            handler.send_response(302)
            handler.send_header("Location", elsewhere.url + "/patroni")
            handler.end_headers()

        upstream.answers["/patroni"] = redirect
        assert "patroni_up 0.0\n" in probe(client, "node", host(upstream)).text
        assert elsewhere.connections == 0


# What is refused ------------------------------------------------------------------------------------------------------

EXPECTED = (
    "is not valid: expected HOST, HOST:PORT or a URL such as http://db1:8008, with IPv6 in brackets and without "
    "user, query or fragment\n"
)


@pytest.mark.parametrize(
    ("query", "status", "sentence"),
    [
        ("", 400, "expected one parameter module, the name of a module in the modules file\n"),
        ("?target=127.0.0.1", 400, "expected one parameter module, the name of a module in the modules file\n"),
        ("?module=patroni&module=node&target=127.0.0.1", 400,
         "expected one parameter module, the name of a module in the modules file\n"),
        ("?module=<b>&target=127.0.0.1", 400, "unknown module '<b>': it is not in the modules file\n"),
        ("?module=patroni", 400, "expected one parameter target, the host and port of what is to be asked\n"),
        ("?module=patroni&target=", 400, "expected one parameter target, the host and port of what is to be asked\n"),
        ("?module=patroni&target=a&target=b", 400,
         "expected one parameter target, the host and port of what is to be asked\n"),
        ("?module=patroni&target=::1", 400, f"target '::1' {EXPECTED}"),
        ("?module=patroni&target=u:hush@127.0.0.1", 400, f"a target with a user {EXPECTED}"),
        ("?module=patroni&target=127.0.0.1&debug=perhaps", 400, "expected debug=true or debug=false\n"),
        ("?module=patroni&target=127.0.0.2", 403, "target 127.0.0.2:8008 is not among the targets of this module\n"),
        ("?module=patroni&target=169.254.169.254", 403,
         "target 169.254.169.254:8008 is not among the targets of this module\n"),
    ],
)  # fmt: skip
def test_what_cannot_or_may_not_be_asked_is_refused_with_a_sentence(
    client: FlaskClient, query: str, status: int, sentence: str
) -> None:
    answer = client.get(f"/probe{query}")
    assert (answer.status_code, answer.text) == (status, sentence)
    assert (answer.content_type, answer.headers["X-Content-Type-Options"]) == ("text/plain; charset=utf-8", "nosniff")


def test_without_a_modules_file_there_is_no_module() -> None:
    answer = (
        create_app(Settings.load({"EXPORTER_ENV_FILE": os.devnull})).test_client().get("/probe?module=patroni&target=a")
    )
    assert (answer.status_code, answer.text) == (
        400,
        "there are no modules: EXPORTER_CONFIG_FILE or --config.file names no file with them\n",
    )


# debug=true -----------------------------------------------------------------------------------------------------------


def test_debug_shows_the_log_and_the_samples_of_that_probe(upstream: Upstream, client: FlaskClient) -> None:
    upstream.serve(LEADER)
    answer = probe(client, "node", host(upstream), "&debug=true")
    assert answer.content_type == "text/plain; charset=utf-8"
    log, _, rest = answer.text.partition("How it was asked:\n")
    how, _, samples = rest.partition("Samples:\n")
    assert log.startswith(f"Log of this probe of module node:\nnode: {upstream.url}/patroni was there after 0.")
    assert how == (
        f"target: {upstream.url}\n"
        "timeout: 0.4 s\n"
        "interval: 0 s\n"
        "verify: True\n"
        "headers: Authorization: ***, X-Key: ***\n\n"
    )
    assert "patroni_up 1.0\n" in samples


def test_debug_shows_no_secret_even_when_the_target_says_it(upstream: Upstream, client: FlaskClient) -> None:
    upstream.answers["/patroni"] = (200, b"user hush-hush, key top-secret")
    text = probe(client, "node", host(upstream), "&debug=true").text
    assert "WARNING node node: " in text
    assert "'user ***, key ***'" in text
    assert [secret for secret in ("hush", "top-secret", "bW9uaXRvcjpodXNoLWh1c2g=") if secret in text] == []


def test_debug_hides_a_token_also_where_it_stands_alone(upstream: Upstream, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("b3arer-t0ken")
    module = "{collector: patroni, authorization: {credentials_file: token}, targets: [127.0.0.1]}"
    upstream.answers["/patroni"] = (200, b"the token b3arer-t0ken")
    text = probe(client_of(tmp_path, f"modules: {{m: {module}}}"), "m", host(upstream), "&debug=true").text
    assert upstream.requests[0][1]["Authorization"] == "Bearer b3arer-t0ken"
    assert f"headers from files: {tmp_path}/token\n" in text
    assert "'the token ***'" in text
    assert "t0ken" not in text


def test_debug_shows_the_log_of_no_other_probe(upstream: Upstream, client: FlaskClient) -> None:
    with Odd(silent) as server, ThreadPoolExecutor() as threads:
        other = threads.submit(probe, client.application.test_client(), "node", server.url)

        def answer(handler: BaseHTTPRequestHandler) -> None:
            other.result()  # the other probe fails while this one waits
            handler.send_error(404)

        upstream.answers["/patroni"] = answer
        text = probe(client, "patroni", host(upstream), "&debug=true").text
        assert "patroni_up 0.0\n" in other.result().text
    assert server.url not in text
    assert "WARNING patroni node: " in text


def test_more_probes_than_may_be_at_once_are_refused_and_told_to_come_again(tmp_path: Path) -> None:
    file = tmp_path / "modules.yml"
    file.write_text("modules: {slow: {collector: patroni, collect: [node], timeout: 2s, targets: [127.0.0.1]}}")
    settings = {"EXPORTER_ENV_FILE": os.devnull, "EXPORTER_CONFIG_FILE": str(file), "EXPORTER_PROBES": "2"}
    exporter = create_app(Settings.load(settings))
    with Odd(silent) as one, Odd(silent) as two, ThreadPoolExecutor(2) as prometheus:
        target = one.url.removeprefix("http://")
        under_way = [
            prometheus.submit(probe, exporter.test_client(), "slow", hung.url.removeprefix("http://"))
            for hung in (one, two)
        ]
        until(lambda: (one.connections, two.connections) == (1, 1))
        for path in (f"/probe?module=slow&target={target}", f"/sd?module=slow&target={target}"):
            refused = exporter.test_client().get(path)
            assert (refused.status_code, refused.headers["Retry-After"], refused.text) == (
                503,
                "1",
                "2 probes are under way already, which is what EXPORTER_PROBES allows: come again later\n",
            )
        assert exporter.test_client().get("/-/healthy").status_code == 200
        assert [answer.result().status_code for answer in under_way] == [200, 200]
        assert probe(exporter.test_client(), "slow", target).status_code == 200
