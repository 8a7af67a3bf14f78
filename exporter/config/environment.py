"""The variables of the environment and of the `.env` file, and what in them is ignored."""

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from io import StringIO
from pathlib import Path

from dotenv.parser import parse_stream

from exporter.config.errors import ConfigError
from exporter.config.options import OPTIONS

#: The directory of wsgi.py, in which `.env` is looked for.
ROOT = Path(__file__).resolve().parents[2]

ENV_FILE = "EXPORTER_ENV_FILE"

#: The names of all variables.
NAMES = {
    ENV_FILE,
    *(option.variable for option in OPTIONS),
    *(f"{each.variable}_FILE" for each in OPTIONS if each.secret),
}

#: How similar to a setting an unknown variable must be, from 0 to 1, by its prefix: it can be one of another program.
SIMILAR = {"PATRONI_EXPORTER_": 0.6, "EXPORTER_": 0.8, "STAYTUS_API_": 0.8, "POLLING_": 0.8, "": 0.95}

#: The variables that Kubernetes sets for each Service, and Docker for each link.
SERVICE = re.compile(r".*_(SERVICE_HOST|SERVICE_PORT|SERVICE_PORT_.*|PORT_\d+_(TCP|UDP)(_.*)?)")


@dataclass(frozen=True)
class EnvFile:
    """The `.env` file: whether it exists, its variables, and the numbers of the lines that set none."""

    path: str
    found: bool = False
    variables: Mapping[str, str] = field(default_factory=dict, repr=False)
    invalid_lines: tuple[int, ...] = ()

    @classmethod
    def load(cls, environ: Mapping[str, str]) -> "EnvFile":
        """Returns the file that the environment names, else that in the directory of wsgi.py; raises ConfigError."""
        named = environ.get(ENV_FILE)
        path = Path(named) if named else ROOT / ".env"
        try:
            if not named and not path.exists():
                return cls(str(path))
            text = path.read_text(encoding="utf-8")
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else "not UTF-8"
            raise ConfigError(
                f"{ENV_FILE}={str(path)!r}: {reason}; expected a file with lines of the form NAME=value"
            ) from None
        variables, invalid_lines = {}, []
        for binding in parse_stream(StringIO(text)):  # without interpolation: it would replace ${NAME} in passwords
            if binding.key is not None and binding.value is not None:
                variables[binding.key] = binding.value
            elif binding.key is not None or binding.error:
                string = binding.original.string
                invalid_lines.append(binding.original.line + string[: len(string) - len(string.lstrip())].count("\n"))
        return cls(str(path), True, variables, tuple(invalid_lines))


@dataclass(frozen=True)
class Ignored:
    """A line or a variable that sets nothing: a file, with the number of the line, or `environment`, and why."""

    source: str
    reason: str


def ignored(environ: Mapping[str, str], file: EnvFile) -> tuple[Ignored, ...]:
    """Returns what sets nothing: lines of the file, variables whose name is like that of a setting, another file."""
    found = [
        Ignored(f"{file.path}:{number}", "expected a line of the form NAME=value") for number in file.invalid_lines
    ]
    for source, variables in {"environment": environ, file.path: file.variables}.items():
        found += [Ignored(source, reason) for reason in _misspelt(variables)]
    # Without access to the working directory is_file raises OSError; .env can also be a virtual environment.
    if not file.found and os.access(".env", os.R_OK) and Path(".env").is_file():
        found.append(Ignored(str(Path(".env").absolute()), f"the file is not read; to read it, set {ENV_FILE}"))
    return tuple(found)


def _misspelt(variables: Mapping[str, str]) -> Iterator[str]:
    for name, value in variables.items():
        if name in NAMES or not value or SERVICE.fullmatch(name):
            continue
        similar = next(number for prefix, number in SIMILAR.items() if name.upper().startswith(prefix))
        for closest in get_close_matches(name.upper(), NAMES - {"DEBUG"}, 1, similar):
            yield f"{name} is not a setting; did you mean {closest}?"
