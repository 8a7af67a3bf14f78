"""The examples of TLS and passwords in docs/security.md, on another port."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.certificates import HERE, authority, issue
from tests.conftest import Upstream
from tests.live.installed import needs
from tests.live.processes import ROOT, recorded, serving, until
from tests.live.prometheus import prometheus
from tests.live.test_gunicorn import command
from tests.web_config import ALICE, tls, users, web_config

pytestmark = pytest.mark.timeout(90)

SECTION = (ROOT / "docs" / "security.md").read_text().partition("\n## TLS and passwords\n")[2].partition("\n## ")[0]


def examples(language: str) -> list[str]:
    return re.findall(rf"(?ms)^```{language}\n(.*?)^```$", SECTION)


def shell(text: str) -> list[str]:
    return [command.strip() for command in re.split(r"(?m)^\$ ", text) if command]


@needs("curl", "openssl")
@pytest.mark.parametrize(("password", "answer"), [("s3cret", "patroni_up 1.0"), ("other", "Unauthorized: ")])
def test_curl(upstream: Upstream, tmp_path: Path, port: int, password: str, answer: str) -> None:
    (tmp_path / ".venv").symlink_to(sys.prefix)
    serve, [request] = map(shell, examples("console"))
    subprocess.run(  # without a terminal the password is read from standard input
        ["bash", "-euc", "\n".join(serve[:-1])],
        cwd=tmp_path,
        input=f"{password}\n".encode(),
        start_new_session=True,
        check=True,
    )
    environ = {"PATRONI_EXPORTER_PORT": str(port), "PATRONI_EXPORTER_URL": recorded(upstream).url}
    with serving(tmp_path, port, ["bash", "-c", f"exec {serve[-1]}"], environ=environ) as exporter:
        line = request.replace(":9547", f":{port}")
        done = subprocess.run(["bash", "-c", line], cwd=tmp_path, capture_output=True, check=True, text=True)
        assert answer in done.stdout
        assert exporter.end() == 0


@needs("prometheus")
def test_prometheus(upstream: Upstream, tmp_path: Path, port: int) -> None:
    ca = authority(tmp_path / "ca.crt")
    for name in ("server", "prometheus"):
        issue(ca, tmp_path, name, *HERE).cert.rename(tmp_path / f"{name}.crt")
    (tmp_path / "password").write_text(ALICE[1] + "\n")
    client_keys, scrape = examples("yaml")
    path = web_config(tmp_path, tls(cert_file="server.crt") + client_keys + users(**dict([ALICE])))
    scrape = re.sub(r"targets: .*", f'targets: ["localhost:{port}"]', scrape)
    arguments = command(recorded(upstream), port, "--web.config.file", path)
    configuration = {"global": {"scrape_interval": "1s"}, **yaml.safe_load(scrape)}
    with serving(tmp_path, port, arguments), prometheus(tmp_path, configuration) as watching:
        until(lambda: [value for _, value in watching.query("up")] == [1.0], 40)
        assert [value for _, value in watching.query("patroni_up")] == [1.0]
