"""Certificates and keys of tests, as files in PEM."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, NoEncryption, PrivateFormat

#: The names of this machine.
HERE = ("localhost", "127.0.0.1")

PASSPHRASE = "passphr4se"


@dataclass(frozen=True)
class Files:
    """The paths of a certificate with its chain and of its private key."""

    cert: Path
    key: Path

    @property
    def pair(self) -> tuple[str, str]:
        return str(self.cert), str(self.key)


def authority(file: Path) -> trustme.CA:
    """Creates an authority and writes its certificate."""
    ca = trustme.CA()
    ca.cert_pem.write_to_path(file)
    return ca


def issue(ca: trustme.CA, folder: Path, name: str, *names: str, expired: bool = False) -> Files:
    """Writes NAME.pem and NAME.key: a new certificate for these names, by default for `name`."""
    past = datetime(2020, 1, 1, tzinfo=UTC) if expired else None
    return write(
        ca.issue_cert(*(names or (name,)), not_before=past and past - timedelta(1), not_after=past), folder, name
    )


def write(made: trustme.LeafCert, folder: Path, name: str) -> Files:
    """Writes NAME.pem and NAME.key."""
    files = Files(folder / f"{name}.pem", folder / f"{name}.key")
    files.cert.write_bytes(b"".join(blob.bytes() for blob in made.cert_chain_pems))
    made.private_key_pem.write_to_path(files.key)
    return files


def self_signed(folder: Path, name: str, *, old: bool = False) -> Files:
    """Writes NAME.pem and NAME.key: a self-signed certificate; an old one has its name only in the subject."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    made = x509.CertificateBuilder(subject, subject, key.public_key(), x509.random_serial_number())
    made = made.not_valid_before(now - timedelta(1)).not_valid_after(now + timedelta(1))
    if not old:
        made = made.add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
    files = Files(folder / f"{name}.pem", folder / f"{name}.key")
    files.cert.write_bytes(made.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM))
    files.key.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return files


def encrypted_key(file: Path, *, old: bool) -> Path:
    """Writes a private key with PASSPHRASE, in the old format of OpenSSL or as PKCS 8."""
    kind = PrivateFormat.TraditionalOpenSSL if old else PrivateFormat.PKCS8
    secret = BestAvailableEncryption(PASSPHRASE.encode())
    file.write_bytes(ec.generate_private_key(ec.SECP256R1()).private_bytes(Encoding.PEM, kind, secret))
    return file
