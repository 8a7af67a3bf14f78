"""The TLS of the server: errors at the start, remarks, the context, and reloading."""

import os
import ssl
import time
from dataclasses import replace
from pathlib import Path

import pytest
import trustme

from exporter.config.errors import ConfigError
from exporter.config.reloadable import RETRY_AFTER
from exporter.web.tls import CIPHER_SUITES, ServerTLS, server_context
from exporter.web.web_config import ServerContext, WebConfigFile, checked_web_config
from tests.certificates import HERE, encrypted_key, issue
from tests.web_config import tls, users, web_config


@pytest.fixture(scope="module")
def ca() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def folder(tmp_path: Path, ca: trustme.CA) -> Path:
    """A folder with a certificate for this host, its key, and the authority that gave it."""
    issue(ca, tmp_path, "server", *HERE)
    ca.cert_pem.write_to_path(tmp_path / "ca.pem")
    return tmp_path


NO_PAIR = "cert_file, key_file: expected a certificate and a key in PEM"


REFUSED_TLS = [
    ({"cert_file": ""}, "cert_file is missing"),
    ({"key_file": ""}, "key_file is missing"),
    ({"cert_file": "gone"}, "cert_file: '{folder}/gone': No such file or directory"),
    ({"key_file": "gone"}, "key_file: '{folder}/gone': No such file or directory"),
    ({"key_file": "."}, "key_file: '{folder}': Is a directory"),
    ({"key_file": "fifo"}, "key_file: '{folder}/fifo': not a regular file"),
    ({"cert_file": "web.yml"}, NO_PAIR),
    ({"key_file": "web.yml"}, NO_PAIR),
    ({"key_file": "other.key"}, "cert_file, key_file: the key does not match the certificate"),
    ({"key_file": "locked.key"}, "key_file: the private key has a passphrase; expected one without"),
    ({"client_ca_file": "ca.pem"}, "client_ca_file is set, but client_auth_type does not request certificates"),
    ({"client_ca_file": "ca.pem", "client_auth_type": "NoClientCert"},
     "client_ca_file is set, but client_auth_type does not request certificates"),
    ({"client_auth_type": "RequireAndVerifyClientCert", "client_ca_file": "gone"},
     "client_ca_file: '{folder}/gone': No such file or directory"),
    ({"client_auth_type": "RequireAndVerifyClientCert", "client_ca_file": "web.yml"},
     "client_ca_file: expected certificates in PEM"),
    ({"client_auth_type": "RequireAndVerifyClientCert", "client_ca": "none"},
     "client_ca: expected certificates in PEM"),
    ({"client_auth_type": "RequireAnyClientCert"},
     "client_auth_type RequireAnyClientCert: certificates are always verified here; "
     "expected client_ca_file or another client_auth_type"),
    ({"client_allowed_sans": "[a]", "client_auth_type": "VerifyClientCertIfGiven"},
     "client_allowed_sans needs the client_auth_type RequireAndVerifyClientCert"),
    ({"max_version": "TLS11"}, "max_version TLS11: expected TLS12 or TLS13, and not less than min_version"),
    ({"max_version": "TLS12", "min_version": "TLS13"},
     "max_version TLS12: expected TLS12 or TLS13, and not less than min_version"),
    ({"curve_preferences": "[X25519, CurveP256]"}, "curve_preferences: expected one curve, or none for all"),
]  # fmt: skip


@pytest.mark.parametrize(("keys", "line"), REFUSED_TLS)
def test_error_at_the_start(folder: Path, ca: trustme.CA, keys: dict[str, str], line: str) -> None:
    issue(ca, folder, "other", *HERE)
    os.mkfifo(folder / "fifo")
    encrypted_key(folder / "locked.key", old=False)
    path = web_config(folder, tls(**keys))
    for start in (checked_web_config, ServerContext.load):
        with pytest.raises(ConfigError) as refused:
            start(path)
        assert str(refused.value) == f"{path}: tls_server_config: {line.format(folder=folder)}"


# Remarks


OTHERWISE = [
    ({"client_auth_type": "VerifyClientCertIfGiven"}, ()),
    ({"client_auth_type": "RequestClientCert"},
     ("client_auth_type RequestClientCert: certificates are not requested, they would be ignored",)),
    ({"client_auth_type": "RequireClientCert", "client_ca_file": "ca.pem"},
     ("client_auth_type RequireClientCert: certificates are verified with client_ca",)),
    ({"min_version": "TLS10"}, ("min_version TLS10: the minimum is TLS12",)),
    ({"cert_file": "", "key_file": "", "min_version": "TLS13"}, ("tls_server_config has no certificate: TLS is off",)),
]  # fmt: skip


@pytest.mark.parametrize(("keys", "remarks"), OTHERWISE)
def test_remarks(
    folder: Path, keys: dict[str, str], remarks: tuple[str, ...], caplog: pytest.LogCaptureFixture
) -> None:
    path = web_config(folder, tls(**keys))
    assert checked_web_config(path).tls.remarks == remarks
    WebConfigFile.load(path).log_state()
    assert caplog.messages == [f'TLS setting not applied file={path} reason="{remark}"' for remark in remarks]


def test_versions_suites_and_curve(folder: Path) -> None:
    files = ServerTLS(cert_file=str(folder / "server.pem"), key_file=str(folder / "server.key"))
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


def test_certificate_in_the_file_itself(folder: Path, ca: trustme.CA) -> None:
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


# Reloading


def test_changed_certificate(folder: Path, ca: trustme.CA) -> None:
    contexts = ServerContext.load(web_config(folder, tls()))
    first = contexts.get()
    assert contexts.get() is first
    old = (folder / "server.key").read_bytes()
    issue(ca, folder, "server", *HERE)
    second = contexts.get()
    assert second is not first
    new = (folder / "server.key").read_bytes()
    (folder / "server.key").write_bytes(old)
    assert contexts.get() is second  # the certificate and the key do not match
    (folder / "server.key").write_bytes(new)
    time.sleep(RETRY_AFTER)
    third = contexts.get()
    assert third is not second
    web_config(folder, tls(cert_file="later.pem", key_file="later.key"))
    assert contexts.get() is third
    issue(ca, folder, "later", *HERE)
    time.sleep(RETRY_AFTER)
    assert contexts.get() is not third


def test_tls_section_that_is_removed(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = web_config(folder, tls())
    contexts = ServerContext.load(path)
    first = contexts.get()
    web_config(folder, users(alice="a"))
    assert contexts.get() is first
    assert [record.getMessage() for record in caplog.records] == [
        f"file not loaded file={path} "
        f'reason="{path}: tls_server_config is missing: a restart is needed to serve without TLS"'
    ]
