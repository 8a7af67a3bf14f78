"""The command line: serve (the default), check, scrape, files and reference."""

import argparse
import logging
import os
import re
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from exporter import reference
from exporter.collectors.patroni import UnknownPath
from exporter.config.allow_list import NotAllowed, TargetError
from exporter.config.environment import ENV_FILE, EnvFile
from exporter.config.errors import ConfigError, exit_on_config_error
from exporter.config.modules_file import ModulesFile
from exporter.config.options import OPTIONS
from exporter.config.settings import Settings, given_settings
from exporter.files import SHIPPED, write_files
from exporter.log import log_to_standard_error
from exporter.scrape.exposition import exposition
from exporter.scrape.scrape import Scrape
from exporter.upstream.client import Client
from exporter.upstream.target import Module
from exporter.version import __version__
from exporter.web.web_config import checked_web_config

PROGRAM = "patroni-staytus-exporter"

COMMANDS = """\
commands:
  serve                  serve /metrics with gunicorn (the default)
  check                  print the settings, secrets masked, and whether each module answers; with --target, also
                         whether a target of a module in the modules file answers
  scrape                 print one scrape
  files DIR              write the shipped units, scrape jobs, rules and dashboards to a directory; overwrites nothing
  reference metrics      print METRICS.md
  reference settings     print the table of settings
  reference env          print .env.sample

Each argument sets the environment variable in brackets, and takes precedence over it. Other settings are environment
variables only: see `reference settings`. Variables are also read from the file that EXPORTER_ENV_FILE names, by default
.env beside wsgi.py; `check` prints its path.
"""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        # One line. The text before an @ can be a password; argparse quotes a value, or writes it after a =.
        line = re.sub(r"(['\"](?:--[\w-]+=)?|=).*@", r"\1***@", " ".join(message.split()))
        self.exit(2, f"{self.prog}: {line} (see --help)\n")


@dataclass(frozen=True)
class Command:
    """The words of the command, the variables that arguments set, and the module and the targets to check."""

    words: list[str]
    variables: frozenset[str]
    module: str | None
    targets: list[str]


def main(arguments: list[str] | None = None) -> int:
    """Runs one command and returns its exit status; serve does not return."""
    command = into_environment(sys.argv[1:] if arguments is None else arguments)
    words = command.words
    if words != ["check"] and (command.module or command.targets):
        _parser().error("--module and --target are for the command check")
    with exit_on_config_error(), _exit_without_reader():
        match words:
            case [] | ["serve"]:
                return _serve()
            case ["check"]:
                return _check(command)
            case ["scrape"]:
                return _scrape()
            case ["files", directory]:
                print("\n".join(map(str, write_files(Path(directory)))))
                return 0
            case ["reference", topic] if topic in reference.TOPICS:
                print(reference.TOPICS[topic](), end="")
                return 0
    return _parser().error(
        f"unknown command: {' '.join(words)!r}; expected serve, check, scrape, files DIR or reference TOPIC"
    )


@contextmanager
def _exit_without_reader() -> Iterator[None]:
    """Exits with status 1 when the reader of standard output has ended, as with `check | head`."""
    try:
        yield
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for the flush at exit
        raise SystemExit(1) from None


def into_environment(arguments: list[str]) -> Command:
    """Puts the arguments into the environment, which workers inherit, and returns the command.

    Empty arguments are ignored, except where empty is a value: the old Patroni exporter's systemd unit passes them.
    """
    parser = _parser()
    given, rest = parser.parse_known_args(arguments)
    words = [word for word in rest if word.strip()]
    unknown = [word for word in words if word.startswith("-")]
    if unknown:
        parser.error(f"unknown argument: {' '.join(unknown)!r}")
    variables = set()
    for option in OPTIONS:
        value = getattr(given, option.variable, None)
        if value is not None and (value.strip() or option.can_be_empty):
            os.environ[option.variable] = value
            variables.add(option.variable)
    return Command(words, frozenset(variables), given.module, given.target)


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog=PROGRAM,
        usage="%(prog)s [arguments] [serve | check | scrape | files DIR | reference TOPIC]",
        description="Prometheus exporter for Patroni and Staytus.",
        epilog=COMMANDS,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"{PROGRAM} {__version__}")
    check = parser.add_argument_group("arguments of check")
    check.add_argument("--module", metavar="NAME", help="module in the modules file; not needed if there is only one")
    check.add_argument("--target", metavar="HOST", action="append", default=[], help="target to check, as in /probe")
    for option in OPTIONS:
        if option.flags:
            text = f"{option.meaning} [{option.variable}, default: {option.default or 'empty'}]"
            if option.is_switch:
                parser.add_argument(*option.flags, dest=option.variable, action="store_const", const="true", help=text)
            else:
                metavar = option.variable.rpartition("_")[2]
                parser.add_argument(*option.flags, dest=option.variable, metavar=metavar, help=text)
    return parser


def _serve() -> int:
    # gunicorn itself would try five times and log ten lines.
    _try_to_bind(Settings.load().listen())
    from gunicorn.app.wsgiapp import WSGIApplication

    # Beside wsgi.py in a checkout, with the shipped files in an installed distribution.
    places = [SHIPPED / "gunicorn.conf.py", Path(__file__).parent.parent / "gunicorn.conf.py"]
    configuration = next(place for place in places if place.exists())
    sys.argv = [PROGRAM, "--config", str(configuration), "exporter:create_app()"]
    WSGIApplication("%(prog)s", prog=PROGRAM).run()
    return 0


def _try_to_bind(address: str) -> None:
    """Raises ConfigError when the address cannot be listened on; does nothing when gunicorn has another address."""
    if os.environ.keys() & {"LISTEN_FDS", "GUNICORN_CMD_ARGS"}:
        return
    host, _, port = address.rpartition(":")
    try:
        with socket.socket(socket.AF_INET6 if host.startswith("[") else socket.AF_INET) as trial:
            trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            trial.bind((host.strip("[]"), int(port)))
    except OSError as error:
        raise ConfigError(f"cannot listen on {address}: {os.strerror(error.errno or 0).lower()}") from None


def _check(command: Command) -> int:
    """Prints each setting with its source and the state of each document.

    Returns 1 when a module or a target is down or the path in its URL is wrong.
    """
    settings = Settings.load()
    web = settings.web_config_file
    web_lines = checked_web_config(web).summary() if web else []  # first, so that an error is one line without others
    file = settings.load_file()
    targets = _targets(file, command)
    env_file = EnvFile.load(os.environ)
    for option, given in given_settings(os.environ, env_file):
        source = "argument" if option.variable in command.variables else given.source
        shown = "(none)" if given.value is None else "********" if option.secret else option.show(given.value)
        print(f"{option.variable} = {shown}  ({source})")
    source = "environment" if os.environ.get(ENV_FILE) else "default"
    print(f"{ENV_FILE} = {Path(env_file.path).absolute()}  ({source}, {'read' if env_file.found else 'not found'})")
    for each in settings.ignored:
        print(f"warning: {each.source}: {each.reason}")
    print(f"listens on {settings.listen()}")
    for line in web_lines:
        print(f"{web}: {line}")
    if file:
        for module in file.get().values():
            print(f"{file.path}: module {module.name}: {module.service}, {','.join(module.collect)}")
        if not targets:
            print(f"{file.path}: no target was checked: use check --module NAME --target HOST")
    logging.getLogger("exporter").setLevel(logging.CRITICAL)  # failures are printed below
    results = Scrape([*settings.modules, *targets], Client()).results()
    for result in results:
        name, url = result.module.name, result.module.target.url
        for document in result.documents:
            if document.kind != UnknownPath.__name__:
                path = f"{url}/{document.collector.path}"
                print(f"{name} {document.collector.name}: {path}: {document.description} ({document.seconds:.3f} s)")
        if result.wrong_url:
            print(f"{name}: {url}: {result.wrong_url}")
    return 0 if all(result.up and not result.wrong_url for result in results) else 1


def _targets(file: ModulesFile | None, command: Command) -> list[Module]:
    """Returns the module of the command with each of its targets; raises ConfigError."""
    if not command.targets:
        if command.module:
            raise ConfigError("--target is not set: --module needs it")
        return []
    if file is None:
        raise ConfigError("--target needs a modules file: EXPORTER_CONFIG_FILE or --config.file is not set")
    modules = file.get()
    name = command.module or (next(iter(modules)) if len(modules) == 1 else "")
    if name not in modules:
        given = f"--module={name!r}" if name else "--module is not set"
        raise ConfigError(f"{given}: expected one of {', '.join(modules)}")
    try:
        return [modules[name].at(target) for target in command.targets]
    except (TargetError, NotAllowed) as error:
        raise ConfigError(f"--target: {error}") from None


def _scrape() -> int:
    settings = Settings.load()
    log_to_standard_error(settings.log_level, settings.log_format)
    settings.log_ignored()
    text = exposition(Scrape(settings.modules, Client()).results())
    sys.stdout.buffer.write(text.encode())  # in UTF-8 in every locale
    return 0


if __name__ == "__main__":
    sys.exit(main())
