"""Loading the settings: layers are merged, checked together, and every problem is reported at once."""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic.alias_generators import to_camel

from agent.base.redaction import redact_text
from agent.settings import Settings
from agent.settings.data_sets import data_set_problems
from agent.settings.http import http_problems
from agent.settings.keys import KEYS, FieldPath, key_at, name_of, paths_of
from agent.settings.kinds import shown
from agent.settings.schedules import schedule_problems
from agent.settings.secret_files import is_encrypted_key, read_password
from agent.settings.sources import (
    Given,
    Layer,
    Notice,
    read_command_line,
    read_credentials,
    read_environment,
    read_file,
)
from agent.settings.stores import store_problems

_LONGEST_SHOWN = 80


class SettingsError(Exception):
    """The agent cannot start with these settings. The text has one line per problem, and no secret."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """Valid settings, and the notices to log about them."""

    settings: Settings
    notices: list[Notice]


def load(argv_overrides: Mapping[str, str], config_file: Path | None, environ: Mapping[str, str]) -> Loaded:
    """Return the settings from defaults, file, credentials, environment and command line; later ones win.

    `argv_overrides` maps keys as in a file to texts. Raises `SettingsError` when a file cannot be read
    or is no JSON object, when a key is unknown in a file of ours, or when a value is wrong anywhere.
    """
    file = read_file(config_file) if config_file else Layer()
    layers = [file, read_credentials(environ), read_environment(environ, file.given)]
    layers.append(read_command_line(argv_overrides))
    given = {position: value for layer in layers for position, value in layer.given.items()}
    problems = [problem for layer in layers for problem in layer.problems]
    problems += [*_read_password_file(given), *_key_problems(given)]
    try:
        settings = Settings.model_validate(_nested(given))
    except ValidationError as error:
        found = error.errors(include_url=False, include_context=False, include_input=False)
        problems += [_problem(each["loc"], each["type"], given) for each in found]
        raise SettingsError("\n".join(problems)) from None
    problems += [
        *store_problems(settings),
        *data_set_problems(settings.data_sets),
        *http_problems(settings),
        *schedule_problems(settings),
    ]
    if problems:
        raise SettingsError("\n".join(problems))
    return Loaded(settings, [notice for layer in layers for notice in layer.notices])


def _read_password_file(given: dict[FieldPath, Given]) -> list[str]:
    """Replace `password` by the content of `passwordFile`; return the problems with that file."""
    source = given.get(("password_file",))
    if source is None or not isinstance(source.value, str) or not source.value:
        return []
    try:
        text = read_password(Path(source.value))
    except OSError as error:
        return [
            f"passwordFile: '{source.value}' cannot be read ({error.strerror}); it is given {source.origin}"
        ]
    except ValueError:
        return [f"passwordFile: '{source.value}' is not a UTF-8 text file; it is given {source.origin}"]
    given[("password",)] = Given(text, source.origin)
    return []


def _key_problems(given: Mapping[FieldPath, Given]) -> Iterator[str]:
    """Yield a problem for an encrypted private key: a service has no terminal to ask for a passphrase."""
    source = given.get(("key",))
    if source and isinstance(source.value, str) and source.value and is_encrypted_key(Path(source.value)):
        yield (
            f"key: '{source.value}' is encrypted, and nobody is there to type its passphrase; it is given"
            f" {source.origin}. Decrypt it with 'openssl pkey -in … -out …' into a file of mode 0600"
        )


def _nested(given: Mapping[FieldPath, Given]) -> dict[str, Any]:
    tree: dict[str, Any] = {}
    for position, value in given.items():
        branch = tree
        for part in position[:-1]:
            branch = branch.setdefault(part, {})
        branch[position[-1]] = value.value
    return tree


def _problem(location: Iterable[str | int], error_type: str, given: Mapping[FieldPath, Given]) -> str:
    """Return a line for the error of pydantic at `location`, in the words of a configuration file."""
    position = tuple(str(part) for part in location)
    if position[-1] == "[key]":
        name = _shortened(position[1])
        return f"{to_camel(position[0])}: the name '{name}' must be 1 to 64 letters, digits, '-' or '_'"
    key = key_at(position)
    expected = key.kind.expected if key else "something else"
    if error_type == "missing" or position not in given:
        return f"{name_of(position)}: is missing; expected {expected}"
    source = given[position]
    shown = "the given value" if key is None or key.kind.secret else _shown(source.value)
    return f"{name_of(position)}: expected {expected}, not {shown} ({source.origin})"


def _shown(value: object) -> str:
    # A wrong value may be a URL with a password in it.
    return _shortened(redact_text(json.dumps(value, ensure_ascii=False)))


def _shortened(text: str) -> str:
    return text if len(text) <= _LONGEST_SHOWN else text[:_LONGEST_SHOWN] + "…"


def effective(settings: Settings) -> dict[str, str | int | bool]:
    """Return every setting by its key, written as in a file; secrets that are set read `***`."""
    return {
        name_of(position): shown(_value_at(settings, position), key.kind)
        for key in KEYS
        for position in paths_of(key, settings)
    }


def _value_at(settings: Settings, position: FieldPath) -> Any:
    value: Any = settings
    for part in position:
        value = value[part] if isinstance(value, dict) else getattr(value, part)
    return value
