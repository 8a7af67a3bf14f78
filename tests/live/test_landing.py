"""The landing page in Chromium: on a phone and on a desktop, light and dark."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest
from werkzeug.serving import make_server

from exporter.collectors.document import Answer
from tests.conftest import Upstream
from tests.limits.scrapes import application
from tests.live.installed import needs, path_of
from tests.live.processes import ROOT
from tests.screenshot import SCREENSHOT
from tests.web.page import LAG

if TYPE_CHECKING:  # only a process that runs these tests imports it
    from playwright.sync_api import Browser, Page

pytestmark = [needs("chromium"), pytest.mark.timeout(120)]

FLAGS = [
    *("--no-sandbox", "--no-first-run", "--no-proxy-server", "--disable-gpu", "--disable-quic"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
]

LONG = "averylongname" * 16
MARKUP = "<script>document.title = 'taken'</script><img src=x onerror=alert(1)>"
MEMBERS = [
    {"name": MARKUP, "role": "leader", "state": "running", "timeline": 3, "host": "10.0.0.1", "port": 5432},
    {"name": LONG, "role": LONG, "state": LONG, "timeline": 3, "lag": 2**62, "tags": {LONG: MARKUP}},
    *(
        {"name": f"n{number}", "role": "replica", "state": state, "timeline": 2, "lag": number * 2**20}
        for number, state in enumerate(["streaming", *["start failed"] * 4] * 6)
    ),
]
HOSTILE = {**LAG, "/cluster": Answer(200, json.dumps({"scope": LONG, "members": MEMBERS, "pause": True}).encode())}

#: The number of texts, and the lowest contrast of a text with its background (WCAG 2.1, 1.4.3).
CONTRAST = """(() => {
  const luminance = color => {
    const [r, g, b] = color.match(/[0-9.]+/g).slice(0, 3).map(x => x / 255)
      .map(x => x <= 0.04045 ? x / 12.92 : ((x + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const background = element => {
    for (; element; element = element.parentElement) {
      const color = getComputedStyle(element).backgroundColor;
      if (color !== 'rgba(0, 0, 0, 0)') return color;
    }
    return 'rgb(255, 255, 255)';
  };
  const ratios = [...document.body.querySelectorAll('*')]
    .filter(e => [...e.childNodes].some(n => n.nodeType === 3 && n.data.trim()) && e.tagName !== 'OPTION')
    .map(e => [luminance(getComputedStyle(e).color), luminance(background(e))].sort((a, b) => b - a))
    .map(([more, less]) => (more + 0.05) / (less + 0.05));
  return [ratios.length, Math.min(...ratios)];
})()"""

OVERFLOWING = """[...document.querySelectorAll('main *')].filter(e => e.scrollWidth > e.clientWidth + 1 &&
  e.clientWidth && e.tagName !== 'INPUT' && e.tagName !== 'THEAD').length"""


@contextmanager
def chromium() -> Iterator[Browser]:
    """Debian's Chromium without a window."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        yield playwright.chromium.launch(executable_path=path_of("chromium"), args=FLAGS)


@contextmanager
def serving(answers: Mapping[str, Answer]) -> Iterator[str]:
    """The URL of the landing page of an exporter whose upstreams give these answers."""
    with Upstream() as upstream:
        upstream.serve(answers)
        with make_server("127.0.0.1", 0, application(upstream.url, upstream.url), threaded=True) as server:
            thread = threading.Thread(target=server.serve_forever, args=(0.01,))
            thread.start()
            try:
                yield f"http://127.0.0.1:{server.port}/"
            finally:
                server.shutdown()
                thread.join()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as started:
        yield started


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """The page on a phone."""
    page = browser.new_page(viewport={"width": 375, "height": 800}, is_mobile=True)
    with serving(LAG) as url:
        page.goto(url)
        yield page
    page.close()


@pytest.mark.parametrize("width", [320, 375, 700, 1200])
@pytest.mark.parametrize("answers", [LAG, HOSTILE, {}], ids=["lag", "hostile", "down"])
def test_page_fits_its_window(browser: Browser, answers: Mapping[str, Answer], width: int) -> None:
    page = browser.new_page(viewport={"width": width, "height": 800}, is_mobile=width < 600)
    messages: list[str] = []
    page.on("console", lambda message: messages.append(message.text))
    page.on("pageerror", lambda error: messages.append(str(error)))
    with serving(answers) as url:
        for scheme, color in (("light", "rgb(255, 255, 255)"), ("dark", "rgb(15, 20, 25)")):
            page.emulate_media(color_scheme=scheme)
            page.goto(url)
            assert page.title() == "Patroni and Staytus exporter"
            assert page.evaluate("[document.documentElement.scrollWidth, innerWidth]") == [width] * 2
            assert page.evaluate(OVERFLOWING) == 0
            assert page.evaluate("getComputedStyle(document.body).backgroundColor") == color
            texts, contrast = page.evaluate(CONTRAST)
            assert (texts > 15, contrast >= 4.5) == (True, True), contrast
    page.close()
    assert messages == []


def test_page_needs_no_scripts(browser: Browser) -> None:
    page = browser.new_page(java_script_enabled=False)
    with serving(LAG) as url:
        page.goto(url)
    text = page.inner_text("body")
    for word in ("n1", "leader", "✓ running", "✓ streaming", "3.7 MiB", "✗ major", "Slow logins", "investigating"):
        assert word in text
    assert page.locator("script").count() == 0


def test_headings_tables_and_fields_have_names(page: Page) -> None:
    assert page.evaluate("[...document.querySelectorAll('h1, h2, h3')].map(e => e.tagName + ' ' + e.innerText)") == [
        "H1 Patroni and Staytus exporter",
        "H2 patroni\n✓ up",
        "H3 This node: n1",
        "H3 Cluster",
        "H2 staytus\n✓ up",
        "H2 Query",
    ]
    assert page.locator("caption").all_inner_texts() == ["Members of lab", "Services", "Open issues"]
    assert page.evaluate("[...document.querySelectorAll('input')].filter(e => !e.labels.length).length") == 0


def test_tables_keep_their_roles_on_a_phone(page: Page) -> None:
    """Chromium drops the role of a table whose `display` is another; Playwright's own roles do not show that."""
    nodes = page.context.new_cdp_session(page).send("Accessibility.getFullAXTree")["nodes"]
    roles = [node["role"]["value"] for node in nodes if not node.get("ignored")]
    counted = {role: roles.count(role) for role in ("table", "row", "rowheader", "cell")}
    assert counted == {"table": 3, "row": 3 + 4 + 3 + 3, "rowheader": 10, "cell": 3 * 4 + 4 * 2 + 3 * 3}


def test_form_shows_the_metrics_of_one_family(page: Page) -> None:
    page.fill("input", "patroni_up")
    page.click("button")
    assert page.inner_text("body").splitlines()[-1] == "patroni_up 1.0"


def test_readme_shows_the_screenshot() -> None:
    assert f"({SCREENSHOT.relative_to(ROOT)})" in (ROOT / "README.md").read_text()
    content = SCREENSHOT.read_bytes()
    assert (content[:4], content[8:12], len(content) < 150_000) == (b"RIFF", b"WEBP", True)
