"""The web configuration file: what is accepted and refused as by the exporter-toolkit, and that changes are seen."""

import logging
import ssl
from dataclasses import replace
from pathlib import Path

import pytest
import trustme

from exporter.settings import SettingsError
from exporter.tls import CIPHER_SUITES, ServerTLS, server_context
from exporter.web_config import WebConfig, checked_web_config, read_web_config, reread_context, reread_web_config
from tests.locks import issue, tls, users, web_config

#: The hash in the documentation of the exporter-toolkit.
HASH = "$2y$10$X0h1gDsPszWURQaxFh.zoubFi6DXncSjhoQNJgRrnGs7EsimhC7zG"


@pytest.fixture(scope="module")
def ca() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def folder(tmp_path: Path, ca: trustme.CA) -> Path:
    """A folder with a certificate for this host, its key, and the authority that gave it."""
    issue(ca, tmp_path, "server")
    ca.cert_pem.write_to_path(tmp_path / "ca.crt")
    return tmp_path


# What is accepted -----------------------------------------------------------------------------------------------------


def test_all_keys_are_read(tmp_path: Path) -> None:
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
        users={"alice": HASH, "12": HASH},
        headers=(
            ("X-Frame-Options", "deny"),
            ("X-XSS-Protection", "1"),
            ("Content-Security-Policy", "default-src 'self'; img-src *"),
        ),
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
def test_file_that_says_nothing_asks_for_nothing(tmp_path: Path, text: str) -> None:
    assert checked_web_config(web_config(tmp_path, text)) == WebConfig()


@pytest.mark.parametrize("version", ["a", "b", "x", "y"])
def test_hashes_of_every_tool_are_accepted(tmp_path: Path, version: str) -> None:
    text = f"basic_auth_users: {{alice: {HASH.replace('2y', '2' + version)}}}"
    assert list(read_web_config(web_config(tmp_path, text)).users) == ["alice"]


def test_hash_is_in_no_repr(tmp_path: Path) -> None:
    path = web_config(tmp_path, f"tls_server_config: {{key: canary1}}\nbasic_auth_users: {{alice: {HASH}}}\n")
    shown = repr(read_web_config(path)) + repr(read_web_config(path).told())
    assert "canary1" not in shown
    assert HASH[7:] not in shown


# What is refused ------------------------------------------------------------------------------------------------------

KEYS = (
    "cert_file, key_file, client_ca_file, cert, key, client_ca, client_auth_type, client_allowed_sans, min_version, "
    "max_version, cipher_suites, prefer_server_cipher_suites, curve_preferences"
)
BCRYPT = "expected a bcrypt hash, such as htpasswd -nBC 10 makes"


REFUSED = [
    ("- a\n", "line 1: expected keys with values"),
    ("hello", "line 1: expected keys with values"),
    ("a: b: c\n", "line 1: mapping values are not allowed here"),
    ("a: [\n\n", "line 3: expected the node content, but found '<stream end>'"),
    ("a: &x 1\nb: *y\n", "line 2: found undefined alias 'y'"),
    ("{}\n---\n{}\n", "line 2: but found another document"),
    ("\x01", "expected YAML in UTF-8"),
    ("[" * 5000, "expected YAML in UTF-8"),
    (
        "\ntls_config: {}\n",
        "line 2: tls_config: unknown key; expected one of tls_server_config, http_server_config, basic_auth_users, "
        "rate_limit",
    ),
    ("rate_limit: {interval: 1s}\n", "line 1: rate_limit: there is no limit of requests here; leave it out"),
    (
        "tls_server_config:\n  cert_fil: x\n",
        f"line 2: tls_server_config.cert_fil: unknown key; expected one of {KEYS}",
    ),
    ("tls_server_config:\n  key_file: a\n  key_file: b\n", "line 3: tls_server_config.key_file: stands twice"),
    ("tls_server_config: {}\ntls_server_config: {}\n", "line 2: tls_server_config: stands twice"),
    ("tls_server_config: {cert_file: [a]}\n", "line 1: tls_server_config.cert_file: expected a text"),
    ("tls_server_config: [cert_file]\n", "line 1: tls_server_config: expected keys with values"),
    (
        "tls_server_config: {client_auth_type: Require}\n",
        "line 1: tls_server_config.client_auth_type: 'Require': expected one of NoClientCert, RequestClientCert, "
        "RequireClientCert, RequireAnyClientCert, VerifyClientCertIfGiven, RequireAndVerifyClientCert",
    ),
    (
        "tls_server_config: {min_version: TLSv1.2}\n",
        "line 1: tls_server_config.min_version: 'TLSv1.2': expected one of TLS10, TLS11, TLS12, TLS13",
    ),
    (
        "tls_server_config: {curve_preferences: [CurveP1]}\n",
        "line 1: tls_server_config.curve_preferences: 'CurveP1': expected one of CurveP256, CurveP384, CurveP521, "
        "X25519",
    ),
    ("tls_server_config: {cipher_suites: A}\n", "line 1: tls_server_config.cipher_suites: expected a list"),
    (
        "tls_server_config: {prefer_server_cipher_suites: 'true'}\n",
        "line 1: tls_server_config.prefer_server_cipher_suites: expected true or false",
    ),
    ("http_server_config: {http2: 1}\n", "line 1: http_server_config.http2: expected true or false"),
    (
        "http_server_config:\n  headers:\n    Server: x\n",
        "line 3: http_server_config.headers.Server: unknown key; expected one of Content-Security-Policy, "
        "Strict-Transport-Security, X-Content-Type-Options, X-Frame-Options, X-XSS-Protection",
    ),
    (
        "http_server_config: {headers: {X-Frame-Options: DENY}}\n",
        "line 1: http_server_config.headers.X-Frame-Options: 'DENY': expected one of deny, sameorigin",
    ),
    (
        "http_server_config: {headers: {X-Content-Type-Options: ''}}\n",
        "line 1: http_server_config.headers.X-Content-Type-Options: '': expected one of nosniff",
    ),
    (
        "http_server_config: {headers: {Content-Security-Policy: ü}}\n",
        "line 1: http_server_config.headers.Content-Security-Policy: expected ASCII that can be printed",
    ),
    ("basic_auth_users:\n  alice: s3cret\n", f"line 2: basic_auth_users.alice: {BCRYPT}"),
    ("basic_auth_users:\n  alice:\n", f"line 2: basic_auth_users.alice: {BCRYPT}"),
    (f"basic_auth_users: {{a: {HASH[:-1]}}}\n", f"line 1: basic_auth_users.a: {BCRYPT}"),
    (f"basic_auth_users: {{a: {HASH}G}}\n", f"line 1: basic_auth_users.a: {BCRYPT}"),
    (f"basic_auth_users: {{a: {HASH.replace('$10$', '$03$')}}}\n", f"line 1: basic_auth_users.a: {BCRYPT}"),
    (f"basic_auth_users: {{a: {HASH.replace('$10$', '$32$')}}}\n", f"line 1: basic_auth_users.a: {BCRYPT}"),
    (f"basic_auth_users: {{a: {HASH.replace('2y', '2c')}}}\n", f"line 1: basic_auth_users.a: {BCRYPT}"),
    (f"basic_auth_users: {{a: {HASH.replace('zou', 'zoz')}}}\n", f"line 1: basic_auth_users.a: {BCRYPT}"),
    (f"basic_auth_users:\n  a: {HASH}\n  a: {HASH}\n", "line 3: basic_auth_users.a: stands twice"),
    ('basic_auth_users: {"a\\nb": x}\n', f"line 1: basic_auth_users.a b: {BCRYPT}"),
    ("basic_auth_users: {[a]: x}\n", "line 1: basic_auth_users: expected a text"),
]


@pytest.mark.parametrize(("text", "line"), REFUSED)
def test_file_that_cannot_be_used_is_refused_with_its_line_and_key(tmp_path: Path, text: str, line: str) -> None:
    path = web_config(tmp_path, text)
    with pytest.raises(SettingsError) as refused:
        read_web_config(path)
    assert str(refused.value) == f"{path}: {line}"


@pytest.mark.parametrize("name", ["gone.yml", "."])
def test_file_that_is_not_there_is_refused(tmp_path: Path, name: str) -> None:
    reason = "Is a directory" if name == "." else "No such file or directory"
    with pytest.raises(SettingsError) as refused:
        read_web_config(str(tmp_path / name))
    assert str(refused.value) == f"{tmp_path / name}: {reason}; expected a web configuration file"


def test_bytes_that_are_no_text_are_refused(tmp_path: Path) -> None:
    (tmp_path / "web.yml").write_bytes(b"\xff\xfe\xfa")
    with pytest.raises(SettingsError, match=r"web\.yml: expected YAML in UTF-8$"):
        read_web_config(str(tmp_path / "web.yml"))


NO_PAIR = "cert_file, key_file: expected a certificate and a key in PEM"


REFUSED_TLS = [
    ({"cert_file": ""}, "cert_file is missing"),
    ({"key_file": ""}, "key_file is missing"),
    ({"cert_file": "gone"}, "cert_file: '{folder}/gone': No such file or directory"),
    ({"key_file": "gone"}, "key_file: '{folder}/gone': No such file or directory"),
    ({"key_file": "."}, "key_file: '{folder}': Is a directory"),
    ({"cert_file": "web.yml"}, NO_PAIR),
    ({"key_file": "web.yml"}, NO_PAIR),
    ({"key_file": "other.key"}, "cert_file, key_file: the key is not that of the certificate"),
    ({"key_file": "locked.key"}, "key_file: the private key has a passphrase; expected one without"),
    (
        {"client_ca_file": "ca.crt"},
        "client_ca_file is there without a client_auth_type that asks for certificates",
    ),
    (
        {"client_ca_file": "ca.crt", "client_auth_type": "NoClientCert"},
        "client_ca_file is there without a client_auth_type that asks for certificates",
    ),
    (
        {"client_auth_type": "RequireAndVerifyClientCert", "client_ca_file": "gone"},
        "client_ca_file: '{folder}/gone': No such file or directory",
    ),
    (
        {"client_auth_type": "RequireAndVerifyClientCert", "client_ca_file": "web.yml"},
        "client_ca_file: expected certificates in PEM",
    ),
    (
        {"client_auth_type": "RequireAndVerifyClientCert", "client_ca": "none"},
        "client_ca: expected certificates in PEM",
    ),
    (
        {"client_auth_type": "RequireAnyClientCert"},
        "client_auth_type RequireAnyClientCert: a certificate cannot be asked for without verifying it here; "
        "expected client_ca_file, or another client_auth_type",
    ),
    (
        {"client_allowed_sans": "[a]", "client_auth_type": "VerifyClientCertIfGiven"},
        "client_allowed_sans needs the client_auth_type RequireAndVerifyClientCert",
    ),
    ({"max_version": "TLS11"}, "max_version TLS11: expected TLS12 or TLS13, and not less than min_version"),
    (
        {"max_version": "TLS12", "min_version": "TLS13"},
        "max_version TLS12: expected TLS12 or TLS13, and not less than min_version",
    ),
    (
        {"curve_preferences": "[X25519, CurveP256]"},
        "curve_preferences: one curve can be chosen here, or all by leaving them out",
    ),
]


@pytest.mark.parametrize(("keys", "line"), REFUSED_TLS)
def test_tls_that_cannot_be_served_is_refused_at_the_start(
    folder: Path, ca: trustme.CA, keys: dict[str, str], line: str
) -> None:
    issue(ca, folder, "other")
    (folder / "locked.key").write_text(LOCKED_KEY)
    path = web_config(folder, tls(**keys))
    for start in (checked_web_config, reread_context):
        with pytest.raises(SettingsError) as refused:
            start(path)
        assert str(refused.value) == f"{path}: tls_server_config: {line.format(folder=folder)}"


# A key for these tests alone, with the passphrase "x".
LOCKED_KEY = """\
-----BEGIN ENCRYPTED PRIVATE KEY-----
MIH0MF8GCSqGSIb3DQEFDTBSMDEGCSqGSIb3DQEFDDAkBBC6x5yTlUwFrDRFUgP+
UOjtAgIIADAMBggqhkiG9w0CCQUAMB0GCWCGSAFlAwQBKgQQdOg2sWgnEEYKVzX5
c2cA3QSBkJ/0cFcwiKR53QeCIuGT9KSdF0r9+LKvUWz90+S9vskcPeecYf+4iRyK
AJc1c14vqRC35R0THKaMAiTHtlRQfYyPhcK7amb7OYCXAIvQAgxQRhX428t459F5
/uNdOQx7j4NKFH9H4oxk6kL+oAOpUNmFdwAODQL+f7IfOWzWW/ADS0QKuuyAtq2Y
xVo11LtPgQ==
-----END ENCRYPTED PRIVATE KEY-----
"""


# What is done otherwise -----------------------------------------------------------------------------------------------


OTHERWISE = [
    ({"client_auth_type": "VerifyClientCertIfGiven"}, ()),
    (
        {"client_auth_type": "RequestClientCert"},
        ("client_auth_type RequestClientCert: certificates are not asked for, since none is looked at",),
    ),
    (
        {"client_auth_type": "RequireClientCert", "client_ca_file": "ca.crt"},
        ("client_auth_type RequireClientCert: certificates are verified with client_ca too",),
    ),
    ({"min_version": "TLS10"}, ("min_version TLS10: TLS12 is the oldest that is served",)),
    (
        {"cert_file": "", "key_file": "", "min_version": "TLS13"},
        ("tls_server_config has no certificate: no TLS is served",),
    ),
]


@pytest.mark.parametrize(("keys", "remarks"), OTHERWISE)
def test_what_is_done_otherwise_is_said(folder: Path, keys: dict[str, str], remarks: tuple[str, ...]) -> None:
    assert checked_web_config(web_config(folder, tls(**keys))).tls.remarks == remarks


def test_versions_suites_and_curve_reach_the_context(folder: Path) -> None:
    files = ServerTLS(cert_file=str(folder / "server.crt"), key_file=str(folder / "server.key"))
    default = server_context(files)
    assert (default.minimum_version, default.maximum_version) == (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3)
    assert (default.verify_mode, bool(default.options & ssl.OP_CIPHER_SERVER_PREFERENCE)) == (ssl.CERT_NONE, True)

    only_13 = server_context(replace(files, cipher_suites=("TLS_AES_128_GCM_SHA256",)))
    assert only_13.minimum_version == ssl.TLSVersion.TLSv1_3
    chosen = server_context(
        replace(
            files,
            max_version="TLS12",
            cipher_suites=tuple(CIPHER_SUITES),
            prefer_server_cipher_suites=False,
            curve_preferences=("CurveP384",),
        )
    )
    of_12 = [suite["name"] for suite in chosen.get_ciphers() if suite["protocol"] != "TLSv1.3"]
    assert sorted(of_12) == sorted(CIPHER_SUITES.values())
    assert (chosen.maximum_version, bool(chosen.options & ssl.OP_CIPHER_SERVER_PREFERENCE)) == (
        ssl.TLSVersion.TLSv1_2,
        False,
    )


def test_certificate_within_the_file_is_served_and_is_on_no_disk(folder: Path, ca: trustme.CA) -> None:
    leaf = ca.issue_cert("localhost")
    inline = ServerTLS(
        cert=leaf.cert_chain_pems[0].bytes().decode(),
        key=leaf.private_key_pem.bytes().decode(),
        client_ca=ca.cert_pem.bytes().decode(),
        client_auth_type="RequireAndVerifyClientCert",
    )
    before = len(list(Path("/proc/self/fd").iterdir()))
    context = server_context(inline)
    assert (context.verify_mode, len(context.get_ca_certs())) == (ssl.CERT_REQUIRED, 1)
    assert len(list(Path("/proc/self/fd").iterdir())) == before


# Changes --------------------------------------------------------------------------------------------------------------


def test_changed_users_are_seen_and_a_bad_file_leaves_the_last_ones(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = web_config(tmp_path, users(alice="a"))
    config = reread_web_config(path)
    first = config.get()
    assert (list(first.users), config.get() is first) == (["alice"], True)

    web_config(tmp_path, users(bob="b", carol="c"))
    assert list(config.get().users) == ["bob", "carol"]

    with caplog.at_level(logging.ERROR):
        web_config(tmp_path, "basic_auth_users: {bob: plain}\n")
        assert [list(config.get().users) for _ in range(3)] == [["bob", "carol"]] * 3
        Path(path).unlink()
        assert [list(config.get().users) for _ in range(3)] == [["bob", "carol"]] * 3
    assert [record.getMessage() for record in caplog.records] == [
        f"{path}: line 1: basic_auth_users.bob: {BCRYPT}; what was read before goes on to count",
        f"{path}: No such file or directory; expected a web configuration file; what was read before goes on to count",
    ]
    web_config(tmp_path, users(dave="d"))
    assert list(config.get().users) == ["dave"]


def test_file_behind_a_link_that_is_turned_is_seen(tmp_path: Path) -> None:
    for name, text in (("old", users(alice="a")), ("new", users(bob="b"))):
        (tmp_path / name).mkdir()
        web_config(tmp_path / name, text)
    link = tmp_path / "current"
    link.symlink_to("old")
    config = reread_web_config(str(link / "web.yml"))
    assert list(config.get().users) == ["alice"]
    (tmp_path / "next").symlink_to("new")
    (tmp_path / "next").rename(link)  # as Kubernetes does with a secret
    assert list(config.get().users) == ["bob"]


def test_changed_certificate_is_a_new_context_and_half_a_change_leaves_the_last(folder: Path, ca: trustme.CA) -> None:
    contexts = reread_context(web_config(folder, tls()))
    first = contexts.get()
    assert contexts.get() is first
    key = (folder / "server.key").read_bytes()
    issue(ca, folder, "server")
    second = contexts.get()
    assert second is not first
    new = (folder / "server.key").read_bytes()
    (folder / "server.key").write_bytes(key)
    assert contexts.get() is second
    (folder / "server.key").write_bytes(new)
    assert contexts.get() is not second


def test_certificate_that_comes_after_the_file_that_names_it_is_seen(folder: Path, ca: trustme.CA) -> None:
    contexts = reread_context(web_config(folder, tls()))
    first = contexts.get()
    web_config(folder, tls(cert_file="later.crt", key_file="later.key"))
    assert contexts.get() is first
    issue(ca, folder, "later")
    assert contexts.get() is not first


def test_tls_that_is_gone_from_the_file_goes_on_until_a_restart(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = web_config(folder, tls())
    contexts = reread_context(path)
    first = contexts.get()
    web_config(folder, users(alice="a"))
    assert contexts.get() is first
    assert [record.getMessage() for record in caplog.records] == [
        f"{path}: tls_server_config is gone: to serve without TLS takes a restart; "
        "what was read before goes on to count"
    ]
