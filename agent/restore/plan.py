"""The plan of a commit: one step a line, a JSON list, read in both directions.

It is complete and on the disk before the target changes. After a crash its presence means that the target has
to go back to old. JSON in ASCII keeps any file name: control characters are escaped, and bytes that are no
UTF-8 are lone surrogates (os.fsdecode).
"""

import json
import os
from collections.abc import Iterable, Iterator
from enum import StrEnum
from typing import IO, NamedTuple

from agent.restore.metadata import Meta

_BLOCK_BYTES = 1 << 16
_encode = json.JSONEncoder(separators=(",", ":")).encode
_decode = json.JSONDecoder().decode  # json.loads guesses an encoding first


class Act(StrEnum):
    """The act of a step on its path in the target."""

    ADD = "add"
    """Nothing is there: the new file or whole directory moves in."""
    REPLACE = "replace"
    """The new file is renamed over the old one, which undo/<number> keeps as a hard link made before."""
    SWAP = "swap"
    """The old one moves to undo/<number>, then the new one moves in: a directory is involved, or the
    file system has no hard links."""
    REMOVE = "remove"
    """The old one moves to undo/<number>."""
    CLEAR = "clear"
    """A directory is removed that a KEEP step opened and REMOVE steps emptied; the KEEP step restores it."""
    KEEP = "keep"
    """A directory of both sides: its entries have steps of their own, its metadata changes at the end."""


class Step(NamedTuple):
    number: int
    """Unique in the plan; the name in undo/."""
    act: Act
    path: str
    """Relative to the target; "" is the target itself."""
    old: Meta | None = None
    """Metadata before, of a directory: for KEEP, SWAP, REMOVE, and ADD in place of a cleared one."""
    new: Meta | None = None
    """Metadata after, for KEEP."""


def to_line(step: Step) -> bytes:
    number, act, path, *metas = step
    return _encode([number, act, path, *(meta and meta.to_value() for meta in metas)]).encode("ascii") + b"\n"


def from_line(line: bytes) -> Step:
    """Parse a line that `to_line` wrote. Raises ValueError for any other."""
    try:
        number, act, path, old, new = _decode(line.decode("ascii"))
        return Step(number, Act(act), path, old and Meta.from_value(old), new and Meta.from_value(new))
    except (TypeError, ValueError, AttributeError) as error:
        raise ValueError(f"not a step of a restore plan: {line[:80]!r}") from error


def forwards(file: IO[bytes], act: Act | None = None) -> Iterator[Step]:
    """Yield the steps (with `act` only those) in the order of the commit, in constant memory."""
    file.seek(0)
    return map(from_line, _only(file, act))


def backwards(file: IO[bytes], act: Act | None = None) -> Iterator[Step]:
    """Yield the steps (with `act` only those) from the last to the first, in constant memory."""
    return map(from_line, _only(lines_backwards(file), act))


def _only(lines: Iterable[bytes], act: Act | None) -> Iterable[bytes]:
    """Return the lines of steps with `act`: most are not worth decoding."""
    if act is None:
        return lines
    wanted = b'"%b"' % act.encode()
    return (line for line in lines if line.split(b",", 2)[1:2] == [wanted])


def lines_backwards(file: IO[bytes]) -> Iterator[bytes]:
    """Yield the lines of a file from the last to the first, without newlines."""
    position = file.seek(0, os.SEEK_END)
    rest = b""
    while position > 0:
        size = min(_BLOCK_BYTES, position)
        position -= size
        file.seek(position)
        first, *lines = (file.read(size) + rest).split(b"\n")
        yield from reversed([line for line in lines if line])
        rest = first
    if rest:
        yield rest
