"""The documentation site: no warnings, all links exist, and nothing is loaded from other hosts."""

import re
import tomllib
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

from tests.site import PAGES, ROOT, build

LOADED = {"img", "link", "script"}


class Page(HTMLParser):
    """The anchors and the links of a page; `loaded` are the links that a browser requests without a click."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.anchors: set[str] = {"", "__top"}
        self.links: list[str] = []
        self.loaded: list[str] = []
        self.feed(path.read_text())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name in ("id", "name"):
                self.anchors.add(value or "")
            elif name in ("href", "src"):
                (self.loaded if tag in LOADED else self.links).append(value or "")


def test_site(tmp_path: Path) -> None:
    site = tmp_path / "site"
    assert "No issues found" in build(site)
    pages = {path: Page(path) for path in site.rglob("*.html") if path.name != "404.html"}
    documents = [path for folder in (ROOT, ROOT / "docs") for path in folder.glob("*.md")]
    assert len(pages) > len(documents)

    def missing(page: Path, link: str) -> bool:
        parts = urlsplit(link)
        if parts.scheme:
            return False
        target = (page.parent / unquote(parts.path)).resolve() if parts.path else page
        if target.is_dir():
            target /= "index.html"
        return not target.exists() or (target in pages and unquote(parts.fragment) not in pages[target].anchors)

    links = [(path, link) for path, page in pages.items() for link in (*page.links, *page.loaded)]
    assert [(path.relative_to(site), link) for path, link in links if missing(path, link)] == []
    assert {link for page in pages.values() for link in page.loaded if "//" in link} == set()


def test_every_page_is_in_the_navigation() -> None:
    nav = tomllib.loads((ROOT / "zensical.toml").read_text())["project"]["nav"]
    listed = set(re.findall(r"[\w-]+\.md", str(nav)))
    assert listed == {path.name for path in (ROOT / "docs").glob("*.md")} | set(PAGES.values()) - {"recordings.md"}
