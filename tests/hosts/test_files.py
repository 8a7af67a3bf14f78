"""The web configuration and the modules file under gunicorn, uWSGI and Apache mod_wsgi."""

import base64
import json
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import bcrypt
import pytest

from tests.conftest import Upstream
from tests.hosts.hosts import Host, Place, ask, is_gone, on_every_host, on_one_of_each, settings
from tests.live.processes import Served, until

pytestmark = pytest.mark.timeout(90)


@on_one_of_each
def test_password_of_the_web_configuration_is_asked_for_at_every_path(
    host: Host, place: Place, both: Upstream, port: int
) -> None:
    web = place.folder / "web.yml"
    web.write_text(f"basic_auth_users: {{alice: {bcrypt.hashpw(b's3cret', bcrypt.gensalt(4)).decode()}}}\n")
    web.chmod(0o644)
    place.set(settings(both, EXPORTER_WEB_CONFIG_FILE=str(web)))
    paths = ["/metrics", "/health", "/-/healthy", "/", "/nothing"]
    with host.serving(place, port) as served:
        assert [ask(served, path).status for path in paths] == [401] * 5
        assert [ask(served, path, Authorization=login("alice", "wrong")).status for path in paths] == [401] * 5
        assert ask(served, "/metrics").headers["WWW-Authenticate"].startswith("Basic ")
        assert both.paths == []
        alice = login("alice", "s3cret")
        assert [ask(served, path, Authorization=alice).status for path in paths] == [200, 200, 200, 200, 404]
    web.unlink()


def login(user: str, password: str) -> str:
    return f"Basic {base64.b64encode(f'{user}:{password}'.encode()).decode()}"


@on_every_host
def test_every_process_probes_with_the_modules_of_a_changed_file_and_keeps_them_when_it_goes_bad(
    host: Host, place: Place, both: Upstream, port: int
) -> None:
    file = place.folder / "modules.yml"
    write_modules(file, "first")
    place.set({"PATRONI_EXPORTER_URL": f"{both.url}/elsewhere", "EXPORTER_CONFIG_FILE": str(file)})
    first, second = (f"/probe?module={name}&target={both.url.removeprefix('http://')}" for name in ("first", "second"))
    state = "/metrics?name[]=exporter_config_last_reload_successful"
    with host.serving(place, port) as served:
        assert told(host, served, first) == {"1.0"}
        assert told(host, served, second) == {"unknown module 'second': it is not in the modules file"}
        assert served.up() == "0.0"  # of the module that is none of the file's

        write_modules(file, "first", "second")
        until(lambda: told(host, served, second) == {"1.0"})

        file.write_text("modules: [")
        until(lambda: told(host, served, state) == {"0.0"})
        assert [told(host, served, path) for path in (first, second)] == [{"1.0"}] * 2

        write_modules(file, "first")
        until(lambda: told(host, served, state) == {"1.0"})
        assert told(host, served, second) == {"unknown module 'second': it is not in the modules file"}
        assert served.end(host.stop) == 0
        until(lambda: is_gone(served))
    file.unlink()


def write_modules(file: Path, *names: str) -> None:
    """Writes modules of Patroni that may ask any port of this machine."""
    modules = {name: {"collector": "patroni", "targets": ["127.0.0.1:1-65535"]} for name in names}
    file.write_text(json.dumps({"modules": modules}))  # which is YAML as well
    file.chmod(0o644)


def told(host: Host, served: Served, path: str) -> set[str]:
    """What all processes answer: the value of patroni_up or of the file's state, or a refusal.

    The system chooses who answers; so many ask that nobody is left out.
    """
    with ThreadPoolExecutor(8) as prometheus:
        pages = list(prometheus.map(served.get, [path] * (1 if host.processes == 1 else 40)))
    values = (re.search(r"(?m)^(?:patroni_up|exporter_config_last_reload_successful) (.*)$", page) for _, page in pages)
    return {value[1] if value else page.strip() for value, (_, page) in zip(values, pages, strict=True)}
