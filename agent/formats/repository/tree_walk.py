"""Goes through the trees of a snapshot, and trusts nothing in them."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from os import fsdecode, fsencode

from agent.base.errors import RepositoryBroken
from agent.base.roots import Root
from agent.base.text import printable
from agent.formats.entries import DIR, MAX_NAME_BYTES
from agent.formats.entry_names import bad_entry
from agent.formats.repository.document import directory_missing
from agent.formats.repository.packs import ID_BYTES
from agent.formats.repository.reader import Reader
from agent.formats.repository.saved_node import SavedNode

_MOST_WAITING_BYTES = 64 << 20
"""Directories that wait take their name and 36 bytes each."""


@dataclass(slots=True)
class _Level:
    """A directory that was read, with those in it that wait."""

    prefix_letters: int
    """The length of its path, with the slash at the end."""
    waiting: bytearray = field(default_factory=bytearray)
    """Their trees and names, one behind the other."""
    position: int = 0

    def add(self, node: SavedNode) -> None:
        self.waiting += node.content + len(node.name).to_bytes(4) + node.name

    def next(self) -> tuple[bytes, bytes] | None:
        """Return the tree and the name of the next directory; None when there is no other."""
        if self.position == len(self.waiting):
            return None
        begin = self.position + ID_BYTES + 4
        tree_id = bytes(self.waiting[self.position : begin - 4])
        self.position = begin + int.from_bytes(self.waiting[begin - 4 : begin])
        return tree_id, bytes(self.waiting[begin : self.position])


@dataclass(slots=True)
class TreeWalk:
    """One pass through what a snapshot has of its roots. Its methods raise as `Reader.tree`."""

    reader: Reader
    check: Callable[[], None]
    """Called for each node; ends the walk by raising."""
    most_nodes: int
    """Trees may share their subtrees: a few of them can have more entries than any disk."""
    _nodes: int = 0
    _waiting_bytes: int = 0

    def directory(self, tree_id: bytes, path: str) -> tuple[SavedNode | None, bytes]:
        """Return the node of a directory below a tree, and its own tree; no node for the tree itself.

        `path` is printable, as manifests have it. Raises `RepositoryBroken` when it is not there.
        """
        node = None
        for part in filter(None, path.split("/")):
            found = (each for each in self._tree(tree_id) if printable(fsdecode(each.name)) == part)
            node = next((each for each in found if each.kind is DIR), None)
            if node is None:
                raise directory_missing(path)
            tree_id = node.content
        return node, tree_id

    def sole_node(self, tree_id: bytes) -> SavedNode | None:
        """Return the node of a tree that has only one."""
        nodes = self._tree(tree_id)
        first = next(nodes, None)
        return first if next(nodes, None) is None else None

    def names(self, tree_id: bytes) -> set[str]:
        """Return the names in a tree, printable."""
        return {printable(fsdecode(node.name)) for node in self._tree(tree_id)}

    def below(self, tree_id: bytes, root: Root) -> Iterator[tuple[str, SavedNode]]:
        """Yield the nodes below the directory of a root, each with its name there.

        The names of the root are printable. A directory comes before what is in it, which comes in one piece.
        """
        levels, prefix = [_Level(0)], ""
        yield from self._level(tree_id, prefix, levels[0], root)
        while levels:
            here = levels[-1]
            prefix = prefix[: here.prefix_letters]
            found = here.next()
            if found is None:
                self._waiting_bytes -= len(here.waiting)
                levels.pop()
                continue
            prefix += fsdecode(found[1]) + "/"
            levels.append(_Level(len(prefix)))
            yield from self._level(found[0], prefix, levels[-1], root)

    def _level(
        self, tree_id: bytes, prefix: str, level: _Level, root: Root
    ) -> Iterator[tuple[str, SavedNode]]:
        for node in self._tree(tree_id):
            name = prefix + fsdecode(node.name)
            # A letter has at most four bytes; most names need not be encoded to know.
            if len(name) * 4 > MAX_NAME_BYTES and len(fsencode(name)) > MAX_NAME_BYTES:
                raise bad_entry(name, "has a longer name than any that is restored")
            if root.names is not None and not _is_chosen(root, printable(name), node):
                continue
            if node.kind is DIR:
                level.add(node)
                self._waiting_bytes += ID_BYTES + 4 + len(node.name)
                if self._waiting_bytes > _MOST_WAITING_BYTES:
                    raise RepositoryBroken("the snapshot has more directories than this agent can list")
            yield name, node

    def _tree(self, tree_id: bytes) -> Iterator[SavedNode]:
        for node in self.reader.tree(tree_id):
            self.check()
            self._nodes += 1
            if self._nodes > self.most_nodes:
                raise RepositoryBroken(
                    f"the snapshot has more than {self.most_nodes} entries, the limit of restore.maxFiles"
                )
            yield node


def _is_chosen(root: Root, name: str, node: SavedNode) -> bool:
    return root.holds(name) or (node.kind is DIR and root.leads_to(name))
