"""The landing page as a reader sees it."""

from collections.abc import Mapping
from html.parser import HTMLParser

from werkzeug.test import Client

from exporter import create_app
from exporter.collectors.document import Answer
from exporter.config.settings import Settings
from tests.conftest import Upstream
from tests.recorded import staytus

SITE = {
    "/api/v1/services/all": staytus("services_all_ok_minor_major_maintenance"),
    "/api/v1/issues/all": staytus("issues_all_four_states"),
}


class Reader(HTMLParser):
    """What a reader sees of a page: the rows of its tables by their captions, its notices, its facts, and all text."""

    def __init__(self, page: str):
        super().__init__()
        self.tables: dict[str, list[tuple[str, ...]]] = {}
        self.notices: list[str] = []
        self.facts: dict[str, str] = {}
        self.text = ""
        self._parts: list[str] = []
        self._cells: list[str] = []
        self._caption = self._fact = ""
        self._in_notices = self._in_body = False
        self.feed(page)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self._in_body |= tag == "body"
        if tag == "ul":
            self._in_notices = ("class", "notices") in attributes
        if tag in ("td", "th", "caption", "li", "dt", "dd"):
            self._parts = []
        if tag == "tr":
            self._cells = []

    def handle_endtag(self, tag: str) -> None:
        text = " ".join(" ".join(self._parts).split())
        if tag == "caption":
            self._caption, self.tables[text] = text, []
        elif tag in ("td", "th"):
            self._cells.append(text)
        elif tag == "tr":
            self.tables[self._caption].append(tuple(self._cells))
        elif tag == "li" and self._in_notices:
            self.notices.append(text)
        elif tag == "dt":
            self._fact = text
        elif tag == "dd":
            self.facts[self._fact] = text

    def handle_data(self, data: str) -> None:
        self._parts.append(data)
        self.text += data if self._in_body else ""


def client(upstream: Upstream, **more: str) -> Client:
    """A client of the exporter before this upstream, which is both Patroni and Staytus."""
    keys = {"STAYTUS_API_URL": upstream.url, "STAYTUS_API_TOKEN": "a-token", "STAYTUS_API_SECRET": "a-secret"}
    patroni = {"PATRONI_EXPORTER_URL": f"{upstream.url}/patroni".replace("//", "//admin:a-password@", 1)}
    return Client(create_app(Settings.load({**patroni, **keys, **more})))


def seen(upstream: Upstream, answers: Mapping[str, Answer]) -> Reader:
    """The page before an upstream with these answers."""
    upstream.serve(answers)
    page = client(upstream).get("/")
    assert page.status_code == 200
    return Reader(page.text)
