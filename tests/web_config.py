"""Web configuration files of tests."""

from base64 import b64encode
from pathlib import Path

import bcrypt

#: A user and its password.
ALICE = ("alice", "s3cret")


def basic(user: str, password: str) -> str:
    """The value of the header Authorization."""
    return "Basic " + b64encode(f"{user}:{password}".encode()).decode()


def hashed(password: str, cost: int = 4) -> str:
    """A bcrypt hash, by default of the lowest cost."""
    return bcrypt.hashpw(password.encode(), bcrypt.gensalt(cost)).decode()


def web_config(folder: Path, text: str) -> str:
    """Writes a web configuration file and returns its path."""
    path = folder / "web.yml"
    path.write_text(text)
    return str(path)


def users(**passwords: str) -> str:
    """The section basic_auth_users with these passwords."""
    return "basic_auth_users:\n" + "".join(f"  {name}: {hashed(word)}\n" for name, word in passwords.items())


def tls(**keys: str) -> str:
    """The section tls_server_config with the certificate `server` and these keys."""
    rows = {"cert_file": "server.pem", "key_file": "server.key", **keys}
    return "tls_server_config:\n" + "".join(f"  {key}: {value}\n" for key, value in rows.items())
