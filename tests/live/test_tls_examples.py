"""The examples of TLS and passwords in docs/security.md, on another port."""

import re
import subprocess
from pathlib import Path

import pytest
import yaml

from tests.conftest import Upstream
from tests.live.examples import activated, blocks, commands, section
from tests.live.installed import needs
from tests.live.processes import recorded, serving, until
from tests.live.prometheus import prometheus
from tests.live.test_gunicorn import command
from tests.web_config import ALICE, tls, users, web_config

pytestmark = pytest.mark.timeout(90)

PAGE = "docs/security.md"


@needs("curl", "openssl")
@pytest.mark.parametrize(("password", "answer"), [("s3cret", "patroni_up 1.0"), ("other", "Unauthorized: ")])
def test_curl(upstream: Upstream, tmp_path: Path, port: int, password: str, answer: str) -> None:
    serve, [request] = map(commands, blocks(section(PAGE, "TLS and passwords")))
    path = activated(tmp_path / "bin")
    subprocess.run(  # without a terminal the password is read from standard input
        ["bash", "-euc", "\n".join(serve[:-1])],
        cwd=tmp_path,
        env=path,
        input=f"{password}\n".encode(),
        start_new_session=True,
        check=True,
    )
    environ = {**path, "PATRONI_EXPORTER_PORT": str(port), "PATRONI_EXPORTER_URL": recorded(upstream).url}
    with serving(tmp_path, port, ["bash", "-c", f"exec {serve[-1]}"], environ=environ) as exporter:
        line = request.replace(":9547", f":{port}")
        done = subprocess.run(["bash", "-c", line], cwd=tmp_path, capture_output=True, check=True, text=True)
        assert answer in done.stdout
        assert exporter.end() == 0


@needs("openssl", "prometheus")
def test_prometheus(upstream: Upstream, tmp_path: Path, port: int) -> None:
    """The certificates of the example, and its jobs with fixed targets and with discovery."""
    text = section(PAGE, "Client certificates")
    subprocess.run(
        ["bash", "-euc", "\n".join(commands(blocks(text)[0]))], cwd=tmp_path, capture_output=True, check=True
    )
    (tmp_path / "password").write_text(ALICE[1] + "\n")
    client_keys, *jobs = blocks(text, "yaml")
    path = web_config(tmp_path, tls(cert_file="server.crt") + client_keys + users(**dict([ALICE])))
    modules = tmp_path / "modules.yml"
    node = recorded(upstream).url.removeprefix("http://")
    keys = {"collector": "patroni", "targets": ["127.0.0.1"], "discovery": {"seeds": [node]}}
    modules.write_text(yaml.safe_dump({"modules": {"patroni": keys}}))
    configuration = {"global": {"scrape_interval": "1s"}, "scrape_configs": []}
    for job in jobs:
        changed = re.sub(r"targets: .*", f'targets: ["localhost:{port}"]', job)
        changed = changed.replace("exporter:9547", f"localhost:{port}")
        configuration["scrape_configs"] += yaml.safe_load(changed)["scrape_configs"]
    arguments = command(upstream, port, "--web.config.file", path, "--config.file", str(modules))
    up = [("patroni", 1.0), *[("patroni-clusters", 1.0)] * 3]
    with serving(tmp_path, port, arguments), prometheus(tmp_path, configuration) as watching:
        until(lambda: sorted((labels["job"], value) for labels, value in watching.query("up")) == up, 40)
        assert [value for _, value in watching.query('patroni_up{job="patroni"}')] == [1.0]
