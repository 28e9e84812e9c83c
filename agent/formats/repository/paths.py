"""The paths of entries in a snapshot: absolute, with every directory above them."""

import os
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath

from agent.base.roots import Root


class SnapshotPaths:
    """Maps names of entries to paths in the snapshot, which begin with a slash.

    A snapshot has absolute paths, because restic's tools expect them. Content that a command collected has no
    home on the device: it is at the top.
    """

    def __init__(self, roots: Iterable[Root]) -> None:
        self.roots = tuple(roots) or (Root("", Path("/")),)
        self._by_prefix = {root.prefix: _path(root.directory) for root in self.roots}
        self._above = "\0", b""

    @property
    def top(self) -> bytes:
        """Return the path of the directory whose entries have no prefix."""
        return self._by_prefix[""]

    @property
    def saved(self) -> list[str]:
        """Return the paths that are saved, sorted, as a snapshot lists them."""
        return sorted({path for root in self.roots for path in _saved(root)})

    def directories(self) -> list[bytes]:
        """Return the directories of roots and all above them, each behind those above it."""
        found = {b"/"}
        for directory in self._by_prefix.values():
            path = directory
            while path != b"/":
                found.add(path)
                path = parent(path)
        return sorted(found, key=lambda path: (path.count(b"/"), path))

    @property
    def on_the_way(self) -> frozenset[bytes]:
        """Return the directories in which names of roots are; there may be none with some of these paths."""
        found: set[bytes] = set()
        for root in self.roots:
            above = _path(root.directory)
            for name in map(PurePosixPath, root.names or ()):
                found |= {join(above, os.fsencode(each)) for each in name.parents if each.name}
        return frozenset(found)

    def of(self, name: str) -> tuple[bytes, bytes]:
        """Return the directory of an entry, and its name there."""
        if name in self._by_prefix and name:
            path = self._by_prefix[name]
            return parent(path), base(path)
        above, _, last = name.rpartition("/")
        if above != self._above[0]:
            self._above = above, self._directory(above)
        return self._above[1], os.fsencode(last)

    def _directory(self, above: str) -> bytes:
        prefix, rest = above, ""
        while prefix not in self._by_prefix:
            prefix, _, last = prefix.rpartition("/")
            rest = f"{last}/{rest}" if rest else last
        found = self._by_prefix[prefix]
        return join(found, os.fsencode(rest)) if rest else found


def _path(directory: Path) -> bytes:
    return os.fsencode(os.path.normpath(directory))


def _saved(root: Root) -> Iterator[str]:
    directory = os.fspath(root.directory)
    if root.names is None:
        yield directory
    else:
        yield from (os.path.join(directory, name) for name in root.names)


def join(directory: bytes, name: bytes) -> bytes:
    return b"/" + name if directory == b"/" else b"%b/%b" % (directory, name)


def parent(path: bytes) -> bytes:
    return path.rpartition(b"/")[0] or b"/"


def base(path: bytes) -> bytes:
    return path.rpartition(b"/")[2]
