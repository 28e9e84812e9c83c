"""Reads a large JSON object piece by piece, within bounds for the memory that one value may take."""

import codecs
import json
from collections.abc import Iterable, Iterator
from typing import Any

from agent.base.errors import RepositoryBroken

_PIECE_BYTES = 1 << 18
_MOST_LETTERS = 32 << 20
"""The longest value: a file of 32 GiB in chunks of 64 KiB."""
_MOST_OPENED = 500_000
"""The most objects and lists in a value, each of which takes some hundred bytes of memory. A pack of many
small blobs has a hundred thousand."""
_SPACE = " \t\r\n"
_decode = json.JSONDecoder().raw_decode


def items_of(pieces: Iterable[bytes], name: str) -> Iterator[Any]:
    """Yield the values in the list that is the member `name` of an object.

    Raises `RepositoryBroken` for anything else, and what `pieces` raises.
    """
    text = _Text(pieces)
    for _ in _items(text, name):
        yield text.value()


def items_in_parts(pieces: Iterable[bytes], name: str, inner: str, most: int) -> Iterator[dict[str, Any]]:
    """Yield as `items_of` values that are objects, each once or in parts.

    A part has at most `most` values of the list that is the member `inner`, and the members before it. A list
    that comes first is in one part.
    """
    text = _Text(pieces)
    for _ in _items(text, name):
        yield from _parts(text, inner, most)


def _items(text: "_Text", name: str) -> Iterator[None]:
    """Yield at each value of the list that is the member `name`; the caller reads it."""
    for member in _members(text):
        if member == name and text.peek() == "[":
            yield from _places(text)
        else:
            text.value()


def _parts(text: "_Text", inner: str, most: int) -> Iterator[dict[str, Any]]:
    found: dict[str, Any] = {}
    for member in _members(text):
        if member != inner or text.peek() != "[":
            found[member] = text.value()
            continue
        can_be_cut, values = bool(found), list[Any]()
        found[member] = values
        for _ in _places(text):
            if can_be_cut and len(values) == most:
                yield found
                values.clear()
            values.append(text.value())
    yield found


def _members(text: "_Text") -> Iterator[Any]:
    """Yield the names in an object; the caller reads the value of each."""
    text.expect("{")
    separator = "," if text.peek() != "}" else text.expect("}")
    while separator == ",":
        member = text.value()
        text.expect(":")
        yield member
        separator = text.expect(",}")


def _places(text: "_Text") -> Iterator[None]:
    """Yield at each value of a list; the caller reads it."""
    text.expect("[")
    separator = "," if text.peek() != "]" else text.expect("]")
    while separator == ",":
        yield
        separator = text.expect(",]")


class _Text:
    """The text in pieces, of which it keeps what was not read yet."""

    def __init__(self, pieces: Iterable[bytes]) -> None:
        self._pieces = (
            piece[at : at + _PIECE_BYTES] for piece in pieces for at in range(0, len(piece), _PIECE_BYTES)
        )
        self._decoder = codecs.getincrementaldecoder("utf-8")()
        self._held, self._at = "", 0

    def peek(self) -> str:
        """Return the next letter that is no space."""
        while True:
            while self._at < len(self._held):
                if (letter := self._held[self._at]) not in _SPACE:
                    return letter
                self._at += 1
            self._grow()

    def expect(self, letters: str) -> str:
        """Read one of these letters, and return it."""
        letter = self.peek()
        if letter not in letters:
            raise _broken()
        self._at += 1
        return letter

    def value(self) -> Any:
        self.peek()
        while True:
            try:
                value, end = _decode(self._held, self._at)
            except RecursionError as error:
                raise _broken() from error
            except ValueError:
                self._grow()  # it may only have been cut
                continue
            if end < len(self._held):
                self._at = end
                return value
            self._grow()  # a number may go on

    def _grow(self) -> None:
        """Hold twice as much: a long value is not looked at again and again. Raises at the end."""
        held = [self._held[self._at :]]
        wanted = size = len(held[0])
        while size <= 2 * wanted:
            piece = next(self._pieces, None)
            if piece is None:
                break
            held.append(self._decoded(piece))
            size += len(held[-1])
        if len(held) == 1:
            raise _broken()
        self._held, self._at = "".join(held), 0
        if wanted and (size > _MOST_LETTERS or self._held.count("[") + self._held.count("{") > _MOST_OPENED):
            raise RepositoryBroken("an entry in a file of the repository is larger than any that is read")

    def _decoded(self, piece: bytes) -> str:
        try:
            return self._decoder.decode(piece)
        except UnicodeDecodeError as error:
            raise _broken() from error


def _broken() -> RepositoryBroken:
    return RepositoryBroken("a file of the repository is not the JSON that it must be")
