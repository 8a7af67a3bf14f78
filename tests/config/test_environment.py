"""What is ignored in the environment and in the `.env` file."""

from pathlib import Path

import pytest

from exporter.config.environment import EnvFile, Ignored, ignored


@pytest.mark.parametrize(
    ("name", "closest"),
    [
        ("PATRONI_EXPORTER_TIMOUT", "PATRONI_EXPORTER_TIMEOUT"),
        ("PATRONI_EXPORTER_REQUESTS_VERIFY", "PATRONI_EXPORTER_REQUEST_VERIFY"),
        ("PATRONI_EXPORTER_VERIFY", "PATRONI_EXPORTER_REQUEST_VERIFY"),
        ("PATRONI_EXPORTER_PATRONI_URL", "PATRONI_EXPORTER_URL"),
        ("PATRONI_EXPORTR_URL", "PATRONI_EXPORTER_URL"),
        ("patroni_exporter_url", "PATRONI_EXPORTER_URL"),
        ("PATRONI_EXPORTER_PASSWD_FILE", "PATRONI_EXPORTER_PASSWORD_FILE"),
        ("STATUS_API_TOKEN", "STAYTUS_API_TOKEN"),
        ("STAYTUS_API_KEY", "STAYTUS_API_TOKEN"),
        ("EXPORTER_LOGLEVEL", "EXPORTER_LOG_LEVEL"),
        ("EXPORTER_CONFIG", "EXPORTER_CONFIG_FILE"),
        ("EXPORTER_ENVFILE", "EXPORTER_ENV_FILE"),
        ("POLLING_INTERVAL", "POLLING_INTERVAL_SECONDS"),
    ],
)
def test_misspelt_variable(name: str, closest: str) -> None:
    reason = f"{name} is not a setting; did you mean {closest}?"
    assert ignored({name: "x"}, EnvFile("some.env", True)) == (Ignored("environment", reason),)
    assert ignored({}, EnvFile("some.env", True, {name: "x"})) == (Ignored("some.env", reason),)


def test_variables_of_others() -> None:
    names = """\
        PATRONI_EXPORTER_URL STAYTUS_API_TOKEN_FILE EXPORTER_ENV_FILE DEBUG DEBUG1 LOG_LEVEL
        PATRONI_NAME PATRONI_LOG_LEVEL PATRONI_LOG_FORMAT PATRONI_RESTAPI_PASSWORD PATRONI_CTL_CERT_FILE
        PATRONI_ETCD_USERNAME PATRONI_SUPERUSER_PASSWORD PG_EXPORTER_PORT NODE_EXPORTER_WEB_CONFIG_FILE
        OTEL_EXPORTER_OTLP_TIMEOUT STAYTUS_DB_PASSWORD STAYTUS_SMTP_USERNAME
        PATRONI_EXPORTER_SERVICE_HOST PATRONI_EXPORTER_SERVICE_PORT PATRONI_EXPORTER_SERVICE_PORT_METRICS
        PATRONI_EXPORTER_PORT_9547_TCP PATRONI_EXPORTER_PORT_9547_TCP_ADDR"""
    assert ignored(dict.fromkeys(names.split(), "x"), EnvFile("some.env", True)) == ()


def test_invalid_lines(tmp_path: Path) -> None:
    """The text of a line can be a secret."""
    path = tmp_path / "some.env"
    path.write_text("# comment\nA=1\n\n\ns3cret\nexport B\n=x\n'C'=\"2\n3\"\nD=\n'E\nexport F=4 # comment\n")
    file = EnvFile.load({"EXPORTER_ENV_FILE": str(path)})
    assert (file.found, file.variables) == (True, {"A": "1", "C": "2\n3", "D": "", "F": "4"})
    lines = [Ignored(f"{path}:{number}", "expected a line of the form NAME=value") for number in (5, 6, 7, 11)]
    assert ignored({}, file) == tuple(lines)


def test_file_in_the_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The default is the directory of wsgi.py, which an installed package does not have."""
    (tmp_path / ".env").write_text("PATRONI_EXPORTER_TIMEOUT=4\n")
    monkeypatch.chdir(tmp_path)
    reason = "the file is not read; to read it, set EXPORTER_ENV_FILE"
    assert ignored({}, EnvFile("/site-packages/.env")) == (Ignored(str(tmp_path / ".env"), reason),)
    assert ignored({}, EnvFile("other.env", True)) == ()
