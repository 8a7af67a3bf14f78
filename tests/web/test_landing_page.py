"""The landing page: how long it waits, its links and forms, and what it may not contain."""

import base64
import hashlib
import json
import re

import pytest

from exporter import __version__
from exporter.collectors.document import Answer
from tests.conftest import Upstream
from tests.live.processes import ROOT
from tests.web.page import LAG, Reader, client

MODULES = str(ROOT / "deploy" / "modules.yml")


def test_module_that_hangs(upstream: Upstream) -> None:
    upstream.serve(LAG)
    release = upstream.hold("/cluster")
    page = Reader(client(upstream).get("/").text)
    release.set()
    assert page.notices == ["✗ cluster: no response within 2 s"]
    assert (page.facts["Role"], sorted(page.tables)) == ("primary", ["Open issues", "Services"])


HOSTILE = "<script>alert('x')</script>&amp;\" onload=\"x"


def test_markup_is_escaped(upstream: Upstream) -> None:
    node = json.loads(LAG["/patroni"].body)
    node["patroni"] = {"version": HOSTILE, "scope": HOSTILE, "name": HOSTILE}
    member = {"name": HOSTILE, "role": HOSTILE, "state": HOSTILE, "host": HOSTILE, "tags": {HOSTILE: HOSTILE}}
    status = {"name": HOSTILE, "permalink": HOSTILE, "status_type": HOSTILE}
    service = {"name": HOSTILE, "permalink": HOSTILE, "status": status}
    issue = {"identifier": HOSTILE, "title": HOSTILE, "state": HOSTILE, "service_status": status}
    bodies = {
        "/patroni": {**node, "role": HOSTILE, "state": HOSTILE},
        "/cluster": {"scope": HOSTILE, "members": [member]},
        "/config": {"synchronous_mode": HOSTILE},
        "/failsafe": {},
        "/api/v1/services/all": {"status": "success", "data": [service]},
        "/api/v1/issues/all": {"status": "success", "data": [issue]},
    }
    upstream.serve({path: Answer(200, json.dumps(body).encode()) for path, body in bodies.items()})
    upstream.serve({"/history": Answer(200, json.dumps([[1, 2, HOSTILE, None, HOSTILE]]).encode())})
    text = client(upstream).get("/").text
    page = Reader(text)
    assert page.tables[f"Members of {HOSTILE}"][1][0] == f"{HOSTILE} {HOSTILE} {HOSTILE}: {HOSTILE}"
    assert page.text.count(HOSTILE) == text.count("&lt;script&gt;") == 20
    assert (text.count("<script"), text.count('onload="')) == (0, 0)


def test_version_and_urls_without_secrets(upstream: Upstream) -> None:
    text = client(upstream).get("/").text
    assert f"Version {__version__}." in text
    assert text.count(upstream.url) == 2
    assert re.findall("t0ken|s3cret|a-password|admin", text) == []


def test_content_security_policy(upstream: Upstream) -> None:
    page = client(upstream).get("/")
    (style,) = re.findall(r"<style>(.*?)</style>", page.text, re.DOTALL)
    assert page.headers["Content-Security-Policy"] == (
        "default-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; img-src data:; "
        f"style-src 'sha256-{base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()}'"
    )
    assert re.findall(r"<(?:script|img|link|iframe)[^>]*>| style=", page.text) == ['<link rel="icon" href="data:,">']


@pytest.mark.parametrize("prefix", ["", "/exporter"])
def test_links_and_forms(upstream: Upstream, prefix: str) -> None:
    exporter = client(upstream, EXPORTER_CONFIG_FILE=MODULES)
    page = exporter.get("/", environ_overrides={"SCRIPT_NAME": prefix}).text
    paths = re.findall(r'<a href="([^"]+)"', page) + re.findall(r'<form action="([^"]+)"', page)
    assert paths[:4] == [f"{prefix}/metrics", f"{prefix}/health", f"{prefix}/-/healthy", f"{prefix}/metrics"]
    for path in paths:
        response = exporter.get(path.removeprefix(prefix), environ_overrides={"SCRIPT_NAME": prefix})
        assert response.status_code in (200, 400, 503)


@pytest.mark.parametrize(("file", "forms"), [("", ["/metrics"]), (MODULES, ["/metrics", "/probe", "/sd"])])
def test_forms_for_a_modules_file(upstream: Upstream, file: str, forms: list[str]) -> None:
    page = client(upstream, EXPORTER_CONFIG_FILE=file).get("/").text
    assert re.findall(r'<form action="([^"]+)">.*?</form>', page, re.DOTALL) == forms
    assert re.findall(r'<input name="([^"]+)"', page) == ["name[]", *("module", "target") * (len(forms) - 1)]


def test_head_sends_no_request(upstream: Upstream) -> None:
    assert (client(upstream).head("/").status_code, upstream.paths) == (200, [])
