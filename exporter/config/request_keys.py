"""The keys of a YAML file that several of its mappings have: durations, `tls_config`, and secrets or their files."""

from collections.abc import Mapping
from typing import Any

from exporter.config import readers
from exporter.config.credentials import client_certificate
from exporter.config.readers import Reader
from exporter.config.yaml_file import TEXT_OR_NUMBER, Entry
from exporter.upstream.headers import Secret


def seconds(entry: Entry | None, low: float, default: float, high: float = 3600.0) -> float:
    """Returns a duration from low to high in seconds, or the default without an entry."""
    return default if entry is None else entry.read(readers.duration_or_seconds(low, high), kinds=TEXT_OR_NUMBER)


def tls(entry: Entry) -> dict[str, Any]:
    """Returns the arguments of RequestOptions for a `tls_config`."""
    keys = entry.keys(("ca_file", "cert_file", "key_file", "server_name", "insecure_skip_verify"))
    if "key_file" in keys and "cert_file" not in keys:
        entry.fail("cert_file is missing: key_file needs it")

    def path(key: str, reader: Reader[str]) -> str:
        return keys[key].read_path(reader) if key in keys else ""

    authorities = path("ca_file", readers.ca_bundle)
    skip_verify = "insecure_skip_verify" in keys and keys["insecure_skip_verify"].boolean()
    try:
        cert = client_certificate(path("cert_file", readers.certificate_file), path("key_file", readers.key_file))
    except OSError:
        entry.fail("expected the private key of the certificate, without a passphrase, in key_file or cert_file")
    return {
        "verify": False if skip_verify else authorities or True,
        "cert": cert,
        "server_name": keys["server_name"].read(readers.host_name) if "server_name" in keys else "",
    }


def secret(parent: Entry, keys: Mapping[str, Entry], key: str, reader: Reader[str]) -> Secret:
    """Returns the secret under the key, or the file under the same key with `_file`."""
    if (key in keys) == (f"{key}_file" in keys):
        parent.fail(f"expected either {key} or {key}_file")
    if key in keys:
        return Secret(keys[key].read(reader, secret=True))
    return secret_file(keys[f"{key}_file"], reader)


def secret_file(entry: Entry, reader: Reader[str]) -> Secret:
    """Returns a file that holds what the reader accepts."""

    def read(path: str) -> Secret:
        found = Secret(file=path)
        found.read(reader, reader.expected)
        return found

    return entry.read_path(Reader(f"the path of a file that holds {reader.expected}", read))
