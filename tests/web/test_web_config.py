"""The web configuration file: what is valid, as in the exporter-toolkit, and reloading."""

import time
from pathlib import Path

import pytest

from exporter.config.errors import ConfigError
from exporter.config.reloadable import RETRY_AFTER
from exporter.web.tls import ServerTLS
from exporter.web.web_config import RateLimit, WebConfig, WebConfigFile, checked_web_config, read_web_config
from tests.web_config import users, web_config

#: The hash in the documentation of the exporter-toolkit.
HASH = "$2y$10$X0h1gDsPszWURQaxFh.zoubFi6DXncSjhoQNJgRrnGs7EsimhC7zG"
TAGS = {"bob": "2a", "carol": "2b", "dave": "2x"}


# Valid files


def test_all_keys(tmp_path: Path) -> None:
    path = web_config(
        tmp_path,
        f"""\
tls_server_config:
  cert_file: "certs/server.crt"
  key_file: /etc/server.key
  client_auth_type: RequireAndVerifyClientCert
  client_ca_file: ca.crt
  client_allowed_sans: [prometheus, 10.0.0.1]
  min_version: TLS13
  max_version: TLS13
  cipher_suites: [TLS_AES_128_GCM_SHA256]
  prefer_server_cipher_suites: false
  curve_preferences: [X25519]
http_server_config:
  http2: false
  headers:
    X-Frame-Options: deny
    X-XSS-Protection: 1
    Strict-Transport-Security: ""
    Content-Security-Policy: >
      default-src 'self';
      img-src *
basic_auth_users:
  alice: {HASH}
  12: '{HASH}'
  bob: {HASH.replace("2y", "2a")}
  carol: {HASH.replace("2y", "2b")}
  dave: {HASH.replace("2y", "2x")}
rate_limit:
  interval: 1m0.5s
  burst: 20
""",
    )
    assert read_web_config(path) == WebConfig(
        tls=ServerTLS(
            cert_file=f"{tmp_path}/certs/server.crt",
            key_file="/etc/server.key",
            client_ca_file=f"{tmp_path}/ca.crt",
            client_auth_type="RequireAndVerifyClientCert",
            client_allowed_sans=("prometheus", "10.0.0.1"),
            min_version="TLS13",
            max_version="TLS13",
            cipher_suites=("TLS_AES_128_GCM_SHA256",),
            prefer_server_cipher_suites=False,
            curve_preferences=("X25519",),
        ),
        users={"alice": HASH, "12": HASH, **{name: HASH.replace("2y", tag) for name, tag in TAGS.items()}},
        headers=(
            ("X-Frame-Options", "deny"),
            ("X-XSS-Protection", "1"),
            ("Content-Security-Policy", "default-src 'self'; img-src *"),
        ),
        rate_limit=RateLimit(interval=60.5, burst=20),
    )


NOTHING = [
    "",
    "# nothing\n",
    "---\n",
    "tls_server_config:\nhttp_server_config:\nbasic_auth_users:\n",
    "tls_server_config: {}\nhttp_server_config: {headers: }\nbasic_auth_users: {}\n",
    "tls_server_config: {cert_file: , client_auth_type: ~, min_version: null, client_allowed_sans: }\n",
    "\ufeffhttp_server_config: {http2: yes}\n",
]


@pytest.mark.parametrize("text", NOTHING)
def test_empty_file(tmp_path: Path, text: str) -> None:
    assert checked_web_config(web_config(tmp_path, text)) == WebConfig()


@pytest.mark.parametrize(
    ("text", "limit"),
    [
        ("{interval: 1s, burst: 20}", RateLimit(1.0, 20)),
        ("{interval: '1h1m1s1ms', burst: 1}", RateLimit(3661.001, 1)),
        ("{interval: .5s, burst: 1}", RateLimit(0.5, 1)),
        ("{interval: 250us, burst: 1}", RateLimit(0.00025, 1)),
        ("{interval: 0, burst: 20}", None),
        ("{interval: 0s}", None),
        ("{burst: 20}", None),
        ("{interval: , burst: }", None),
        ("{}", None),
        ("", None),
    ],
)
def test_rate_limit(tmp_path: Path, text: str, limit: RateLimit | None) -> None:
    config = read_web_config(web_config(tmp_path, f"rate_limit: {text}\n"))
    assert config == WebConfig(rate_limit=limit)
    lines = ["rate limit: 20 requests, then one every 1 s"] if limit == RateLimit(1.0, 20) else []
    assert [line for line in config.summary() if line.startswith("rate limit: 20")] == lines


def test_no_secret_is_shown(tmp_path: Path) -> None:
    path = web_config(tmp_path, f"tls_server_config: {{key: canary1}}\nbasic_auth_users: {{alice: {HASH}}}\n")
    shown = repr(read_web_config(path)) + repr(read_web_config(path).summary())
    assert "canary1" not in shown
    assert HASH[7:] not in shown


# Errors

KEYS = (
    "cert_file, key_file, client_ca_file, cert, key, client_ca, client_auth_type, client_allowed_sans, min_version, "
    "max_version, cipher_suites, prefer_server_cipher_suites, curve_preferences"
)
BCRYPT = "expected a bcrypt hash, such as from htpasswd -nBC 10"

DURATION = "expected a duration such as 5s, 500ms or 1m30s, or 0"
BURST = "expected a burst of at least 1: with 0 every request would be refused"

REFUSED = [
    ("- a\n", "1: expected a mapping, found a list"),
    ("hello", "1: expected a mapping, found a text"),
    ("a: b: c\n", "1: not YAML: mapping values are not allowed in this context"),
    ("a: [\n\n", "3: not YAML: did not find expected node content"),
    ("a: &x 1\nb: *y\n", "2: not YAML: found undefined alias; a text that begins with * or [ needs quotes"),
    ("{}\n---\n{}\n", "2: not YAML: but found another document"),
    ("\x01", "1: not YAML: unacceptable character #x0001: control characters are not allowed"),
    ("[" * 40000, "1: more than 50 levels of nesting"),
    ("\n" + "- " * 40000, "2: more than 50 levels of nesting"),
    ("[" * 50 + "]" * 50, "1: expected a mapping, found a list"),
    ("\ntls_config: {}\n",
     "2: tls_config: unknown key; expected tls_server_config, http_server_config, basic_auth_users, rate_limit"),
    ("rate_limit: {interval: 1}\n", f"1: rate_limit.interval: '1': {DURATION}"),
    ("rate_limit: {interval: '1'}\n", f"1: rate_limit.interval: '1': {DURATION}"),
    ("rate_limit: {interval: 1d}\n", f"1: rate_limit.interval: '1d': {DURATION}"),
    ("rate_limit: {interval: -1s}\n", f"1: rate_limit.interval: '-1s': {DURATION}"),
    ("rate_limit: {interval: [1s]}\n", f"1: rate_limit.interval: {DURATION}, found a list"),
    ("rate_limit: {burst: '2'}\n", "1: rate_limit.burst: expected a number from 0 to 999999999, found a text"),
    ("rate_limit: {burst: -1}\n", "1: rate_limit.burst: '-1': expected a number from 0 to 999999999"),
    ("rate_limit: {interval: 1s}\n", f"1: rate_limit.interval: {BURST}"),
    ("rate_limit:\n  interval: 1s\n  burst: 0\n", f"3: rate_limit.burst: {BURST}"),
    ("rate_limit: {bursts: 1}\n", "1: rate_limit.bursts: unknown key; expected interval, burst"),
    ("tls_server_config:\n  cert_fil: x\n", f"2: tls_server_config.cert_fil: unknown key; expected {KEYS}"),
    ("tls_server_config:\n  key_file: a\n  key_file: b\n",
     "3: tls_server_config.key_file: duplicate key, also in line 2"),
    ("tls_server_config: {}\ntls_server_config: {}\n", "2: tls_server_config: duplicate key, also in line 1"),
    ("tls_server_config: {cert_file: [a]}\n", "1: tls_server_config.cert_file: expected a text, found a list"),
    ("tls_server_config: [cert_file]\n", "1: tls_server_config: expected a mapping, found a list"),
    ("tls_server_config: {client_auth_type: Require}\n",
     "1: tls_server_config.client_auth_type: 'Require': expected one of NoClientCert, RequestClientCert, "
     "RequireClientCert, RequireAnyClientCert, VerifyClientCertIfGiven, RequireAndVerifyClientCert"),
    ("tls_server_config: {min_version: TLSv1.2}\n",
     "1: tls_server_config.min_version: 'TLSv1.2': expected one of TLS10, TLS11, TLS12, TLS13"),
    ("tls_server_config: {curve_preferences: [CurveP1]}\n",
     "1: tls_server_config.curve_preferences[0]: 'CurveP1': expected one of CurveP256, CurveP384, CurveP521, X25519"),
    ("tls_server_config: {cipher_suites: A}\n", "1: tls_server_config.cipher_suites: expected a list, found a text"),
    ("tls_server_config: {prefer_server_cipher_suites: 'true'}\n",
     "1: tls_server_config.prefer_server_cipher_suites: expected true or false, found a text"),
    ("http_server_config: {http2: 1}\n", "1: http_server_config.http2: expected true or false, found a number"),
    ("http_server_config:\n  headers:\n    Server: x\n",
     "3: http_server_config.headers.Server: unknown key; expected Content-Security-Policy, "
     "Strict-Transport-Security, X-Content-Type-Options, X-Frame-Options, X-XSS-Protection"),
    ("http_server_config: {headers: {X-Frame-Options: DENY}}\n",
     "1: http_server_config.headers.X-Frame-Options: 'DENY': expected one of deny, sameorigin"),
    ("http_server_config: {headers: {X-Content-Type-Options: ''}}\n",
     "1: http_server_config.headers.X-Content-Type-Options: '': expected one of nosniff"),
    ("http_server_config: {headers: {Content-Security-Policy: ü}}\n",
     "1: http_server_config.headers.Content-Security-Policy: '\\xfc': expected printable ASCII"),
    ("basic_auth_users:\n  alice: s3cret\n", f"2: basic_auth_users.alice: {BCRYPT}"),
    ("basic_auth_users:\n  alice:\n", f"2: basic_auth_users.alice: {BCRYPT}, found nothing"),
    (f"basic_auth_users: {{a: {HASH[:-1]}}}\n", f"1: basic_auth_users.a: {BCRYPT}"),
    (f"basic_auth_users: {{a: {HASH}G}}\n", f"1: basic_auth_users.a: {BCRYPT}"),
    (f"basic_auth_users: {{a: {HASH.replace('$10$', '$03$')}}}\n", f"1: basic_auth_users.a: {BCRYPT}"),
    (f"basic_auth_users: {{a: {HASH.replace('$10$', '$32$')}}}\n", f"1: basic_auth_users.a: {BCRYPT}"),
    (f"basic_auth_users: {{a: {HASH.replace('2y', '2c')}}}\n", f"1: basic_auth_users.a: {BCRYPT}"),
    (f"basic_auth_users: {{a: {HASH.replace('zou', 'zoz')}}}\n", f"1: basic_auth_users.a: {BCRYPT}"),
    (f"basic_auth_users:\n  a: {HASH}\n  a: {HASH}\n", "3: basic_auth_users.a: duplicate key, also in line 2"),
    ('basic_auth_users: {"a\\nb": x}\n', f"1: basic_auth_users.a\\nb: {BCRYPT}"),
    ("basic_auth_users: {[a]: x}\n", "1: basic_auth_users: expected a text as the key"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "line"), REFUSED)
def test_error_names_line_and_key(tmp_path: Path, text: str, line: str) -> None:
    path = web_config(tmp_path, text)
    with pytest.raises(ConfigError) as refused:
        read_web_config(path)
    assert str(refused.value) == f"{path}:{line}"


# Reloading


def test_changed_users(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A version that cannot be used leaves the last ones in place, and so does one without users."""
    path = web_config(tmp_path, users(alice="a"))
    config = WebConfigFile.load(path)
    first = config.get()
    assert (list(first.users), config.get() is first) == (["alice"], True)

    web_config(tmp_path, users(bob="b", carol="c"))
    assert list(config.get().users) == ["bob", "carol"]

    web_config(tmp_path, "basic_auth_users: {bob: plain}\n")
    assert [list(config.get().users) for _ in range(3)] == [["bob", "carol"]] * 3
    web_config(tmp_path, "basic_auth_users: {}\n")
    time.sleep(RETRY_AFTER)
    assert [list(config.get().users) for _ in range(3)] == [["bob", "carol"]] * 3
    assert [record.getMessage() for record in caplog.records] == [
        f'file not loaded file={path} reason="{path}:1: basic_auth_users.bob: {BCRYPT}"',
        f"file not loaded file={path} "
        f'reason="{path}: basic_auth_users is missing: a restart is needed to serve without users"',
    ]
    web_config(tmp_path, users(dave="d"))
    time.sleep(RETRY_AFTER)
    assert list(config.get().users) == ["dave"]
