"""Prometheus' own promtool reads the same web configuration files: what it accepts is accepted, but for a few."""

import subprocess
from pathlib import Path

from exporter.config.errors import ConfigError
from exporter.web.web_config import checked_web_config
from tests.certificates import HERE, authority, issue
from tests.live.installed import needs, path_of
from tests.locks import tls, web_config
from tests.web.test_tls import LOCKED_KEY, OTHERWISE, REFUSED_TLS
from tests.web.test_web_config import NOTHING, REFUSED

#: What is refused here alone, by what the reason says: what would be a trap, and what Python's TLS cannot do.
STRICTER = (
    "found another document",
    "expected printable ASCII",
    "expected a bcrypt hash",  # only where no password at all can have the hash
    "client_ca_file: expected certificates in PEM",  # newer toolkits refuse it too
    "certificates are always verified here",
    "not less than min_version",
    "expected one curve",
    "rate_limit.",  # a number of nanoseconds, and a limit that refuses every request or none
)


@needs("promtool")
def test_what_promtool_accepts_is_accepted_and_what_it_refuses_is_refused(tmp_path: Path) -> None:
    ca = authority(tmp_path / "ca.pem")
    for name in ("server", "other"):
        issue(ca, tmp_path, name, *HERE)
    (tmp_path / "locked.key").write_text(LOCKED_KEY)

    texts = [*NOTHING, *(text for text, _ in REFUSED), *(tls(**keys) for keys, _ in (*REFUSED_TLS, *OTHERWISE))]
    verdicts: dict[tuple[bool, bool], list[str]] = {}
    for text in texts:
        if "client_allowed_sans" in text:
            continue  # which not every version knows
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
    """What a file is refused with, empty where it is accepted."""
    try:
        checked_web_config(path)
    except ConfigError as refused:
        return str(refused)
    return ""
