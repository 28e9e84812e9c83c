"""Data sets: groups of files and directories that the settings name."""

from collections.abc import Iterator, Mapping
from itertools import pairwise
from typing import TYPE_CHECKING, Annotated

from pydantic import BeforeValidator

from agent.settings.kinds import ValueKind
from agent.settings.parsing import list_of

if TYPE_CHECKING:
    from agent.settings.group_defaults import DataSetSettings

MAX_PATHS = 100


def plain_path(text: str) -> str:
    """Return the absolute path without `.` and empty parts. Raises ValueError for any other path."""
    parts = [part for part in text.split("/") if part not in ("", ".")]
    if not text.startswith("/") or ".." in parts or "\0" in text:
        raise ValueError("not an absolute path without '..'")
    return "/" + "/".join(parts)


def _some(value: object) -> object:
    assert isinstance(value, tuple)
    if not 0 < len(value) <= MAX_PATHS:
        raise ValueError("none, or too many")
    return value


PathList = Annotated[
    tuple[str, ...],
    BeforeValidator(_some),
    list_of(plain_path),
    ValueKind("list", f"1 to {MAX_PATHS} absolute paths without '..'"),
]


def data_set_problems(data_sets: "Mapping[str, DataSetSettings]") -> Iterator[str]:
    """Yield a problem for each path that is in another one: it would be saved and restored twice."""
    found = sorted(
        (f"{path}/".replace("//", "/"), name) for name, each in data_sets.items() for path in each.paths
    )
    for (above, first), (path, second) in pairwise(found):
        if path.startswith(above):
            yield f"dataSets.{second}.paths: '{path}' is in '{above}' of dataSets.{first} already; keep one"
