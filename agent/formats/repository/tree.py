"""Makes the trees of a snapshot from entries in the order of the walk, and compares them with the last ones.

A tree names its entries sorted and knows the ids of the trees below it, so it is made when the walk has left
the directory. A directory in which nothing has changed keeps its tree: no JSON is made for it.
"""

import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from itertools import chain
from os import stat_result

from agent.base.errors import disk_errors
from agent.formats.entries import DIR
from agent.formats.repository.blobs import BlobWriter, id_of, pieces_of
from agent.formats.repository.chunker import FileKind
from agent.formats.repository.level import MOST_HELD, Compared, Level
from agent.formats.repository.node import Node, node_parts, racy, signature
from agent.formats.repository.packs import tree_key
from agent.formats.repository.paths import SnapshotPaths, base, parent
from agent.formats.repository.scratch import Scratch
from agent.formats.repository.state import ROOT, WHOLE_DIRECTORY, Known, Row, State


class Trees:
    """Collects nodes into trees. Used by one thread."""

    def __init__(self, state: State, blobs: BlobWriter, scratch: Scratch, paths: SnapshotPaths) -> None:
        self.directories = Compared()
        self._state, self._blobs, self._scratch = state, blobs, scratch
        self._stack: list[Level] = []
        self._held = 0
        # Entries of several roots may come into these directories, so they stay open to the end.
        self._shared = paths.on_the_way
        self._fixed: dict[bytes, Level] = {}
        for path in paths.directories():
            self._fixed[path] = self._opened(path, *_facts(path), time.time_ns())

    def enter(self, path: bytes, status: stat_result, xattrs: Mapping[str, bytes], seen_ns: int) -> None:
        """Take a directory; its entries follow."""
        if fixed := self._fixed.get(path):
            fixed.stat, fixed.xattrs, fixed.kind = status, xattrs, racy(status, seen_ns)
            return
        self.level(parent(path))
        level = self._opened(path, status, xattrs, seen_ns)
        if path in self._shared:
            self._fixed[path] = level
        else:
            self._stack.append(level)

    def known(self, level: Level, name: bytes) -> Known | None:
        """Return what the last snapshot says of a file or link; ask once, then `add` or `lose` it."""
        known = self._known(level, name)
        if known and known.child:  # it was a directory
            self._state.drop(level.number, name, known)
            level.is_changed = True
            return None
        return known

    def lose(self, level: Level, name: bytes, known: Known | None) -> None:
        """Take it that a known file is not in this snapshot, because it could not be read."""
        if known:
            self._state.drop(level.number, name, known)
            level.is_changed = True

    def add(self, level: Level, node: Node, known: Known | None, seen: bytes, kind: int) -> None:
        """Take a file or link; `seen` is its signature."""
        self._put(level, node, known, Row(level.number, node.name, seen, node.content, 0, kind))

    def finish(self) -> bytes:
        """Return the id of the tree of `/`."""
        while self._stack:
            self._close(self._stack.pop())
        top, *below = self._fixed.values()
        for level in reversed(below):
            self._close(level)
        tree_id = self._tree(top)
        self._state.remember(snapshot_tree=tree_id.hex())
        return tree_id

    def level(self, path: bytes) -> Level:
        """Close the directories that the walk has left; return the one with this path."""
        while self._stack:
            if self._stack[-1].path == path:
                return self._stack[-1]
            self._close(self._stack.pop())
        return self._fixed[path]

    def _opened(self, path: bytes, status: stat_result, xattrs: Mapping[str, bytes], seen_ns: int) -> Level:
        known: Known | None = None
        if path == b"/":
            if tree := self._state.fact("snapshot_tree"):
                known = Known(b"", bytes.fromhex(tree), ROOT, FileKind.NONE)
        else:
            above = self._stack[-1] if self._stack else self._fixed[parent(path)]
            known = self._known(above, base(path))
        if known and not known.child:
            self._state.release(known)  # it was a file or a link
            above.is_changed = True
            known = None
        number = known.child if known else ROOT if path == b"/" else self._state.new_directory()
        before = self._state.size_of(number) if known else 0
        old = self._state.entries(number) if before <= WHOLE_DIRECTORY else None
        kind = racy(status, seen_ns)
        return Level(path, status, xattrs, kind, number, known, before, old, is_changed=known is None)

    def _known(self, level: Level, name: bytes) -> Known | None:
        known = self._state.entry(level.number, name) if level.old is None else level.old.pop(name, None)
        if known:
            level.found += 1
        return known

    def _close(self, level: Level) -> None:
        """Make the tree of a directory that has come to its end, and put its node into the one above."""
        tree_id = self._tree(level)
        node = Node(base(level.path), DIR, level.stat, level.xattrs, b"", tree_id, 0)
        above = self._stack[-1] if self._stack else self._fixed[parent(level.path)]
        seen = signature(DIR, level.stat)
        row = Row(above.number, node.name, seen, tree_id, level.number, level.kind)
        self._put(above, node, level.known, row)

    def _put(self, level: Level, node: Node, known: Known | None, row: Row) -> None:
        level.count += 1
        if known is None or known != row[2:] or row.kind & FileKind.RACY:
            level.is_changed = True
            if known:
                self._state.make_way(level.number, row.name, known)
            level.rows.append(row)
        self._held += level.hold(node)
        if self._held >= MOST_HELD:
            levels = [*self._fixed.values(), *self._stack]
            self._spill(max(levels, key=lambda each: each.held))

    def _spill(self, level: Level) -> None:
        """Move the nodes of a directory to the disk."""
        level.nodes.sort()
        parts = ((node.name, part) for node in level.nodes for part in node_parts(node))
        self._scratch.add(level.number, parts)
        self._held -= level.let_go()
        level.spilled = True
        self._keep_rows(level)

    def _keep_rows(self, level: Level) -> None:
        self._state.keep(level.rows)
        level.rows.clear()

    def _tree(self, level: Level) -> bytes:
        """Return the id of a directory's tree; store it when it is a new one."""
        self._keep_rows(level)
        if level.found < level.before:
            level.is_changed = True
            self._drop_gone(level)
        if level.count != level.before or not level.known:
            # An empty one, too: its number must not be given to another directory.
            self._state.set_size(level.number, level.count)
        self._count(level)
        known = level.known
        tree_id = known.content if known and not level.is_changed else self._new_tree(level, known)
        self._held -= level.let_go()
        if level.spilled:
            self._scratch.remove(level.number)
        return tree_id

    def _count(self, level: Level) -> None:
        if level.known is None:
            self.directories.new += 1
        elif level.is_changed:
            self.directories.changed += 1
        else:
            self.directories.unmodified += 1

    def _new_tree(self, level: Level, known: Known | None) -> bytes:
        pieces = self._pieces(level)
        tree_id, size_bytes = id_of(pieces())
        if not self._state.use(tree_key(tree_id)):
            self._blobs.add_tree(tree_id, pieces(), size_bytes)
        if known:
            self._state.unuse_tree(known.content)
        return tree_id

    def _pieces(self, level: Level) -> Callable[[], Iterable[bytes]]:
        """Return a function that gives the JSON of a directory's tree in pieces, again and again."""
        if level.spilled:
            self._spill(level)
            return lambda: pieces_of(part for _, part in self._scratch.nodes(level.number))
        made = [*pieces_of(chain.from_iterable(map(node_parts, sorted(level.nodes))))]
        return lambda: made

    def _drop_gone(self, level: Level) -> None:
        """Forget the entries of the last snapshot that are gone."""
        if level.old is not None:
            for name, known in level.old.items():
                self._state.drop(level.number, name, known)
            level.old.clear()
            return
        self._spill(level)
        for name in [*self._gone(level)]:
            if gone := self._state.entry(level.number, name):
                self._state.drop(level.number, name, gone)

    def _gone(self, level: Level) -> Iterator[bytes]:
        """Yield the names in the state that the directory has no more; both sides come sorted."""
        present = (name for name, _ in self._scratch.nodes(level.number))
        here = next(present, None)
        for name in self._state.names(level.number):
            while here is not None and here < name:
                here = next(present, None)
            if here != name:
                yield name


def _facts(path: bytes) -> tuple[stat_result, Mapping[str, bytes]]:
    """Return the status and the attributes of a directory above what is saved. Raises `IoError`."""
    xattrs = {}
    with suppress(OSError):
        for name in os.listxattr(path, follow_symlinks=False):
            xattrs[name] = os.getxattr(path, name, follow_symlinks=False)
    with disk_errors(f"cannot read '{os.fsdecode(path)}'"):
        return os.lstat(path), xattrs
