"""The sources of settings: a configuration file, systemd's credentials, environment, command line.

Each becomes a `Layer`: values by their path in the settings tree, each with its origin, for messages about
wrong values.
"""

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from agent.base.text import json_with_repeats
from agent.settings.keys import (
    KEYS,
    MOVED,
    FieldPath,
    find,
    find_kanto,
    hint,
    is_ours,
    key_at,
    members,
    name_of,
    takes_object,
)
from agent.settings.parsing import is_tiny_period

ENVIRONMENT_PREFIX = "EDGE_BACKUP_"
CONFIG_VARIABLE = f"{ENVIRONMENT_PREFIX}CONFIG"
"""Names the configuration file for the command line; it is no setting."""
_LARGEST_FILE_BYTES = 1 << 20
CREDENTIALS: Mapping[str, FieldPath] = {
    "broker-password": ("password_file",),
    "broker-cert": ("cert",),
    "broker-key": ("key",),
    "http-token": ("http", "token_file"),
    "http-cert": ("http", "cert"),
    "http-key": ("http", "key"),
}
"""Names of systemd credentials, and the settings that get their files."""
STORE_CREDENTIAL = "store-"
"""Beginning of the name of a credential with the secret options of a store."""


@dataclass(frozen=True, slots=True)
class Notice:
    """A line to log when logging is set up."""

    level: Literal["error", "warning", "info"]
    text: str


@dataclass(frozen=True, slots=True)
class Given:
    """A value, which may be a secret, and its origin in words."""

    value: object = field(repr=False)
    origin: str


@dataclass(slots=True)
class Layer:
    """The values of one source. With `problems` the agent does not start; `notices` are only logged."""

    given: dict[FieldPath, Given] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    notices: list[Notice] = field(default_factory=list)


def read_file(path: Path) -> Layer:
    """Read a configuration file in JSON.

    A file in which every known key is one of Kanto's is read as Kanto's own agent reads it: letter case
    is free, an empty value counts as absent, an unknown key is a notice. In every other file an unknown
    key is a problem.
    """
    content = read_json(path)
    if isinstance(content, str):
        return Layer(problems=[content])
    values, twice = list(_flatten(content[0])), content[1]
    if any(is_ours(name) for name, _ in values):
        layer = _our_file(path, values)
        layer.problems += [f"{path}: '{name}' is given twice; keep one" for name in twice]
    else:
        layer = _kanto_file(path, values)
        layer.notices += [
            Notice("error", f"{path}: '{name}' is given twice, and the last one counts") for name in twice
        ]
    return layer


def read_json(path: Path) -> tuple[dict[str, object], list[str]] | str:
    """Return the JSON object in a file and the keys that are in it twice, or a problem."""
    try:
        with path.open("rb") as file:
            content = file.read(_LARGEST_FILE_BYTES + 1)
    except OSError as error:
        is_closed = isinstance(error, PermissionError)
        what = "try as root or the agent's user" if is_closed else "give an existing file with --config"
        return f"{path}: cannot be read ({error.strerror}); {what}"
    if len(content) > _LARGEST_FILE_BYTES:
        return f"{path}: is longer than {_LARGEST_FILE_BYTES} bytes, which no configuration is"
    try:
        value, twice = json_with_repeats(content.decode("utf-8-sig"))
    except json.JSONDecodeError as error:
        return f"{path}: is not valid JSON at line {error.lineno}, column {error.colno} ({error.msg})"
    except UnicodeDecodeError as error:
        return f"{path}: is not UTF-8 text at byte {error.start}"
    except (ValueError, RecursionError):
        return f"{path}: has a number or a nesting that is too large"
    return (value, twice) if isinstance(value, dict) else f"{path}: expected a JSON object with settings"


def _flatten(values: Mapping[str, object], prefix: str = "") -> Iterator[tuple[str, object]]:
    """Yield nested objects as dotted keys: `{"archive": {"level": "fast"}}` gives `archive.level`.

    An empty object stays: the caller decides whether it is allowed there.
    """
    for name, value in values.items():
        if isinstance(value, dict) and value and not takes_object(f"{prefix}{name}"):
            yield from _flatten(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _our_file(path: Path, values: list[tuple[str, object]]) -> Layer:
    layer = Layer()
    for name, value in values:
        position = find(name)
        if position is None and value == {} and "." not in name and members(name):
            continue  # an empty group sets nothing
        if position is None:
            layer.problems.append(f"{path}: unknown key '{name}'{hint(name)}")
        elif position in layer.given:
            today = name_of(position)
            how = "under its old name, too" if today in MOVED.values() else "nested and with a dot"
            layer.problems.append(f"{path}: '{today}' is given twice, {how}; keep one")
        else:
            layer.given[position] = Given(value, f"in {path}")
            _note_moved(layer, name, f"in {path}")
    return layer


def _note_moved(layer: Layer, name: str, origin: str) -> None:
    """Add a notice for a key that has moved, and still works: a fleet is not updated in one night."""
    if name in MOVED:
        text = f"'{name}' ({origin}) is called '{MOVED[name]}' now: see 'edge-backup check-config --write'"
        layer.notices.append(Notice("warning", text))


def _kanto_file(path: Path, values: list[tuple[str, object]]) -> Layer:
    layer = Layer()
    for name, value in values:
        position = find_kanto(name)
        if position is None:
            layer.notices.append(Notice("error", f"{path}: unknown key '{name}' is ignored{hint(name)}"))
        elif position == ("period",) and isinstance(value, str) and is_tiny_period(value):
            text = f"{path}: the period '{value}' is below 1s and counts as 1s"
            layer.notices.append(Notice("warning", text))
            layer.given[position] = Given("1s", f"in {path}")
        elif value not in ("", None):
            layer.given[position] = Given(value, f"in {path}")
    return layer


def read_credentials(environ: Mapping[str, str]) -> Layer:
    """Read the files that systemd's `LoadCredential=` gives to this service (systemd.exec(5))."""
    layer, directory = Layer(), environ.get("CREDENTIALS_DIRECTORY")
    for name, position in CREDENTIALS.items() if directory else ():
        file = os.path.join(str(directory), name)
        if os.path.exists(file):
            layer.given[position] = Given(file, f"as systemd's credential '{name}'")
    for name in sorted(os.listdir(directory)) if directory else ():
        if name.startswith(STORE_CREDENTIAL):
            position = ("stores", name.removeprefix(STORE_CREDENTIAL), "credentials")
            layer.given[position] = Given(f"{directory}/{name}", f"as systemd's credential '{name}'")
    return layer


def read_environment(environ: Mapping[str, str], known: Iterable[FieldPath] = ()) -> Layer:
    """Read `EDGE_BACKUP_LOG_LEVEL` for `logLevel`, `EDGE_BACKUP_ARCHIVE__LEVEL` for `archive.level`.

    Variables are in capitals: a chosen name (`targets.USB`) is looked up in the paths `known` in any letter
    case; a new one is in small letters. An unknown variable is only a notice, since container runtimes make
    some with this prefix.
    """
    layer = Layer()
    chosen = {(path[0], path[1].lower()): path[1] for path in known if len(path) > 2}
    for variable, value in environ.items():
        if not variable.startswith(ENVIRONMENT_PREFIX) or variable == CONFIG_VARIABLE:
            continue
        position = _position_of_variable(variable, chosen)
        if position is None:
            layer.notices.append(Notice("error", f"unknown environment variable {variable} is ignored"))
        else:
            layer.given[position] = Given(value, f"in {variable}")
            _note_moved(layer, _name_of_variable(variable), f"in {variable}")
    return layer


def _name_of_variable(variable: str) -> str:
    return ".".join(variable.removeprefix(ENVIRONMENT_PREFIX).lower().split("__"))


def _position_of_variable(variable: str, chosen: Mapping[tuple[str, str], str]) -> FieldPath | None:
    path = tuple(_name_of_variable(variable).split("."))
    if len(path) > 2 and (name := chosen.get((path[0], path[1]))):
        path = (path[0], name, *path[2:])
    return path if key_at(path) else find(".".join(path))


def read_command_line(overrides: Mapping[str, str]) -> Layer:
    """Read the options of the command line, by key."""
    layer = Layer()
    for name, value in overrides.items():
        position = find(name)
        if position is None:
            layer.problems.append(f"command line: unknown key '{name}'{hint(name)}")
        else:
            layer.given[position] = Given(value, "on the command line")
            _note_moved(layer, name, "on the command line")
        if any(key.name == name and key.kind.secret for key in KEYS):
            text = f"every user of this device can read {name} on the command line; put it into a file"
            layer.notices.append(Notice("warning", text))
    return layer
