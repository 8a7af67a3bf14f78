"""The modules of /probe and /sd as a file names them: how their targets are asked, and which may be."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from exporter.config import readers
from exporter.config.allow_list import EXPECTED_ENTRY, AllowList, NotAllowed, Place
from exporter.config.options import PATRONI_COLLECTORS, STAYTUS_COLLECTORS
from exporter.config.readers import Headers
from exporter.config.yaml_file import Entry
from exporter.upstream.target import HeaderFile, Module, Target

COLLECTORS = {"patroni": PATRONI_COLLECTORS, "staytus": STAYTUS_COLLECTORS}

#: Port of a target that is neither a URL nor has a port; Staytus has that of its scheme.
PORTS = {"patroni": 8008}

#: Seconds for which an answer is used again, where the file does not say.
INTERVALS = {"patroni": 0.0, "staytus": 2.0}

DURATION = "a duration such as 5s, 500ms or 1m30s"


@dataclass(frozen=True)
class ProbeModule:
    """A module of the file: `template` is its targets without their URLs, `allowed` which targets may be asked."""

    name: str
    service: str
    collect: tuple[str, ...]
    scheme: str
    template: Target
    allowed: AllowList = field(compare=False)

    def at(self, text: str) -> Module:
        """Returns the module with the target that the text names.

        Raises TargetError when it names none, and NotAllowed when this one may not be asked.
        """
        place = Place.of(text, self.scheme, PORTS.get(self.service))
        if self.scheme == "https" and place.url.startswith("http:"):
            raise NotAllowed("the targets of this module are asked through https only")
        admits, refuses = self.allowed.networks(place)
        url = readers.patroni_base(place.url) if self.service == "patroni" else place.url
        target = replace(self.template, url=url, admits=admits, refuses=refuses)
        return Module(self.name, self.service, target, self.collect)


def read_modules(text: str, file: str) -> Mapping[str, ProbeModule]:
    """Returns the modules by their names, from the text of a file; paths in it are relative to the file's folder.

    Raises YAMLError for whatever cannot be used.
    """
    modules = Entry.of(text, file).keys(["modules"], required=["modules"])["modules"].keys()
    for name, entry in modules.items():
        if not re.fullmatch(r"[\w.-]{1,100}", name, re.ASCII):
            entry.fail("expected a name of letters, digits, . _ and -")
    return {name: _module(name, entry, Path(file).parent) for name, entry in modules.items()}


KEYS: tuple[str, ...] = (
    *("collector", "collect", "timeout", "interval", "scheme"),
    *("tls_config", "basic_auth", "authorization", "http_headers", "targets"),
)
STAYTUS_KEYS = ("token", "token_file", "secret", "secret_file")


def _module(name: str, entry: Entry, folder: Path) -> ProbeModule:
    collector = entry.keys(required=["collector"])["collector"]
    service = collector.read(readers.one_of(",".join(COLLECTORS)), "patroni or staytus")
    keys = entry.keys(KEYS + (STAYTUS_KEYS if service == "staytus" else ()), required=["targets"])
    known = COLLECTORS[service]
    collect = known.split(",")
    if "collect" in keys:
        collect = [
            one.read(readers.one_of(known), f"one of {known.replace(',', ', ')}") for one in keys["collect"].items()
        ]
    scheme = keys["scheme"].read(readers.one_of("http,https"), "http or https") if "scheme" in keys else "http"
    allowed = AllowList()
    for one in keys["targets"].items():
        one.read(allowed.add, EXPECTED_ENTRY)
    template = Target(
        url="",
        timeout=_seconds(keys.get("timeout"), 0.01, 5.0),
        interval=_seconds(keys.get("interval"), 0.0, INTERVALS[service]),
        **_tls(keys.get("tls_config"), folder),
        **_headers(entry, keys, service, folder),
    )
    return ProbeModule(name, service, tuple(dict.fromkeys(collect)), scheme, template, allowed)


def _seconds(entry: Entry | None, low: float, default: float) -> float:
    if entry is None:
        return default
    return entry.read(readers.duration(low, 3600.0), f"{DURATION}, from {low:g} s to 1h", number=True)


def _tls(entry: Entry | None, folder: Path) -> dict[str, Any]:
    if entry is None:
        return {"verify": True}
    keys = entry.keys(("ca_file", "cert_file", "key_file", "server_name", "insecure_skip_verify"))
    if "key_file" in keys and "cert_file" not in keys:
        entry.fail("cert_file is missing beside key_file")

    def path(key: str, read: Callable[[str], Any], expected: str) -> str:
        return str(keys[key].read(lambda text: read(str(folder / text)), expected)) if key in keys else ""

    authorities = path("ca_file", _bundle, "the path of a CA bundle that can be read")
    trusting = "insecure_skip_verify" in keys and keys["insecure_skip_verify"].flag()
    cert = path("cert_file", readers.certificate_file, "the path of a file with a certificate in PEM")
    key = path("key_file", readers.key_file, "the path of a file with a private key in PEM")
    if cert and not readers.belong_together(cert, key):
        entry.fail("expected in key_file, or else in cert_file, the certificate's private key without a passphrase")
    return {
        "verify": False if trusting else authorities or True,
        "cert_file": cert,
        "key_file": key,
        "server_name": keys["server_name"].read(readers.host_name, "a host name") if "server_name" in keys else "",
    }


def _bundle(path: str) -> str:
    if readers.verify(path) != path:
        raise ValueError
    return path


# What a target is shown so that it lets us in -------------------------------------------------------------------------


class _Given:
    """The headers of a module, out of its file or of files of their own."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.headers: Headers = ()
        self.files: tuple[HeaderFile, ...] = ()

    def text(self, entry: Entry, shape: HeaderFile, *, secret: bool = True) -> None:
        """Takes what stands in the file of modules, as it would stand in a file of this shape."""
        self.headers += entry.read(shape.headers_of, _holds(shape), secret=secret)

    def file(self, entry: Entry, shape: HeaderFile) -> None:
        """Takes a file of this shape, which is there and can be read."""

        def read(text: str) -> HeaderFile:
            file = replace(shape, path=str(self._folder / text))
            try:
                file.headers()
            except OSError:
                raise ValueError from None
            return file

        self.files += (entry.read(read, f"the path of a file that holds {_holds(shape)}"),)

    def either(self, parent: Entry, keys: Mapping[str, Entry], key: str, shape: HeaderFile) -> None:
        """Takes the secret under the key, or the file under the same key with `_file`."""
        if (key in keys) == (f"{key}_file" in keys):
            parent.fail(f"expected either {key} or {key}_file")
        if key in keys:
            self.text(keys[key], shape)
        else:
            self.file(keys[f"{key}_file"], shape)


def _holds(shape: HeaderFile) -> str:
    return "a password, one line" if shape.user else "one line of ASCII"


def _headers(module: Entry, keys: Mapping[str, Entry], service: str, folder: Path) -> dict[str, Any]:
    given = _Given(folder)
    taken = []
    if service == "staytus":
        taken += ["x-auth-token", "x-auth-secret"]
        given.either(module, keys, "token", HeaderFile("", "X-Auth-Token"))
        given.either(module, keys, "secret", HeaderFile("", "X-Auth-Secret"))
    if "basic_auth" in keys and "authorization" in keys:
        module.fail("basic_auth and authorization are both there; expected one of them")
    if "basic_auth" in keys or "authorization" in keys:
        taken.append("authorization")
    if "basic_auth" in keys:
        login = keys["basic_auth"].keys(("username", "password", "password_file"), required=["username"])
        user = login["username"].read(_user, "a name without a colon")
        given.either(keys["basic_auth"], login, "password", HeaderFile("", user=user))
    if "authorization" in keys:
        token = keys["authorization"].keys(("type", "credentials", "credentials_file"))
        kind = token["type"].read(readers.header_value, "one word of ASCII") if "type" in token else "Bearer"
        given.either(keys["authorization"], token, "credentials", HeaderFile("", "Authorization", before=f"{kind} "))
    if "http_headers" in keys:
        _http_headers(keys["http_headers"], given, taken)
    return {"headers": given.headers, "header_files": given.files}


def _http_headers(entry: Entry, given: _Given, taken: list[str]) -> None:
    for name, header in entry.keys().items():
        if name.lower() in taken:
            header.fail("this header comes of another key too; expected one of them")
        taken.append(name.lower())
        try:
            ((read, _),) = readers.header_lines(f"{name}: value")
        except ValueError:
            read = ""
        if read != name:
            header.fail("expected the name of a header that does not belong to the connection")
        kinds = header.keys(("values", "secrets", "files"))
        if not kinds:
            header.fail("expected values, secrets or files")
        for kind, rows in kinds.items():
            for row in rows.items():
                if kind == "files":
                    given.file(row, HeaderFile("", name))
                else:
                    given.text(row, HeaderFile("", name), secret=kind == "secrets")


def _user(text: str) -> str:
    if not text:  # which counts for no user
        raise ValueError
    return readers.login_name(text)
