"""Options of a command as people write them, and where their secrets come from.

Every user of a machine can read the command line of every process on it (`ps`, proc(5) `cmdline`), and
shells keep it in a file. So a secret is only ever named there, and read from somewhere else.
"""

import argparse
import getpass
import os
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import parse_qsl, urlsplit

from agent.base.redaction import has_private_key, is_secret_name

MAX_SECRET_BYTES = 64 << 10
SOURCES = "@FILE, env:NAME, or - for standard input"
BYTE_ORDER_MARK = "\ufeff"
_NAMES_NO_SECRET = ("aws.access.key.id",)
"""Looks like a secret's name, but only says whose secret is used."""


@dataclass(frozen=True, slots=True)
class SecretSource:
    """`source` is `@<path>`, `env:<name>` or `-`."""

    key: str
    source: str


class UnusableOption(Exception):
    """The text is for people; it names keys and sources, never values."""


def option(text: str) -> tuple[str, str]:
    """Parse `key=value` for an option that may be seen. Raises ArgumentTypeError, without the value."""
    key, equals, value = text.partition("=")
    if not (key and equals):
        raise argparse.ArgumentTypeError("expected KEY=VALUE")
    if is_secret_name(key) and key.lower() not in _NAMES_NO_SECRET:
        raise argparse.ArgumentTypeError(f"'{key}' is a secret: {_instead(key)}")
    if has_private_key(value):
        raise argparse.ArgumentTypeError(f"'{key}' is given a private key: {_instead('restore.identity')}")
    if _carries_secret(value):
        raise argparse.ArgumentTypeError(f"the address '{key}' carries a secret: {_instead(key)}")
    return key, value


def _instead(key: str) -> str:
    return (
        "everybody on this machine can read a command line. Name where it is kept, with"
        f" --secret (or --answer-secret) {key}=SOURCE, where SOURCE is {SOURCES}"
    )


def _carries_secret(value: str) -> bool:
    """Return True for a URL with a password or a signature: a pre-signed URL alone gives access."""
    try:
        parts = urlsplit(value)
        return parts.password is not None or any(is_secret_name(name) for name, _ in parse_qsl(parts.query))
    except ValueError:
        return False


def secret_source(text: str) -> SecretSource:
    """Parse `key=<source>`. Raises ArgumentTypeError, without the text: it may be the secret itself."""
    key, _, source = text.partition("=")
    is_source = source == "-" or (source.startswith(("@", "env:")) and source not in ("@", "env:"))
    if not key or not is_source:
        raise argparse.ArgumentTypeError(f"expected KEY=SOURCE, where SOURCE is {SOURCES}")
    return SecretSource(key, source)


def read_secret(secret: SecretSource) -> str:
    """Return the secret, without the line break at its end. Raises `UnusableOption`."""
    if secret.source.startswith("env:"):
        value = os.environ.get(secret.source[4:], "")
    elif secret.source.startswith("@"):
        value = read_secret_file(secret.source[1:])
    else:
        value = _read_line(secret.key)
    if not value:
        raise UnusableOption(f"'{secret.key}': there is nothing in {_shown(secret.source)}")
    return value


def _read_line(key: str) -> str:
    """Read a line of standard input; a terminal does not show what is typed."""
    try:
        if sys.stdin.isatty():
            return getpass.getpass(f"{key}: ")
        return sys.stdin.readline(MAX_SECRET_BYTES).removeprefix(BYTE_ORDER_MARK).rstrip("\r\n")
    except (EOFError, UnicodeDecodeError):
        return ""


def _shown(source: str) -> str:
    if source.startswith("env:"):
        return f"the environment variable {source[4:]}"
    return "standard input" if source == "-" else source[1:]


def read_secret_file(path: str) -> str:
    """Return the content of a small text file, without the line break at its end. Raises `UnusableOption`."""
    try:
        with open(path, encoding="utf-8-sig") as file:  # without the byte order mark of some editors
            value = file.read(MAX_SECRET_BYTES + 1)
    except OSError as error:
        raise UnusableOption(f"'{path}' cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise UnusableOption(f"'{path}' is not a text in UTF-8") from error
    if len(value) > MAX_SECRET_BYTES:
        raise UnusableOption(f"'{path}' is longer than {MAX_SECRET_BYTES} characters")
    return value.rstrip("\r\n")


def gathered(*groups: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Return all options together. Raises `UnusableOption` when one is given twice."""
    options: dict[str, str] = {}
    for group in groups:
        for key, value in group:
            if key in options:
                raise UnusableOption(f"'{key}' is given twice")
            options[key] = value
    return options
