"""The space that a restore needs: holes stay holes, and hard links take none."""

from collections.abc import Callable, Iterator

from agent.base.errors import NoSpace
from agent.formats.base import DIR, FILE, Item, SavedTree
from agent.formats.survey import Survey
from agent.restore.files import is_hole, is_small
from providers.free_space import Room

_SMALLEST_GAIN_BYTES = 1 << 16
"""A file that the archive does not make smaller by so much is not read: its holes are smaller than that."""


def is_tight(
    tree: SavedTree, survey: Survey, room: Room, block_bytes: int, check: Callable[[], None]
) -> bool:
    """Return False when everything fits without holes and links, which saves reading the archive.

    Return True when it fits because of them. Raises NoSpace when it does not, OSError, ArchiveError, and what
    `check` raises, which is called for each item and piece.
    """
    try:
        room.check(survey.disk_bytes, survey.entries)
    except NoSpace:
        room.check(*_needed(tree, room.check(), block_bytes, check))
        return True
    return False


def _needed(tree: SavedTree, free_bytes: int, block_bytes: int, check: Callable[[], None]) -> tuple[int, int]:
    """Return bytes and files; read the archive only until the bytes fit."""
    needed_bytes = needed_files = 0
    for item in _made(tree, check):
        needed_bytes += _on_disk(item, block_bytes)
        needed_files += 1
    for item in _made(tree, check):
        if needed_bytes <= free_bytes:
            break
        if item.kind is FILE and item.size - item.packed_size >= _SMALLEST_GAIN_BYTES:
            needed_bytes -= _hole_bytes(tree, item, check) // block_bytes * block_bytes
    return needed_bytes, needed_files


def _made(tree: SavedTree, check: Callable[[], None]) -> Iterator[Item]:
    for item in tree.items():
        check()
        if item.name and not item.on_the_way and item.hard_link_to is None:
            yield item


def _hole_bytes(tree: SavedTree, item: Item, check: Callable[[], None]) -> int:
    """Return how many bytes of the file become holes."""
    hole_bytes, parts = 0, list[bytes]()

    def look(piece: bytes) -> None:
        nonlocal hole_bytes
        check()
        if is_small(item):  # it is written in one piece
            parts.append(piece)
        elif is_hole(piece):
            hole_bytes += len(piece)

    tree.read(item, look)
    return item.size if parts and is_hole(b"".join(parts)) else hole_bytes


def _on_disk(item: Item, block_bytes: int) -> int:
    """Return the size on the disk without holes: whole blocks, and one for a directory."""
    blocks = 1 if item.kind is DIR else -(-item.size // block_bytes)
    return blocks * block_bytes
