"""The roots of a job: one directory, or paths in several, told apart by a prefix in the archive.

An archive of one directory has names relative to it. An archive of data sets has the name of the set, then
the absolute path: `network/etc/hosts`. Where that is restored is decided by the device's settings, never by
the archive.
"""

import os
import stat
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Root:
    """A directory of the device, or some names in it, with the prefix of these names in an archive.

    Names are relative to the directory, without a slash at the end. No two roots of a job hold one thing, but
    two may be in one directory. A single file is a name in the root that is the directory around it.
    """

    prefix: str
    """The beginning of archived names, without a slash at the end; empty for an archive of one directory."""
    directory: Path
    """Absolute, and resolved."""
    names: frozenset[str] | None = None
    """Only these names, each with everything below it; None for everything."""
    without: frozenset[str] = frozenset()
    """Names that are left to other roots, with everything below them."""

    @property
    def data_set(self) -> str:
        """Return the data set of this root; empty for a directory."""
        return self.prefix.partition("/")[0]

    def archived(self, name: str) -> str:
        """Return the archived name of `name`; the directory itself has the name ""."""
        return f"{self.prefix}/{name}".rstrip("/") if self.prefix else name

    def relative(self, archived: str) -> str | None:
        """Return the name for an archived name; None when that is not below this directory."""
        if not self.prefix or archived == self.prefix:
            return archived[len(self.prefix) :]
        return archived[len(self.prefix) + 1 :] if archived.startswith(f"{self.prefix}/") else None

    def holds(self, name: str) -> bool:
        """Return True when `name`, or a directory above it, is one of the names."""
        if self.without and is_in(name, self.without):
            return False
        return self.names is None or is_in(name, self.names)

    def narrowed(self, archived: str) -> "Root | None":
        """Return this root narrowed to an archived name and what is below; None when the root has neither."""
        if f"{self.prefix}/".startswith(f"{archived}/"):
            return self
        name = self.relative(archived)
        if name is None:
            return None
        if self.holds(name):
            return replace(self, names=frozenset({name}))
        below = frozenset(held for held in self.names or () if held.startswith(f"{name}/"))
        return replace(self, names=below) if below else None

    def leads_to(self, name: str) -> bool:
        """Return True when `name` is a directory above one of the names."""
        return any(held.startswith(f"{name}/" if name else "") for held in self.names or ())


class RootsByPrefix:
    """Finds roots by what archived names begin with, as quickly for hundreds of roots as for one."""

    def __init__(self, roots: Iterable[Root]) -> None:
        self._numbers: dict[str, list[int]] = {}
        for number, root in enumerate(roots):
            self._numbers.setdefault(root.prefix, []).append(number)
        self._above = {above for prefix in self._numbers for above in _directories_above(prefix)}
        self._tops = {prefix.partition("/")[0] for prefix in self._numbers}
        self._longest = max(map(len, self._numbers), default=0)

    def knows(self, archived: str) -> bool:
        """Return True when the first name of `archived` is that of a root's prefix, too."""
        return archived.partition("/")[0] in self._tops

    def leads_to(self, archived: str) -> bool:
        """Return True when the directory of a root is below this one."""
        return archived in self._above

    def around(self, archived: str) -> list[int]:
        """Return the numbers of the roots that this name is the directory of, or is below."""
        found = [*self._numbers.get("", ())]
        end = archived.find("/")
        while 0 < end <= self._longest:
            found += self._numbers.get(archived[:end], ())
            end = archived.find("/", end + 1)
        if archived and len(archived) <= self._longest:
            found += self._numbers.get(archived, ())
        return found


def _directories_above(name: str) -> Iterable[str]:
    while name := name.rpartition("/")[0]:
        yield name


def is_in(name: str, names: frozenset[str]) -> bool:
    """Return True when the name, or a directory above it, is one of the names."""
    name = name[: _longest(names) + 1]  # linear, however deep the name is
    while name and name not in names:
        name = name.rpartition("/")[0]
    return bool(name)


@lru_cache(maxsize=256)  # a restore asks for each name of an archive
def _longest(names: frozenset[str]) -> int:
    return max(map(len, names), default=0)


def data_set_roots(data_set: str, paths: Iterable[str]) -> tuple[Root, ...]:
    """Return the roots of a data set: `paths` are absolute, and none is below another.

    A directory is a root of its own. Any other path is a name in the directory around it, or in the nearest
    directory that exists. Raises OSError when the device cannot be read there.
    """
    return merged(_root(data_set, path.strip("/")) for path in paths)


def merged(roots: Iterable[Root]) -> tuple[Root, ...]:
    """Return the roots in the order of their prefixes, one root for all names in one directory."""
    found: dict[tuple[str, Path], Root] = {}
    for root in roots:
        destination = root.prefix, root.directory
        other = found.get(destination, root)
        both = None if root.names is None or other.names is None else root.names | other.names
        found[destination] = replace(root, names=both)
    return tuple(found[destination] for destination in sorted(found))


def _root(data_set: str, path: str) -> Root:
    above, name = path, ""
    while not _is_directory(f"/{above}"):
        above, _, last = above.rpartition("/")
        name = f"{last}/{name}" if name else last
    prefix = f"{data_set}/{above}" if above else data_set
    return Root(prefix, Path(os.path.realpath(f"/{above}")), frozenset({name}) if name else None)


def _is_directory(path: str) -> bool:
    try:
        return stat.S_ISDIR(os.stat(path).st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return False
