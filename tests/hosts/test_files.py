"""The web configuration and the modules file under gunicorn, uWSGI and Apache mod_wsgi."""

import json
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.conftest import Upstream
from tests.hosts.hosts import Checkout, Host, each_with_processes, one_of_each, settings
from tests.live.processes import Served, until
from tests.web_config import basic, users, web_config

pytestmark = pytest.mark.timeout(90)


@one_of_each
def test_password(host: Host, checkout: Checkout, upstream: Upstream, port: int) -> None:
    web = Path(web_config(checkout.folder, users(alice="s3cret")))
    web.chmod(0o644)
    checkout.write_env(settings(upstream, EXPORTER_WEB_CONFIG_FILE=str(web)))
    paths = ["/metrics", "/health", "/-/healthy", "/", "/nothing"]
    good, bad = basic("alice", "s3cret"), basic("alice", "wrong")
    with host.serving(checkout, port) as served:
        assert [served.request(path).status for path in paths] == [401] * 5
        assert [served.request(path, Authorization=bad).status for path in paths] == [401] * 5
        assert served.request("/metrics").headers["WWW-Authenticate"].startswith("Basic ")
        assert upstream.paths == []
        assert [served.request(path, Authorization=good).status for path in paths] == [200, 200, 200, 200, 404]
    web.unlink()


@each_with_processes
def test_modules_file(host: Host, checkout: Checkout, upstream: Upstream, port: int) -> None:
    """Every process reads a changed file, and keeps the last good version."""
    file = checkout.folder / "modules.yml"
    write(file, modules("first"))
    checkout.write_env({"PATRONI_EXPORTER_URL": f"{upstream.url}/elsewhere", "EXPORTER_CONFIG_FILE": str(file)})
    target = upstream.url.removeprefix("http://")
    first, second = (f"/probe?module={name}&target={target}" for name in ("first", "second"))
    state = "/metrics?name[]=exporter_config_last_reload_successful"
    with host.serving(checkout, port) as served:
        assert [answers(served, path) for path in (first, state)] == [{"1.0"}, {"1.0"}]
        assert answers(served, second) == {"unknown module 'second': it is not in the modules file"}
        assert served.up() == "0.0"  # of the module that is not in the file

        write(file, "modules: [")
        until(lambda: answers(served, state) == {"0.0"})
        assert answers(served, first) == {"1.0"}

        write(file, modules("first", "second"))
        until(lambda: answers(served, second) == {"1.0"})
        assert [answers(served, path) for path in (first, state)] == [{"1.0"}] * 2
        host.end(served)
    file.unlink()


def modules(*names: str) -> str:
    """Modules of Patroni that allow any port of this machine, in JSON."""
    return json.dumps({"modules": {name: {"collector": "patroni", "targets": ["127.0.0.1:1-65535"]} for name in names}})


def write(file: Path, text: str) -> None:
    """Replaces the file atomically."""
    new = file.with_suffix(".new")
    new.write_text(text)
    new.chmod(0o644)
    new.replace(file)


def answers(served: Served, path: str) -> set[str]:
    """The different values of patroni_up or of the last reload, or else pages, in 40 responses."""
    with ThreadPoolExecutor(8) as clients:
        pages = [page for _, page in clients.map(served.get, [path] * 40)]
    values = (re.search(r"(?m)^(?:patroni_up|exporter_config_last_reload_successful) (.*)$", page) for page in pages)
    return {value[1] if value else page.strip() for value, page in zip(values, pages, strict=True)}
