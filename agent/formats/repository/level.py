"""Directories whose entries are still coming, and what they hold in memory."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from os import stat_result

from agent.formats.repository.node import Node
from agent.formats.repository.state import Known, Row

MOST_HELD = 1024
"""Nodes of all open directories that are kept in memory; each KiB of ids counts as one more."""


@dataclass(slots=True)
class Level:
    """A directory whose entries are still coming."""

    path: bytes
    stat: stat_result
    xattrs: Mapping[str, bytes]
    kind: int
    """RACY for a directory that was too young when it was opened."""
    number: int
    known: Known | None
    """The directory in the last snapshot."""
    before: int
    """Entries that it had there."""
    old: dict[bytes, Known] | None
    """Those entries that have not come yet; None where they would take too much memory."""
    is_changed: bool = False
    found: int = 0
    """Entries that have come and were there before."""
    count: int = 0
    nodes: list[Node] = field(default_factory=list)
    held: int = 0
    """The nodes, counted as for `MOST_HELD`."""
    rows: list[Row] = field(default_factory=list)
    spilled: bool = False

    def hold(self, node: Node) -> int:
        """Take a node into memory; return how much it counts for `MOST_HELD`."""
        self.nodes.append(node)
        weight = 1 + (len(node.content) >> 10)
        self.held += weight
        return weight

    def let_go(self) -> int:
        """Forget the nodes; return what they counted."""
        self.nodes.clear()
        weight, self.held = self.held, 0
        return weight


@dataclass(slots=True)
class Compared:
    """Counts of files, or of directories, compared with the last snapshot."""

    new: int = 0
    changed: int = 0
    unmodified: int = 0
