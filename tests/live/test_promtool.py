"""promtool accepts /metrics, and the same web configuration files as the exporter with few exceptions."""

import subprocess
from pathlib import Path

from exporter.config.errors import ConfigError
from exporter.web.web_config import checked_web_config
from tests.certificates import HERE, authority, encrypted_key, issue
from tests.conftest import Upstream
from tests.limits.scrapes import RECORDED, application
from tests.live.installed import needs, path_of
from tests.web.test_tls import OTHERWISE, REFUSED_TLS
from tests.web.test_web_config import NOTHING, REFUSED
from tests.web_config import tls, web_config

#: Errors of the exporter alone: mistakes, and what Python's TLS does not support.
STRICTER = (
    "found another document",
    "expected printable ASCII",
    "expected a bcrypt hash",  # no password can have the hash
    "client_ca_file: expected certificates in PEM",  # new versions of promtool reject it too
    "client_ca: expected certificates in PEM",  # new versions of promtool accept it
    "certificates are always verified here",
    "not less than min_version",
    "expected one curve",
    "rate_limit.",  # a number of nanoseconds, and a limit that refuses every request or none
)


@needs("promtool")
def test_metrics(upstream: Upstream) -> None:
    upstream.serve(RECORDED)
    text = application(upstream.url, upstream.url).test_client().get("/metrics").data
    assert text.count(b"_up 1.0") == 2
    checked = subprocess.run([path_of("promtool"), "check", "metrics"], input=text, capture_output=True, check=False)
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, b"", b"")


@needs("promtool")
def test_web_config(tmp_path: Path) -> None:
    ca = authority(tmp_path / "ca.pem")
    for name in ("server", "other"):
        issue(ca, tmp_path, name, *HERE)
    encrypted_key(tmp_path / "locked.key", old=False)

    texts = [*NOTHING, *(text for text, _ in REFUSED), *(tls(**keys) for keys, _ in (*REFUSED_TLS, *OTHERWISE))]
    verdicts: dict[tuple[bool, bool], list[str]] = {}
    for text in texts:
        if "client_allowed_sans" in text or "fifo" in text:
            continue  # old versions do not have it; they block
        path = web_config(tmp_path, text)
        line = [path_of("promtool"), "check", "web-config", path]
        theirs = subprocess.run(line, capture_output=True, check=False).returncode == 0
        reason = refusal(path)
        verdicts.setdefault((theirs, reason == ""), []).append(reason)
    assert verdicts.pop((False, True), []) == []
    stricter = verdicts.pop((True, False))
    assert [reason for reason in stricter if not any(known in reason for known in STRICTER)] == []
    assert {agreed: bool(reasons) for agreed, reasons in verdicts.items()} == {(True, True): True, (False, False): True}


def refusal(path: str) -> str:
    """The error of a file, or an empty text."""
    try:
        checked_web_config(path)
    except ConfigError as refused:
        return str(refused)
    return ""
