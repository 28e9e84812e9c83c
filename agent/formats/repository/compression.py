"""Zstandard, where there is a wheel of it; elsewhere content is stored as it is, which every reader takes."""

import sys
from collections.abc import Generator, Iterable, Iterator, Sequence
from functools import cache
from typing import Any

from agent.base.errors import RepositoryBroken
from agent.formats.repository.crypto import Buffer

LEVEL = 2
"""Beside 3, the usual one: real content becomes 1 to 4 % larger, and takes a sixth less time."""
_PIECE_BYTES = 1 << 18
_UNPACKED_ZSTD = b"\x02"
"""The first byte of an index, snapshot or lock whose JSON is compressed."""


@cache
def zstd() -> Any:
    """Return the module; None where there is no wheel of it."""
    try:
        if sys.version_info >= (3, 14):
            from compression import zstd as module
        else:
            from backports import zstd as module
    except ImportError:
        return None
    return module


class Compressor:
    """Compresses contents, each by itself. Used by one thread."""

    def __init__(self) -> None:
        module = zstd()
        self._compressor = module.ZstdCompressor(level=LEVEL) if module else None

    def compressed(self, content: Buffer) -> bytes | None:
        """Return the content compressed; None when that saves nothing, or where there is no zstd."""
        if self._compressor is None:
            return None
        packed: bytes = self._compressor.compress(content, self._compressor.FLUSH_FRAME)
        return packed if len(packed) < len(content) else None


def compressed_pieces(pieces: Iterable[bytes], size_bytes: int) -> Generator[bytes, None, None]:
    """Yield pieces with `size_bytes` together, compressed; as they are where there is no zstd."""
    module = zstd()
    if module is None:
        yield from pieces
        return
    # One of its own: the memory of a compressor grows with the content.
    compressor = module.ZstdCompressor(level=LEVEL)
    compressor.set_pledged_input_size(size_bytes)
    for piece in pieces:
        if packed := compressor.compress(piece):
            yield packed
    yield compressor.flush()


def decompressed(packed: Buffer, size_bytes: int) -> bytes:
    """Return content of a known size. Raises `RepositoryBroken` when it has another one or is damaged."""
    module = _required()
    decompressor = module.ZstdDecompressor()
    try:
        content: bytes = decompressor.decompress(packed, size_bytes + 1)
    except module.ZstdError as error:
        raise _damaged() from error
    if len(content) != size_bytes or not decompressor.eof:
        raise _other_size()
    return content


def decompressed_pieces(packed: Buffer, size_bytes: int) -> Iterator[bytes]:
    """Yield content of a known size in pieces. Raises `RepositoryBroken` as `decompressed`."""
    total = 0
    for piece in _pieces(packed, size_bytes):
        total += len(piece)
        yield piece
    if total != size_bytes:
        raise _other_size()


def unpacked_form(json: Sequence[bytes]) -> Iterator[bytes]:
    """Yield the form in which an index, snapshot or lock is encrypted, from the pieces of its JSON."""
    if zstd():
        yield _UNPACKED_ZSTD
    yield from compressed_pieces(json, sum(map(len, json)))


def json_pieces(form: bytes, most_bytes: int) -> Iterator[bytes]:
    """Return the JSON of an index, snapshot or lock in pieces.

    Raises `RepositoryBroken`; so do the pieces, for more than `most_bytes`.
    """
    if form[:1] in (b"{", b"["):
        return iter((form,))
    if form[:1] != _UNPACKED_ZSTD:
        raise RepositoryBroken("a file of the repository has a form that this agent does not know")
    return _pieces(memoryview(form)[1:], most_bytes)


def _pieces(packed: Buffer, most_bytes: int) -> Iterator[bytes]:
    module = _required()
    decompressor, total, data = module.ZstdDecompressor(), 0, packed
    try:
        while not decompressor.eof:
            piece: bytes = decompressor.decompress(data, _PIECE_BYTES)
            data, total = b"", total + len(piece)
            if total > most_bytes or (not piece and decompressor.needs_input):
                raise _other_size()
            yield piece
    except module.ZstdError as error:
        raise _damaged() from error


def _required() -> Any:
    module = zstd()
    if module is None:
        raise RepositoryBroken(
            "the repository is compressed with zstd, which is missing here: install the extra 'repository'"
        )
    return module


def _damaged() -> RepositoryBroken:
    return RepositoryBroken("a compressed part of the repository is damaged")


def _other_size() -> RepositoryBroken:
    return RepositoryBroken("a compressed part of the repository has another size than it may have")
