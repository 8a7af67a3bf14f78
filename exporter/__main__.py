"""The command line: serve (the default), check, scrape and reference."""

import argparse
import logging
import math
import os
import re
import socket
import sys
from pathlib import Path
from typing import NoReturn

from exporter import reference
from exporter.config.options import OPTIONS
from exporter.config.settings import ENV_FILE, Settings, SettingsError, given_settings, settings_errors_exit
from exporter.log import log_to_standard_error
from exporter.scrape.exposition import exposition
from exporter.scrape.scrape import read
from exporter.upstream.client import Fetcher
from exporter.version import __version__
from exporter.web.web_config import checked_web_config

PROGRAM = "patroni-staytus-exporter"

COMMANDS = """\
commands:
  serve                  serve /metrics through gunicorn; what is done without a command
  check                  print the settings, secrets masked, and whether each module answers
  scrape                 print one scrape
  reference metrics      print METRICS.md
  reference settings     print the table of settings
  reference env          print .env.sample

Each argument is another spelling of the environment variable behind it, and wins over it. Settings without an
argument are variables only: see `reference settings`. Variables are also read from the file .env beside wsgi.py, or the
one that EXPORTER_ENV_FILE names.
"""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        # One line, and what stands before an @ can be a password; argparse quotes a value or sets it behind a =.
        line = re.sub(r"(['\"](?:--[\w-]+=)?|=).*@", r"\1***@", " ".join(message.split()))
        self.exit(2, f"{self.prog}: {line} (see --help)\n")


def main(arguments: list[str] | None = None) -> int:
    """Runs one command and returns its exit status; serve does not return."""
    words = into_environment(sys.argv[1:] if arguments is None else arguments)
    with settings_errors_exit():
        match words:
            case [] | ["serve"]:
                return _serve()
            case ["check"]:
                return _check()
            case ["scrape"]:
                return _scrape()
            case ["reference", topic] if topic in reference.TOPICS:
                print(reference.TOPICS[topic](), end="")
                return 0
    return _parser().error(f"unknown command: {' '.join(words)!r}; expected serve, check, scrape or reference TOPIC")


def into_environment(arguments: list[str]) -> list[str]:
    """Puts the arguments into the environment, where workers inherit them, and returns the words of the command.

    What is empty counts for nothing, save where empty is a value: the old Patroni exporter's systemd unit passes such.
    """
    parser = _parser()
    given, rest = parser.parse_known_args(arguments)
    words = [word for word in rest if word.strip()]
    unknown = [word for word in words if word.startswith("-")]
    if unknown:
        parser.error(f"unknown argument: {' '.join(unknown)!r}")
    for option in OPTIONS:
        value = getattr(given, option.variable, None)
        if value is not None and (value.strip() or option.can_be_empty):
            os.environ[option.variable] = value
    return words


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog=PROGRAM,
        usage="%(prog)s [arguments] [serve | check | scrape | reference TOPIC]",
        description="Prometheus exporter for Patroni and Staytus.",
        epilog=COMMANDS,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"{PROGRAM} {__version__}")
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
    # Before gunicorn, which tries five times in ten lines, so that what cannot be used is one line.
    _try_to_bind(Settings.load().listen())
    from gunicorn.app.wsgiapp import WSGIApplication

    # Beside wsgi.py in a checkout, inside the package in an installed distribution.
    places = [Path(__file__).parent / "gunicorn.conf.py", Path(__file__).parent.parent / "gunicorn.conf.py"]
    configuration = next(place for place in places if place.exists())
    sys.argv = [PROGRAM, "--config", str(configuration), "exporter:create_app()"]
    WSGIApplication("%(prog)s", prog=PROGRAM).run()
    return 0


def _try_to_bind(address: str) -> None:
    """Raises SettingsError when nobody can listen on this address; tries nothing where gunicorn is told another one."""
    if os.environ.keys() & {"LISTEN_FDS", "GUNICORN_CMD_ARGS"}:
        return
    host, _, port = address.rpartition(":")
    try:
        with socket.socket(socket.AF_INET6 if host.startswith("[") else socket.AF_INET) as trial:
            trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            trial.bind((host.strip("[]"), int(port)))
    except OSError as error:
        raise SettingsError(f"cannot listen on {address}: {os.strerror(error.errno or 0).lower()}") from None


def _check() -> int:
    """Prints every setting with its source and every module with what became of it; 1 when a module does not answer."""
    settings = Settings.load()
    web = settings.web_config_file
    locks = checked_web_config(web).told() if web else []  # before the first line, so that one that is bad is one line
    file = settings.load_file()
    for option, given in given_settings(os.environ):
        shown = "(none)" if given.value is None else "********" if option.secret else option.show(given.value)
        print(f"{option.variable} = {shown}  ({given.source})")
    print(f"{ENV_FILE} = {os.environ.get(ENV_FILE) or '.env beside wsgi.py'}")
    print(f"listens on {settings.listen()}")
    for line in locks:
        print(f"{web}: {line}")
    if file:
        for module in file.modules().values():
            print(f"{file.path}: module {module.name}: {module.service}, {','.join(module.collect)}")
    logging.getLogger("exporter").setLevel(logging.CRITICAL)  # what fails is printed below, once
    readings = read(settings.modules, Fetcher(), math.inf)
    for reading in readings:
        for document in reading.documents:
            state = {True: "answers", False: document.failure, None: "does not exist in this version"}[document.success]
            place = f"{reading.module.target.url}/{document.collector.path}"
            print(f"{reading.module.name} {document.collector.name}: {place}: {state} ({document.seconds:.3f} s)")
    return 0 if all(reading.up for reading in readings) else 1


def _scrape() -> int:
    settings = Settings.load()
    log_to_standard_error(settings.log_level, settings.log_format)
    readings = read(settings.modules, Fetcher(), math.inf)
    sys.stdout.buffer.write(exposition(readings).encode())  # in UTF-8, whatever the locale is
    return 0


if __name__ == "__main__":
    sys.exit(main())
