"""The space that a restore needs: holes stay holes, and hard links take nothing."""

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from agent.base.errors import NoSpace
from agent.formats.base import DIR, FILE, Item, SavedTree
from agent.formats.survey import Survey
from agent.restore.files import is_small
from agent.restore.sparse import is_hole
from providers.free_space import Room

_SMALLEST_GAIN_BYTES = 1 << 16
"""What is not at least this much smaller in the archive is not read: its holes are no larger than that."""


@dataclass(frozen=True, slots=True)
class SpaceCheck:
    """A look at an archive and at the disk `target_fd` before the first byte is unpacked."""

    tree: SavedTree
    target_fd: int
    room: Room
    check: Callable[[], None]
    """Called now and then; ends it by raising."""

    def is_tight(self, survey: Survey) -> bool:
        """Return False when all would fit as plain files, and True when only holes and links make it fit.

        An archive that would fit anyway is not read. Raises NoSpace when there is no room for what will be
        written, OSError and ArchiveError.
        """
        try:
            self.room.check(survey.disk_bytes, survey.entries)
        except NoSpace:
            needed_bytes, needed_files = self._needed(self.room.check())
            self.room.check(needed_bytes, needed_files)
            return True
        return False

    def _needed(self, free_bytes: int) -> tuple[int, int]:
        """Return bytes and files; reads no more of the archive than shows that the bytes are there."""
        block_bytes = os.statvfs(self.target_fd).f_frsize
        needed_bytes = needed_files = 0
        for item in self._made():
            needed_bytes += _on_disk(item, block_bytes)
            needed_files += 1
        for item in self._made():
            if needed_bytes <= free_bytes:
                break
            if item.kind is FILE and item.size - item.packed_size >= _SMALLEST_GAIN_BYTES:
                needed_bytes -= self._hole_bytes(item) // block_bytes * block_bytes
        return needed_bytes, needed_files

    def _made(self) -> Iterator[Item]:
        for item in self.tree.items():
            self.check()
            if item.name and not item.on_the_way and item.hard_link_to is None:
                yield item

    def _hole_bytes(self, item: Item) -> int:
        """Return how much of the file is skipped over when it is written."""
        hole_bytes, parts = 0, list[bytes]()

        def look(piece: bytes) -> None:
            nonlocal hole_bytes
            self.check()
            if is_small(item):  # it is written in one piece
                parts.append(piece)
            elif is_hole(piece):
                hole_bytes += len(piece)

        self.tree.read(item, look)
        return item.size if parts and is_hole(b"".join(parts)) else hole_bytes


def _on_disk(item: Item, block_bytes: int) -> int:
    """Return what it takes without holes: whole blocks, and a directory one."""
    blocks = 1 if item.kind is DIR else -(-item.size // block_bytes)
    return blocks * block_bytes
