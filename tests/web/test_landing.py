"""The landing page."""

import re

import pytest
from werkzeug.test import Client

from exporter import __version__, create_app
from exporter.settings import Settings
from tests.conftest import Upstream


def settings(upstream: Upstream) -> Settings:
    return Settings.load({"PATRONI_EXPORTER_URL": f"{upstream.url}/pg1/patroni".replace("//", "//admin:pass@")})


def test_landing_page_names_version_and_modules_and_asks_nobody(upstream: Upstream) -> None:
    answer = create_app(settings(upstream)).test_client().get("/")
    assert answer.status_code == 200
    assert f"<p>Version {__version__}</p>" in answer.text
    assert f"<td>patroni</td><td>{upstream.url}/pg1</td>" in answer.text
    assert "pass" not in answer.text
    assert upstream.paths == []


@pytest.mark.parametrize("prefix", ["", "/exporter"])
def test_links_of_the_landing_page_lead_somewhere_below_a_prefix_too(upstream: Upstream, prefix: str) -> None:
    client = Client(create_app(settings(upstream)))
    page = client.get("/", environ_overrides={"SCRIPT_NAME": prefix}).text
    links = re.findall(r'href="([^"]+)"', page)
    assert links == [f"{prefix}/metrics", f"{prefix}/health", f"{prefix}/-/healthy"]
    for link in links:
        answer = client.get(link.removeprefix(prefix), environ_overrides={"SCRIPT_NAME": prefix})
        assert answer.status_code in (200, 503)
