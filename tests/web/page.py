"""The landing page as a reader sees it."""

from collections.abc import Mapping
from html.parser import HTMLParser

from flask.testing import FlaskClient

from exporter.collectors.document import Answer
from tests.conftest import Upstream
from tests.limits.scrapes import STAYTUS, application
from tests.recorded import moment

#: The documents of a cluster in which a replica lags, and of Staytus.
LAG = {**moment("4.1.5", "lag", "n1").answers, **STAYTUS}


class Reader(HTMLParser):
    """The tables of a page by their captions, its notices, its definition lists, and all text."""

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


def client(upstream: Upstream, **settings: str) -> FlaskClient:
    """A client of the exporter for this upstream, which is both Patroni and Staytus."""
    url = f"{upstream.url}/patroni".replace("//", "//admin:a-password@", 1)
    return application(url, upstream.url, **settings).test_client()


def seen(upstream: Upstream, answers: Mapping[str, Answer]) -> Reader:
    """The page for these responses."""
    upstream.serve(answers)
    page = client(upstream).get("/")
    assert page.status_code == 200
    return Reader(page.text)
