"""The modules of /probe and /sd in the modules file: how their targets are requested, and which ones are allowed."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from exporter.config import readers
from exporter.config.allow_list import EXPECTED_ENTRY, AllowList, NotAllowed, Place, TargetError
from exporter.config.credentials import DuplicateHeader, credentials
from exporter.config.discovery import NAME_PREFIXES, Discovery, read_discovery
from exporter.config.options import COLLECTOR_NAMES, STAYTUS_TOKENS
from exporter.config.readers import Reader
from exporter.config.request_keys import seconds, secret, secret_file, tls
from exporter.config.yaml_file import Entry
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
    families of the former Patroni exporter are exported too. `discovery` is where its clusters are found.
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

#: The keys that only the modules of one service have.
SERVICE_KEYS = {
    "patroni": ("discovery",),
    "staytus": tuple(key + suffix for key in TOKENS.values() for suffix in ("", "_file")),
}


def _module(name: str, entry: Entry) -> ProbeModule:
    collector = entry.keys(required=["collector"])["collector"]
    service = collector.read(readers.choice(COLLECTOR_NAMES))
    keys = entry.keys(KEYS + SERVICE_KEYS[service], required=["targets"])
    collect = COLLECTOR_NAMES[service]
    if "collect" in keys:
        collect = tuple(dict.fromkeys(one.read(readers.choice(collect)) for one in keys["collect"].items()))
    scheme = keys["scheme"].read(readers.choice(("http", "https"))) if "scheme" in keys else "http"
    allowed = AllowList()
    for one in keys["targets"].items():
        one.read(Reader(EXPECTED_ENTRY, allowed.add))
    options = RequestOptions(
        timeout=seconds(keys.get("timeout"), 0.01, 5.0),
        interval=seconds(keys.get("interval"), 0.0, INTERVALS[service]),
        auth=_credentials(entry, keys, service),
        allows=allowed.allows,
        **(tls(keys["tls_config"]) if "tls_config" in keys else {}),
    )
    allow_paths = "allow_paths" in keys and keys["allow_paths"].boolean()
    compat_metrics = "compat_metrics" not in keys or keys["compat_metrics"].boolean()
    module = ProbeModule(name, service, collect, scheme, options, allowed, allow_paths, compat_metrics)
    if "discovery" not in keys:
        return module
    discovery = read_discovery(keys["discovery"])
    try:
        for seed in discovery.seeds:
            if not seed.startswith(NAME_PREFIXES):
                module.at(seed)
    except (NotAllowed, TargetError) as error:
        keys["discovery"].fail(str(error))
    return replace(module, discovery=discovery)


# Credentials


def _credentials(module: Entry, keys: Mapping[str, Entry], service: str) -> Credentials:
    tokens = TOKENS if service == "staytus" else {}
    parts: list[Header | Login] = [
        Header(header, secret(module, keys, key, readers.ascii_line)) for header, key in tokens.items()
    ]
    if "basic_auth" in keys and "authorization" in keys:
        module.fail("basic_auth and authorization are both set: expected one of them")
    if "basic_auth" in keys:
        login = keys["basic_auth"].keys(("username", "password", "password_file"), required=["username"])
        user = login["username"].read(readers.user_name)
        parts.append(Login(user, secret(keys["basic_auth"], login, "password", readers.password)))
    if "authorization" in keys:
        token = keys["authorization"].keys(("type", "credentials", "credentials_file"))
        kind = token["type"].read(readers.ascii_line) if "type" in token else "Bearer"
        value = secret(keys["authorization"], token, "credentials", readers.ascii_line)
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
    files = [secret_file(row, readers.ascii_line) for row in (kinds["files"].items() if "files" in kinds else ())]
    texts = [
        row.read(readers.ascii_line, secret=kind == "secrets")
        for kind in kinds
        if kind != "files"
        for row in kinds[kind].items()
    ]
    if len(files) + bool(texts) != 1:
        entry.fail("expected values and secrets, or one file")
    return Header(name, files[0] if files else Secret(", ".join(texts)), secret=kinds.keys() != {"values"})
