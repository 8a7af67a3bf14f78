"""The modules of /probe and /sd in the modules file: how their targets are requested, and which ones are allowed."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from exporter.config import readers
from exporter.config.allow_list import EXPECTED_ENTRY, AllowList, NotAllowed, Place
from exporter.config.credentials import DuplicateHeader, client_certificate, credentials
from exporter.config.discovery import Discovery
from exporter.config.options import COLLECTOR_NAMES, STAYTUS_TOKENS
from exporter.config.readers import Reader
from exporter.config.yaml_file import TEXT_OR_NUMBER, Entry
from exporter.upstream.headers import Secret, header_lines
from exporter.upstream.target import Credentials, Header, Login, Module, RequestOptions, Target

#: The port of a target that is not a URL and has no port; for Staytus it is that of the scheme.
PORTS = {"patroni": 8008}

#: The default interval in seconds for which a response is used again.
INTERVALS = {"patroni": 0.0, "staytus": 2.0}


@dataclass(frozen=True)
class ProbeModule:
    """A module of the file, whose targets are named by requests.

    `allow_paths` is whether a target may have a path before the endpoints of its service, `compat_metrics` whether the
    families of the former Patroni exporter are exported too.
    """

    name: str
    service: str
    collect: tuple[str, ...]
    scheme: str
    options: RequestOptions
    allowed: AllowList = field(compare=False)
    allow_paths: bool = False
    compat_metrics: bool = True
    discovery: Discovery | None = None

    def at(self, text: str) -> Module:
        """Returns the module with this target; raises TargetError or NotAllowed."""
        place = Place.of(text, self.scheme, PORTS.get(self.service))
        if self.scheme == "https" and place.url.startswith("http:"):
            raise NotAllowed("the targets of this module must use https")
        self.allowed.check(place)
        url = readers.patroni_base(place.url) if self.service == "patroni" else place.url
        if url.count("/") > 2 and not self.allow_paths:
            raise NotAllowed("the targets of this module must have no path (allow_paths)")
        return Module(self.name, self.service, Target(url, self.options), self.collect, self.compat_metrics)


def read_modules(text: str, file: str) -> Mapping[str, ProbeModule]:
    """Returns the modules in the text of a file by their names; raises ConfigError.

    Paths in it are relative to the directory of the file.
    """
    modules = Entry.of(text, file).keys(["modules"], required=["modules"])["modules"].keys()
    for name, entry in modules.items():
        if not re.fullmatch(r"[\w.-]{1,100}", name, re.ASCII):
            entry.fail("expected a name of letters, digits, . _ and -")
    return {name: _module(name, entry) for name, entry in modules.items()}


KEYS: tuple[str, ...] = (
    *("collector", "collect", "timeout", "interval", "scheme", "allow_paths", "compat_metrics"),
    *("tls_config", "basic_auth", "authorization", "http_headers", "targets"),
)

#: The keys with the credentials of the Staytus API, by header.
TOKENS = dict(zip(STAYTUS_TOKENS, ("token", "secret"), strict=True))
STAYTUS_KEYS = tuple(key + suffix for key in TOKENS.values() for suffix in ("", "_file"))


def _module(name: str, entry: Entry) -> ProbeModule:
    collector = entry.keys(required=["collector"])["collector"]
    service = collector.read(readers.choice(COLLECTOR_NAMES))
    keys = entry.keys(KEYS + (STAYTUS_KEYS if service == "staytus" else ()), required=["targets"])
    collect = COLLECTOR_NAMES[service]
    if "collect" in keys:
        collect = tuple(dict.fromkeys(one.read(readers.choice(collect)) for one in keys["collect"].items()))
    scheme = keys["scheme"].read(readers.choice(("http", "https"))) if "scheme" in keys else "http"
    allowed = AllowList()
    for one in keys["targets"].items():
        one.read(Reader(EXPECTED_ENTRY, allowed.add))
    options = RequestOptions(
        timeout=_seconds(keys.get("timeout"), 0.01, 5.0),
        interval=_seconds(keys.get("interval"), 0.0, INTERVALS[service]),
        auth=_credentials(entry, keys, service),
        allows=allowed.allows,
        **(_tls(keys["tls_config"]) if "tls_config" in keys else {}),
    )
    allow_paths = "allow_paths" in keys and keys["allow_paths"].boolean()
    compat_metrics = "compat_metrics" not in keys or keys["compat_metrics"].boolean()
    return ProbeModule(name, service, collect, scheme, options, allowed, allow_paths, compat_metrics)


def _seconds(entry: Entry | None, low: float, default: float) -> float:
    return default if entry is None else entry.read(readers.duration_or_seconds(low, 3600.0), kinds=TEXT_OR_NUMBER)


def _tls(entry: Entry) -> dict[str, Any]:
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


# Credentials


def _credentials(module: Entry, keys: Mapping[str, Entry], service: str) -> Credentials:
    tokens = TOKENS if service == "staytus" else {}
    parts: list[Header | Login] = [
        Header(header, _secret(module, keys, key, readers.ascii_line)) for header, key in tokens.items()
    ]
    if "basic_auth" in keys and "authorization" in keys:
        module.fail("basic_auth and authorization are both set: expected one of them")
    if "basic_auth" in keys:
        login = keys["basic_auth"].keys(("username", "password", "password_file"), required=["username"])
        user = login["username"].read(readers.user_name)
        parts.append(Login(user, _secret(keys["basic_auth"], login, "password", readers.password)))
    if "authorization" in keys:
        token = keys["authorization"].keys(("type", "credentials", "credentials_file"))
        kind = token["type"].read(readers.ascii_line) if "type" in token else "Bearer"
        value = _secret(keys["authorization"], token, "credentials", readers.ascii_line)
        parts.append(Header("Authorization", value, prefix=f"{kind} "))
    headers = keys["http_headers"].keys() if "http_headers" in keys else {}
    parts += [_http_header(name, entry) for name, entry in headers.items()]
    try:
        return credentials(parts)
    except DuplicateHeader as error:
        headers[str(error)].fail("another key sets this header too; expected one of them")


def _http_header(name: str, entry: Entry) -> Header:
    try:
        valid = header_lines(f"{name}: value") == ((name, "value"),)
    except ValueError:
        valid = False
    if not valid:
        entry.fail("expected the name of a header that the HTTP client does not set itself")
    kinds = entry.keys(("values", "secrets", "files"))
    files = [_secret_file(row, readers.ascii_line) for row in (kinds["files"].items() if "files" in kinds else ())]
    texts = [
        row.read(readers.ascii_line, secret=kind == "secrets")
        for kind in kinds
        if kind != "files"
        for row in kinds[kind].items()
    ]
    if len(files) + bool(texts) != 1:
        entry.fail("expected values and secrets, or one file")
    return Header(name, files[0] if files else Secret(", ".join(texts)), secret=kinds.keys() != {"values"})


def _secret(parent: Entry, keys: Mapping[str, Entry], key: str, reader: Reader[str]) -> Secret:
    """Returns the secret under the key, or the file under the same key with `_file`."""
    if (key in keys) == (f"{key}_file" in keys):
        parent.fail(f"expected either {key} or {key}_file")
    if key in keys:
        return Secret(keys[key].read(reader, secret=True))
    return _secret_file(keys[f"{key}_file"], reader)


def _secret_file(entry: Entry, reader: Reader[str]) -> Secret:
    """Returns a file that holds what the reader accepts."""

    def read(path: str) -> Secret:
        secret = Secret(file=path)
        secret.read(reader, reader.expected)
        return secret

    return entry.read_path(Reader(f"the path of a file that holds {reader.expected}", read))
