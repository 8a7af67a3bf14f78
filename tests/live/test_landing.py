"""The landing page in a real browser: on a phone and on a desk, in the light and in the dark, whatever is shown."""

import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest
from werkzeug.serving import make_server

from exporter import create_app
from exporter.collectors.document import Answer
from exporter.config.settings import Settings
from tests.conftest import Upstream
from tests.live.browser import Page, browser
from tests.live.installed import needs
from tests.recorded import moment
from tests.screenshot import PICTURE
from tests.web.page import SITE

pytestmark = [needs("chromium"), pytest.mark.timeout(120)]

LAG = {**moment("4.1.5", "lag", "n1").answers, **SITE}
LONG = "averylongname" * 16
MARKUP = "<script>document.title = 'taken'</script><img src=x onerror=alert(1)>"


def crowd() -> Iterator[dict[str, object]]:
    """Thirty members with all that can be wrong with them."""
    yield {"name": MARKUP, "role": "leader", "state": "running", "timeline": 3, "host": "10.0.0.1", "port": 5432}
    yield {"name": LONG, "role": LONG, "state": LONG, "timeline": 3, "lag": 2**62, "tags": {LONG: MARKUP}}
    for number in range(28):
        state = "start failed" if number % 5 else "streaming"
        yield {"name": f"n{number}", "role": "replica", "state": state, "timeline": 2, "lag": number * 2**20}


HOSTILE = {**LAG, "/cluster": Answer(200, json.dumps({"scope": LONG, "members": [*crowd()], "pause": True}).encode())}

#: How many texts there are, and the least contrast between one and what is behind it (WCAG 2.1, 1.4.3).
CONTRAST = """(() => {
  const light = color => {
    const [r, g, b] = color.match(/[0-9.]+/g).slice(0, 3).map(x => x / 255)
      .map(x => x <= 0.04045 ? x / 12.92 : ((x + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const behind = element => {
    for (; element; element = element.parentElement) {
      const color = getComputedStyle(element).backgroundColor;
      if (color !== 'rgba(0, 0, 0, 0)') return color;
    }
    return 'rgb(255, 255, 255)';
  };
  const ratios = [...document.body.querySelectorAll('*')]
    .filter(e => [...e.childNodes].some(n => n.nodeType === 3 && n.data.trim()) && e.tagName !== 'OPTION')
    .map(e => [light(getComputedStyle(e).color), light(behind(e))].sort((a, b) => b - a))
    .map(([more, less]) => (more + 0.05) / (less + 0.05));
  return [ratios.length, Math.min(...ratios)];
})()"""


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    with browser(tmp_path_factory.mktemp("browser")) as opened:
        yield opened


@contextmanager
def shown(answers: Mapping[str, Answer]) -> Iterator[str]:
    """The URL of the landing page of an exporter before an upstream with these answers."""
    with Upstream() as upstream:
        upstream.serve(answers)
        keys = {"STAYTUS_API_URL": upstream.url, "STAYTUS_API_TOKEN": "t", "STAYTUS_API_SECRET": "s"}
        app = create_app(Settings.load({"PATRONI_EXPORTER_URL": upstream.url, **keys}))
        server = make_server("127.0.0.1", 0, app, threaded=True)
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.port}/"
        finally:
            server.shutdown()
            thread.join()
            server.server_close()


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [320, 375, 700, 1200])
@pytest.mark.parametrize("answers", [LAG, HOSTILE, {}], ids=["lag", "hostile", "down"])
def test_page_fits_its_window_and_can_be_read(
    page: Page, answers: Mapping[str, Answer], width: int, dark: bool
) -> None:
    with shown(answers) as url:
        page.look(url, width=width, dark=dark, scripts=True)
    assert page.told == []
    assert page.value("document.title") == "Patroni and Staytus exporter"
    assert (
        page.value("[document.documentElement.scrollWidth, document.body.scrollWidth, innerWidth]")[::2] == [width] * 2
    )
    assert (
        page.value(
            "[...document.querySelectorAll('main *')].filter(e => e.scrollWidth > e.clientWidth + 1 && "
            "e.clientWidth && e.tagName !== 'INPUT' && e.tagName !== 'THEAD').length"
        )
        == 0
    )
    background = page.value("getComputedStyle(document.body).backgroundColor")
    assert background == ("rgb(15, 20, 25)" if dark else "rgb(255, 255, 255)")
    texts, least = page.value(CONTRAST)
    assert (texts > 15, least >= 4.5) == (True, True), least


def test_all_is_shown_without_scripts(page: Page) -> None:
    with shown(LAG) as url:
        page.look(url, scripts=False)
    text = page.value("document.body.innerText")
    for word in ("n1", "leader", "✓ running", "✓ streaming", "3.7 MiB", "✗ major", "Slow logins", "investigating"):
        assert word in text
    assert (page.told, page.value("document.scripts.length")) == ([], 0)


def test_page_has_one_order_of_headings_named_tables_and_named_fields(page: Page) -> None:
    with shown(LAG) as url:
        page.look(url)
    assert page.value("[...document.querySelectorAll('h1, h2, h3')].map(e => e.tagName + ' ' + e.innerText)") == [
        "H1 Patroni and Staytus exporter",
        "H2 patroni\n✓ up",
        "H3 This node: n1",
        "H3 Cluster",
        "H2 staytus\n✓ up",
        "H2 Query",
    ]
    assert page.value("[...document.querySelectorAll('table')].map(e => e.caption.innerText)") == [
        "Members of lab",
        "Services",
        "Open issues",
    ]
    assert page.value("[...document.querySelectorAll('input')].filter(e => !e.labels.length).length") == 0


def test_a_screen_reader_hears_rows_and_cells_of_the_table_on_a_phone_too(page: Page) -> None:
    with shown(LAG) as url:
        page.look(url, width=375)
    nodes = page.call("Accessibility.getFullAXTree")["nodes"]
    roles = [node["role"]["value"] for node in nodes if not node.get("ignored")]
    counted = {role: roles.count(role) for role in ("table", "row", "rowheader", "cell")}
    assert counted == {"table": 3, "row": 3 + 4 + 3 + 3, "rowheader": 10, "cell": 3 * 4 + 4 * 2 + 3 * 3}


def test_a_press_of_the_button_leads_to_the_metrics_of_one_family(page: Page) -> None:
    with shown(LAG) as url:
        page.look(url)
        page.value("document.querySelector('input').value = 'patroni_up'")
        page.press("button")
        text = page.value("document.body.innerText")
    assert (page.told, text.splitlines()[-1]) == ([], "patroni_up 1.0")


def test_picture_in_the_readme_is_there_and_small() -> None:
    readme = Path(__file__).parents[2] / "README.md"
    assert f"({PICTURE.relative_to(readme.parent)})" in readme.read_text()
    picture = PICTURE.read_bytes()
    assert (picture[:4], picture[8:12], len(picture) < 150_000) == (b"RIFF", b"WEBP", True)
