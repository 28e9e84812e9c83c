"""The keys that a configuration file may have, as the settings tree declares them.

The field `log_file` has the key `logFile`; the field `level` of the group `archive` has `archive.level`,
which a file may also write nested. A key with a name that people choose is `targets.<name>.path`.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import get_args, get_origin

from pydantic import BaseModel
from pydantic.alias_generators import to_camel

from agent.settings import Settings
from agent.settings.kanto_defaults import KantoSettings
from agent.settings.kinds import ValueKind, kind_of
from agent.settings.schedules import KANTO

FieldPath = tuple[str, ...]
"""The path of a value in the tree: `("archive", "level")`, `("targets", "usb", "path")`."""

_ANY = "<name>"
RENAMED_GROUPS = {"seal": "encryption"}
"""Groups of an earlier version, and their names now."""
MOVED = {f"schedule.{key}": f"schedules.{KANTO}.{key}" for key in ("jitter", "store")}
"""Keys of an earlier version that still work, and where they are now."""


@dataclass(frozen=True, slots=True)
class Key:
    """One setting. `default` is written as in a file, None where a value must be given."""

    name: str
    path: FieldPath
    kind: ValueKind
    default: str | int | bool | None
    help: str
    kanto: bool


def _keys(model: type[BaseModel], name: str = "", path: FieldPath = ()) -> Iterator[Key]:
    for field_name, field in model.model_fields.items():
        its_name = name + (field.title or to_camel(field_name))
        its_path = (*path, field_name)
        if member := _member(field.annotation):
            yield from _keys(member, f"{its_name}.{_ANY}.", (*its_path, _ANY))
        elif isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from _keys(field.annotation, f"{its_name}.", its_path)
        else:
            default = None if field.is_required() else field.default
            kanto = its_name in _KANTO_NAMES
            yield Key(its_name, its_path, kind_of(field), default, field.description or "", kanto)


def _member(annotation: object) -> type[BaseModel] | None:
    """Return the settings under each name that people choose; None for other fields."""
    arguments = get_args(annotation) if get_origin(annotation) is dict else ()
    return arguments[1] if arguments and issubclass(arguments[1], BaseModel) else None


_KANTO_NAMES = frozenset(to_camel(name) for name in KantoSettings.model_fields)
KEYS = tuple(_keys(Settings))
_BY_NAME = {key.name: key for key in KEYS}
_KANTO_BY_LOWER_NAME = {name.lower(): _BY_NAME[name] for name in _KANTO_NAMES}
_BY_PATH = {key.path: key for key in KEYS}
# "archive", "targets", "storage": the words before the first dot.
_HEADS = frozenset(name.partition(".")[0] for name in (*_BY_NAME, *MOVED) if "." in name)


def find(name: str) -> FieldPath | None:
    """Return the path of the key `name`, also of one that has moved; None when there is no such key."""
    name = MOVED.get(name, name)
    if key := _BY_NAME.get(name):
        return key.path
    parts = name.split(".")
    if len(parts) == 3 and (key := _BY_NAME.get(f"{parts[0]}.{_ANY}.{parts[2]}")):
        return (key.path[0], parts[1], *key.path[2:])
    return None


def takes_object(name: str) -> bool:
    """Return True when the value of the key `name` is an object, whose members are no keys."""
    position = find(name)
    key = key_at(position) if position else None
    return key is not None and key.kind.unit == "object"


def find_kanto(name: str) -> FieldPath | None:
    """Return the path of Kanto's property `name` in any letter case, as Go's JSON decoder matches it."""
    key = _KANTO_BY_LOWER_NAME.get(name.lower())
    return key.path if key else None


def is_ours(name: str) -> bool:
    """Return True when a file with this key cannot be one of Kanto's."""
    head, dot, _ = name.partition(".")
    if head in RENAMED_GROUPS:
        return True
    return head in _HEADS if dot else find_kanto(name) is None and (name in _BY_NAME or name in _HEADS)


def paths_of(key: Key, settings: Settings) -> list[FieldPath]:
    """Return the paths of the values of `key`: one, or one for each name that was chosen."""
    if _ANY not in key.path:
        return [key.path]
    return [(key.path[0], name, *key.path[2:]) for name in getattr(settings, key.path[0])]


def key_at(path: FieldPath) -> Key | None:
    """Return the setting at `path`, which may have a chosen name in it."""
    return _BY_PATH.get(path) or _BY_PATH.get((*path[:1], _ANY, *path[2:]))


def name_of(path: FieldPath) -> str:
    """Return the key of the value at `path`."""
    key = key_at(path)
    if key is None:
        return ".".join(path)
    return key.name.replace(_ANY, path[1]) if _ANY in key.path else key.name


def members(name: str) -> list[str]:
    """Return the keys inside the group `name`, which may be a chosen one (`targets.usb`); [] for no group."""
    head, dot, chosen = name.partition(".")
    start = f"{head}.{_ANY}." if dot and chosen and "." not in chosen else f"{name}."
    found = [each for each in (*_BY_NAME, *MOVED) if each.startswith(start)]
    return [key.replace(_ANY, chosen or _ANY) for key in found]


def hint(name: str) -> str:
    """Return the key that an unknown `name` may mean, as the end of a sentence; "" when none is near."""
    head, dot, rest = name.partition(".")
    if head in RENAMED_GROUPS:
        return (
            f"; it is called '{RENAMED_GROUPS[head]}{dot}{rest}' now: see 'edge-backup check-config --write'"
        )
    if inside := members(name):
        return f"; expected an object with {', '.join(inside)}"
    group, _, last = name.rpartition(".")
    beside = {key.removeprefix(f"{group}."): key for key in members(group)}
    if near := _near(last, beside, 0.6) if beside else _near(name, {key: key for key in _BY_NAME}, 0.75):
        return f"; did you mean '{near}'?"
    return f"; known there: {', '.join(beside)}" if beside else ""


def _near(name: str, keys: Mapping[str, str], cutoff: float) -> str:
    """Return the key whose name resembles `name` most; "" when none does."""
    import difflib

    return "".join(keys[found] for found in difflib.get_close_matches(name, keys, n=1, cutoff=cutoff))
