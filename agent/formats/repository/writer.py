"""Puts the entries of a walk into trees and blobs, and counts what is new."""

import os
from collections.abc import Iterable
from contextlib import suppress

from agent.formats.entries import DIR, FILE, LINK, Entry
from agent.formats.repository.chunker import FileKind
from agent.formats.repository.content import Content, Contents
from agent.formats.repository.level import Compared
from agent.formats.repository.node import Node, racy, signature
from agent.formats.repository.paths import SnapshotPaths, join
from agent.formats.repository.state import Known
from agent.formats.repository.tree import Trees
from agent.formats.walk_report import Report
from agent.transfer.context import Context

_LOGS = (b"-wal", b"-journal")
"""Ends of the names of the files in which SQLite keeps changes beside a database."""
_PACE = 64
"""Entries between two looks at the token."""


class EntryWriter:
    """Takes entries in the order of the walk. Used by one thread."""

    def __init__(
        self, trees: Trees, contents: Contents, paths: SnapshotPaths, report: Report, context: Context
    ) -> None:
        self.files = Compared()
        self._trees, self._contents, self._paths = trees, contents, paths
        self._report, self._context = report, context

    def write(self, entries: Iterable[Entry]) -> bytes:
        """Take all entries; return the id of the tree of `/`. Raises what `entries` raises, and Cancelled."""
        for number, entry in enumerate(entries):
            if number % _PACE == 0:
                self._context.token.check()
                self._contents.blobs.refresh()
                self._context.progress(self._report.read_bytes)
            if entry.kind is DIR:
                self._report.directories += 1
                self._trees.enter(join(*self._paths.of(entry.name)), entry.stat, entry.xattrs, entry.seen_ns)
            elif entry.kind is FILE:
                self._file(entry)
            else:
                self._link(entry)
        if top := self._report.top:
            self._trees.enter(self._paths.top, top.stat, top.xattrs, top.seen_ns)
        return self._trees.finish()

    def _link(self, entry: Entry) -> None:
        self._report.links += 1
        directory, name = self._paths.of(entry.name)
        node = Node(name, LINK, entry.stat, entry.xattrs, entry.target, b"", 0)
        level = self._trees.level(directory)
        known = self._trees.known(level, name)
        self._trees.add(level, node, known, signature(LINK, entry.stat), racy(entry.stat, entry.seen_ns))

    def _file(self, entry: Entry) -> None:
        directory, name = self._paths.of(entry.name)
        level = self._trees.level(directory)
        known, seen = self._trees.known(level, name), signature(FILE, entry.stat)
        is_unmodified = known is not None and self._is_unchanged(known, seen, directory, name)
        if known and is_unmodified:
            content: Content | None = self._as_before(entry, known)
        else:
            content = self._read(entry, directory, name, known)
        if content is None:
            self._trees.lose(level, name, known)
            return
        self._count(content, known, is_unmodified=is_unmodified)
        node = Node(name, FILE, entry.stat, entry.xattrs, b"", content.ids, content.size_bytes)
        self._trees.add(level, node, known, seen, content.kind)

    def _read(self, entry: Entry, directory: bytes, name: bytes, known: Known | None) -> Content | None:
        """Return the content of a file, with the facts for which the next snapshot has to read it again."""
        content = self._contents.read(entry, known)
        if content is None:
            return None
        kind = content.kind | racy(entry.stat, entry.seen_ns)
        if kind & FileKind.SQLITE and _is_ahead(join(directory, name)):
            kind |= FileKind.WRITTEN_AHEAD
        if entry.has_changed(content.size_bytes):
            self._report.skip(entry.name, "changed while read")
            kind |= FileKind.RACY
        return Content(content.ids, content.size_bytes, kind)

    def _is_unchanged(self, known: Known, seen: bytes, directory: bytes, name: bytes) -> bool:
        """Return True when nothing says that a file has another content than in the last snapshot."""
        if known.signature != seen or known.kind & (FileKind.RACY | FileKind.WRITTEN_AHEAD):
            return False
        # A state that was made again does not know what a small file is.
        may_be_database = known.kind & FileKind.SQLITE or known.kind == FileKind.NONE
        return not (may_be_database and _is_ahead(join(directory, name)))

    def _as_before(self, entry: Entry, known: Known) -> Content:
        self._report.read_bytes += entry.stat.st_size
        return Content(known.content, entry.stat.st_size, known.kind)

    def _count(self, content: Content, known: Known | None, *, is_unmodified: bool) -> None:
        self._report.files += 1
        self._report.size_bytes += content.size_bytes
        if is_unmodified:
            self.files.unmodified += 1
        elif known:
            self.files.changed += 1
        else:
            self.files.new += 1


def _is_ahead(path: bytes) -> bool:
    """Return True when SQLite keeps changes beside a database, whose time and size then stand still."""
    for end in _LOGS:
        with suppress(OSError):
            if os.lstat(path + end).st_size:
                return True
    return False
