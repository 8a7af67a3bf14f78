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
    write(file, modules("first"))
    place.set({"PATRONI_EXPORTER_URL": f"{both.url}/elsewhere", "EXPORTER_CONFIG_FILE": str(file)})
    first, second = (f"/probe?module={name}&target={both.url.removeprefix('http://')}" for name in ("first", "second"))
    state = "/metrics?name[]=exporter_config_last_reload_successful"
    with host.serving(place, port) as served:
        assert [told(served, path) for path in (first, state)] == [{"1.0"}, {"1.0"}]
        assert told(served, second) == {"unknown module 'second': it is not in the modules file"}
        assert served.up() == "0.0"  # of the module that is none of the file's

        write(file, "modules: [")
        every_process_logs(host, served, "file not loaded")
        assert [told(served, path) for path in (first, state)] == [{"1.0"}, {"0.0"}]

        loaded = served.log.read_text().count("file loaded")  # by each process that has loaded wsgi.py itself
        write(file, modules("first", "second"))
        every_process_logs(host, served, "file loaded", loaded)
        assert [told(served, path) for path in (first, second, state)] == [{"1.0"}] * 3
        assert served.end(host.stop) == 0
        until(lambda: is_gone(served))
    file.unlink()


def modules(*names: str) -> str:
    """Modules of Patroni that may ask any port of this machine, in JSON, which is YAML as well."""
    return json.dumps({"modules": {name: {"collector": "patroni", "targets": ["127.0.0.1:1-65535"]} for name in names}})


def write(file: Path, text: str) -> None:
    """Replaces the file, so that no process sees a part of it."""
    new = file.with_suffix(".new")
    new.write_text(text)
    new.chmod(0o644)
    new.replace(file)


def every_process_logs(host: Host, served: Served, text: str, before: int = 0) -> None:
    """Asks until each process has said this once more; one that nobody asks does not look at the file."""
    until(lambda: told(served, "/sd?module=first") and served.logs(text, before + host.processes)())


def told(served: Served, path: str) -> set[str]:
    """What is answered, as a rule by all processes: patroni_up, what is said of the file, or a refusal."""
    with ThreadPoolExecutor(8) as prometheus:
        pages = list(prometheus.map(served.get, [path] * 40))
    values = (re.search(r"(?m)^(?:patroni_up|exporter_config_last_reload_successful) (.*)$", page) for _, page in pages)
    return {value[1] if value else page.strip() for value, (_, page) in zip(values, pages, strict=True)}
