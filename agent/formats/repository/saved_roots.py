"""Finds in the tree of a snapshot what the snapshot is of.

This agent saves absolute paths, and tags say what they are. Other programs keep the paths in `paths`, and the
tree may begin elsewhere: `restic backup data` in `/srv` lists `/srv/data` and has a tree with `data` at its
top, `restic backup .` has the content of the directory there, and versions before 0.9 have the last names of
all paths there. A path may also be that of a file.
"""

from collections.abc import Sequence
from os import fsdecode
from typing import NamedTuple

from agent.base.text import printable
from agent.formats.entries import DIR
from agent.formats.manifest import ManifestRoot
from agent.formats.repository.document import Snapshot, directory_missing, has_roots, roots_of
from agent.formats.repository.saved_node import SavedNode
from agent.formats.repository.tree_walk import TreeWalk


class SavedRoot(NamedTuple):
    """A root of a snapshot, with the directory of the tree that has what was saved of it."""

    root: ManifestRoot
    top: SavedNode | None
    """The node of the directory; None for the tree of the snapshot itself."""
    tree: bytes


def saved_roots(snapshot: Snapshot, walk: TreeWalk) -> Sequence[SavedRoot]:
    """Return the roots; nothing for files that a command collected. Raises as `TreeWalk.directory`."""
    roots = roots_of(snapshot)
    if has_roots(snapshot):
        return [SavedRoot(root, *walk.directory(snapshot.tree, root.path)) for root in roots]
    return [_found(snapshot.tree, root, walk) for root in roots]


def sole_root(snapshot: Snapshot, walk: TreeWalk) -> SavedRoot | None:
    """Return the root of a snapshot of one directory, or of names in one. Raises as `saved_roots`."""
    roots = roots_of(snapshot)
    return saved_roots(snapshot, walk)[0] if len(roots) == 1 and not roots[0].prefix else None


def _found(tree: bytes, root: ManifestRoot, walk: TreeWalk) -> SavedRoot:
    """Return the place of a root: the longest end of its path that leads through the tree past nothing else.

    A restore may not lose what is beside that.
    """
    parts = [*filter(None, root.path.split("/"))]
    for begin in range(len(parts)):
        if found := _along(tree, root, parts[begin:], walk):
            return _with_all_names(found, walk)
    first = walk.sole_node(tree)
    if parts and (not walk.names(tree) or (first and _name(first) == parts[0])):
        raise directory_missing(root.path)  # `restic rewrite` may have removed it
    return _with_all_names(SavedRoot(root, None, tree), walk)


def _along(tree: bytes, root: ManifestRoot, parts: Sequence[str], walk: TreeWalk) -> SavedRoot | None:
    """Go down directories that have one entry each, with these names; return None where that is not so."""
    top: SavedNode | None = None
    for number, part in enumerate(parts, 1):
        node = walk.sole_node(tree)
        if node is None or _name(node) != part:
            return None
        if node.kind is not DIR:
            is_saved = number == len(parts) and root.names is None
            return SavedRoot(_of_file(root.path), top, tree) if is_saved else None
        top, tree = node, node.content
    return SavedRoot(root, top, tree)


def _of_file(path: str) -> ManifestRoot:
    """Return the root of a single file: a name in the directory around it."""
    directory, _, name = path.rpartition("/")
    return ManifestRoot(path=directory or "/", names=[name])


def _with_all_names(found: SavedRoot, walk: TreeWalk) -> SavedRoot:
    """Take all names in the directory where one is not among those of the root."""
    root = found.root
    if root.names is None:
        return found
    names = walk.names(found.tree)
    if names <= {name.partition("/")[0] for name in root.names}:
        return found
    return found._replace(root=root.model_copy(update={"names": sorted(names)}))


def _name(node: SavedNode) -> str:
    return printable(fsdecode(node.name))
