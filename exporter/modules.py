"""The modules of /probe and /sd as a file names them: how their targets are asked, and which may be."""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from exporter import values
from exporter.allowed import EXPECTED_ENTRY, AllowList, NotAllowed, Place
from exporter.options import PATRONI_COLLECTORS, STAYTUS_COLLECTORS
from exporter.target import HeaderFile, Module, Target
from exporter.values import Headers
from exporter.yaml_file import Entry

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
            raise NotAllowed("The targets of this module are asked through https only.")
        admits, refuses = self.allowed.networks(place)
        url = values.patroni_base(place.url) if self.service == "patroni" else place.url
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
    service = collector.read(_one_of(*COLLECTORS), "patroni or staytus")
    keys = entry.keys(KEYS + (STAYTUS_KEYS if service == "staytus" else ()), required=["targets"])
    known = COLLECTORS[service]
    collect = known.split(",")
    if "collect" in keys:
        collect = [
            one.read(_one_of(*known.split(",")), f"one of {known.replace(',', ', ')}")
            for one in keys["collect"].items()
        ]
    scheme = keys["scheme"].read(_one_of("http", "https"), "http or https") if "scheme" in keys else "http"
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


def _one_of(*known: str) -> Callable[[str], str]:
    def read(text: str) -> str:
        if text not in known:
            raise ValueError
        return text

    return read


def _seconds(entry: Entry | None, low: float, default: float) -> float:
    if entry is None:
        return default
    return entry.read(values.duration(low, 3600.0), f"{DURATION}, from {low:g} s to 1h", number=True)


def _tls(entry: Entry | None, folder: Path) -> dict[str, Any]:
    if entry is None:
        return {"verify": True}
    keys = entry.keys(("ca_file", "cert_file", "key_file", "server_name", "insecure_skip_verify"))
    if "key_file" in keys and "cert_file" not in keys:
        entry.fail("cert_file is missing beside key_file")

    def path(key: str, read: Callable[[str], Any], what: str) -> str:
        return str(keys[key].read(lambda text: read(str(folder / text)), what)) if key in keys else ""

    authorities = path("ca_file", _bundle, "the path of a CA bundle that can be read")
    trusting = "insecure_skip_verify" in keys and keys["insecure_skip_verify"].flag()
    name = keys["server_name"].read(values.host, "a host name") if "server_name" in keys else ""
    return {
        "verify": False if trusting else authorities or True,
        "cert_file": path("cert_file", values.certificate_file, "the path of a file with a certificate in PEM"),
        "key_file": path("key_file", values.key_file, "the path of a private key in PEM, without a passphrase"),
        "server_name": name,
    }


def _bundle(path: str) -> str:
    return path if values.verify(path) == path else str(_refuse())


# What a target is shown so that it lets us in -------------------------------------------------------------------------


def _headers(module: Entry, keys: Mapping[str, Entry], service: str, folder: Path) -> dict[str, Any]:
    if "basic_auth" in keys and "authorization" in keys:
        module.fail("basic_auth and authorization are both there; expected one of them")
    given: list[Headers | HeaderFile] = []
    if service == "staytus":
        for key, header in (("token", "X-Auth-Token"), ("secret", "X-Auth-Secret")):
            given.append(_secret(module, keys, key, partial(_header, header), "one line of ASCII", folder))
    if "basic_auth" in keys:
        entry = keys["basic_auth"]
        login = entry.keys(("username", "password", "password_file"), required=["username"])
        user = login["username"].read(values.login_name, "a name without a colon")
        given.append(_secret(entry, login, "password", partial(_login, user), "one line of text", folder))
    if "authorization" in keys:
        entry = keys["authorization"]
        token = entry.keys(("type", "credentials", "credentials_file"))
        kind = token["type"].read(values.header_value, "one word of ASCII") if "type" in token else "Bearer"
        made_of = partial(_header, "Authorization", before=f"{kind} ")
        given.append(_secret(entry, token, "credentials", made_of, "one line of ASCII", folder))
    if "http_headers" in keys:
        given += _http_headers(keys["http_headers"], folder)
    return {
        "headers": tuple(header for some in given if isinstance(some, tuple) for header in some),
        "header_files": tuple(some for some in given if isinstance(some, HeaderFile)),
    }


def _http_headers(entry: Entry, folder: Path) -> Iterator[Headers | HeaderFile]:
    for name, header in entry.keys().items():
        try:
            values.header_lines(f"{name}: value") if name.isprintable() and ":" not in name else _refuse()
        except ValueError:
            header.fail("expected the name of a header that HTTP itself does not need")
        kinds = header.keys(("values", "secrets", "files"))
        if not kinds:
            header.fail("expected values, secrets or files")
        made_of = partial(_header, name)
        for kind, values_of_kind in kinds.items():
            for value in values_of_kind.items():
                if kind == "files":
                    yield _file(value, made_of, "one line of ASCII", folder)
                else:
                    yield value.read(made_of, "one line of ASCII", secret=kind == "secrets")


def _secret(
    parent: Entry,
    keys: Mapping[str, Entry],
    key: str,
    made_of: Callable[[str], Headers],
    expected: str,
    folder: Path,
) -> Headers | HeaderFile:
    """Returns the headers of a secret, which is in the file of modules or in one of its own."""
    if (key in keys) == (f"{key}_file" in keys):
        parent.fail(f"expected either {key} or {key}_file")
    if key in keys:
        return keys[key].read(made_of, expected, secret=True)
    return _file(keys[f"{key}_file"], made_of, expected, folder)


def _file(entry: Entry, made_of: Callable[[str], Headers], expected: str, folder: Path) -> HeaderFile:
    def read(text: str) -> HeaderFile:
        file = HeaderFile(str(folder / text), made_of)
        try:
            file.headers()
        except OSError:
            raise ValueError from None
        return file

    return entry.read(read, f"the path of a file that holds {expected}")


def _header(name: str, text: str, before: str = "") -> Headers:
    return ((name, values.header_value(before + text)),)


def _login(user: str, password: str) -> Headers:
    return values.basic_login(user.encode(), values.line(password).encode())


def _refuse() -> Any:
    raise ValueError
