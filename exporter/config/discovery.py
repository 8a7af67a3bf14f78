"""The key `discovery` of a module: where the clusters of the module are found."""

import re
from dataclasses import dataclass

from exporter.config import readers
from exporter.config.allow_list import Place
from exporter.config.readers import Reader, expects, invalid
from exporter.config.request_keys import seconds, secret, tls
from exporter.config.yaml_file import Entry
from exporter.upstream.headers import Secret, printable_line
from exporter.upstream.target import RequestOptions

#: How seeds begin that are names in the DNS, as in Thanos: of addresses, and of SRV records.
ADDRESSES, SERVICE = "dns+", "dnssrv+"
NAME_PREFIXES = (ADDRESSES, SERVICE)


@dataclass(frozen=True)
class Etcd:
    """An etcd v3 that holds the keys of Patroni.

    `endpoints` are URLs without a slash at the end; `prefix` begins and ends with a slash. `options` are those of its
    requests, with the timeout of each.
    """

    endpoints: tuple[str, ...]
    prefix: str
    options: RequestOptions
    user: str = ""
    password: Secret | None = None


@dataclass(frozen=True)
class Discovery:
    """Where clusters are found: by seeds, or in etcd. A member that is gone stays listed for `keep_missing` seconds."""

    seeds: tuple[str, ...] = ()
    etcd: Etcd | None = None
    keep_missing: float = 3600.0


def read_discovery(entry: Entry) -> Discovery:
    """Returns the value of the key; raises ConfigError."""
    keys = entry.keys(("seeds", "etcd", "keep_missing"))
    if ("seeds" in keys) == ("etcd" in keys):
        entry.fail("expected either seeds or etcd")
    return Discovery(
        seeds=tuple(dict.fromkeys(_read(one, seed) for one in keys["seeds"].items())) if "seeds" in keys else (),
        etcd=_etcd(keys["etcd"]) if "etcd" in keys else None,
        keep_missing=seconds(keys.get("keep_missing"), 0.0, 3600.0, 7 * 24 * 3600.0),
    )


@expects(
    "HOST, HOST:PORT or a URL such as http://db1:8008, dns+NAME:PORT for the addresses of a name, or dnssrv+NAME for "
    "SRV records, without user"
)
def seed(text: str) -> str:
    """Reads a seed."""
    if text.startswith(SERVICE):
        readers.host_name(text.removeprefix(SERVICE).removesuffix("."))
    elif text.startswith(ADDRESSES):
        if not re.fullmatch(r"([\w.-]+|\[[^]/]+\])(:\d+)?", text.removeprefix(ADDRESSES), re.ASCII):
            raise ValueError
        Place.of(text.removeprefix(ADDRESSES), "http", None)
    else:
        Place.of(text, "http", None)
    return text


@expects("a URL such as https://etcd1:2379, without user, which is the key username")
def endpoint(text: str) -> str:
    """Reads the URL of an endpoint."""
    base = readers.base_url("")(text)
    return base.url if base.login is None else invalid()


@expects("a prefix such as /service/, with a slash at its beginning and its end")
def prefix(text: str) -> str:
    """Reads the prefix of keys, in which Patroni has no two slashes in a row."""
    return text if re.fullmatch(r"/([^/]+/)*", text) and text.isprintable() else invalid()


def _etcd(entry: Entry) -> Etcd:
    names = ("endpoints", "prefix", "timeout", "username", "password", "password_file", "tls_config")
    keys = entry.keys(names, required=["endpoints"])
    if "username" not in keys and keys.keys() & {"password", "password_file"}:
        entry.fail("username is missing: the password needs it")
    return Etcd(
        endpoints=tuple(dict.fromkeys(_read(one, endpoint) for one in keys["endpoints"].items())),
        prefix=keys["prefix"].read(prefix) if "prefix" in keys else "/service/",
        options=RequestOptions(
            timeout=seconds(keys.get("timeout"), 0.01, 5.0), **(tls(keys["tls_config"]) if "tls_config" in keys else {})
        ),
        user=keys["username"].read(Reader("a name, one line", printable_line)) if "username" in keys else "",
        password=secret(entry, keys, "password", readers.password) if "username" in keys else None,
    )


def _read(entry: Entry, reader: Reader[str]) -> str:
    """Returns what the reader makes of a URL or host; a password in it is not in the error."""
    return entry.read(reader, secret="@" in entry.read(Reader(reader.expected, str)))
