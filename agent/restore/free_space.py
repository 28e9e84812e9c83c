"""The space that a restore needs: holes stay holes, and hard links take none."""

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from agent.base.errors import NoSpace
from agent.formats.base import DIR, FILE, Item, SavedTree
from agent.formats.survey import Survey
from agent.restore.files import is_hole, is_small
from providers.free_space import Room

_SMALLEST_GAIN_BYTES = 1 << 16
"""A file that the archive does not make smaller by so much is not read: its holes are smaller than that."""


@dataclass(frozen=True, slots=True)
class SpaceCheck:
    """A check of the space that an archive needs on the disk of `target_fd`, before anything is unpacked."""

    tree: SavedTree
    target_fd: int
    room: Room
    check: Callable[[], None]
    """Called for each item and piece; ends the check by raising."""

    def is_tight(self, survey: Survey) -> bool:
        """Return False when everything fits without holes and links, which saves reading the archive.

        Return True when it fits because of them. Raises NoSpace when it does not, OSError and ArchiveError.
        """
        try:
            self.room.check(survey.disk_bytes, survey.entries)
        except NoSpace:
            needed_bytes, needed_files = self._needed(self.room.check())
            self.room.check(needed_bytes, needed_files)
            return True
        return False

    def _needed(self, free_bytes: int) -> tuple[int, int]:
        """Return bytes and files; read the archive only until the bytes fit."""
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
        """Return how many bytes of the file become holes."""
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
    """Return the size on the disk without holes: whole blocks, and one for a directory."""
    blocks = 1 if item.kind is DIR else -(-item.size // block_bytes)
    return blocks * block_bytes
