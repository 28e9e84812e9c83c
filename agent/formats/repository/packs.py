"""Packs, the objects that hold blobs, and indexes, which say in which pack a blob lies.

Source: restic's `doc/design.rst`, "Pack Format" and "Indexing". A pack has the encrypted blobs, the encrypted
header and the length of the header. It holds either data or trees.
"""

import hashlib
import struct
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from agent.base.errors import RepositoryBroken
from agent.formats.repository.crypto import Buffer, Cryptor

ID_BYTES = 32
Ids = bytes | bytearray
"""The ids of the chunks of a file, one after the other. Those of 16 GiB have 8 MiB: they are not copied."""
DATA, TREE = 0, 1
_COMPRESSED = 2
"""Added to the type of a compressed blob."""
_PLAIN_ENTRY = struct.Struct("<BI32s")
_COMPRESSED_ENTRY = struct.Struct("<BII32s")
_LENGTH = struct.Struct("<I")
_MOST_BLOBS = 10_000
"""The index of a pack is below 2 MiB, and its header far below the 16 MiB that readers take."""
_FULL_BYTES = 3 << 20
"""An index gets no further pack from this size on: memory has all of it. No pack adds 2 MiB."""
_HEAD, _END = b'{"packs":[', b"]}"


class Blob(NamedTuple):
    id: bytes
    """SHA-256 of its plain content."""
    is_tree: bool
    offset: int
    length: int
    """Bytes in the pack, encrypted."""
    plain_bytes: int
    """Bytes of the plain content; 0 for one that is not compressed."""

    @property
    def key(self) -> bytes:
        """Return the key of the blob among all blobs."""
        return tree_key(self.id) if self.is_tree else self.id


def tree_key(tree_id: bytes) -> bytes:
    """Return the key of a tree among the blobs: trees and data may have equal ids."""
    return b"t" + tree_id


def id_in(text: str) -> bytes:
    """Return the id in 64 hexadecimal digits. Raises ValueError and TypeError."""
    found = bytes.fromhex(text)
    if len(found) != ID_BYTES:
        raise ValueError(text)
    return found


def ids_of(content: bytes) -> Iterator[bytes]:
    """Yield the ids in a content, which are one after the other."""
    return (content[at : at + ID_BYTES] for at in range(0, len(content), ID_BYTES))


class Pack:
    """A pack that is being filled. Used by one thread."""

    def __init__(self, *, trees: bool) -> None:
        self.content = bytearray()
        self.header = bytearray()
        """The entries of the header, plain."""
        self.blobs = 0
        self._trees = trees

    def add(self, blob_id: bytes, encrypted: Buffer, plain_bytes: int) -> None:
        """Append an encrypted blob; `plain_bytes` as in `Blob`."""
        self.content += encrypted
        self._note(blob_id, len(encrypted), plain_bytes)

    def add_pieces(
        self, blob_id: bytes, pieces: Iterable[Buffer], plain_bytes: int, cryptor: Cryptor
    ) -> None:
        """Encrypt and append a blob that is too large to be in memory more than once."""
        begin = len(self.content)
        cryptor.encrypt_to(self.content, pieces)
        self._note(blob_id, len(self.content) - begin, plain_bytes)

    def clear(self) -> None:
        """Begin the next pack, in this memory."""
        self.content.clear()
        self.header.clear()
        self.blobs = 0

    @property
    def is_full(self) -> bool:
        return self.blobs >= _MOST_BLOBS

    def finish(self, cryptor: Cryptor) -> str:
        """Append the header; return the name of the pack."""
        header = cryptor.encrypt(self.header)
        self.content += header
        self.content += _LENGTH.pack(len(header))
        return hashlib.sha256(self.content).hexdigest()

    def _note(self, blob_id: bytes, length: int, plain_bytes: int) -> None:
        self.blobs += 1
        self.header += header_entry(blob_id, length, plain_bytes, is_tree=self._trees)


def header_entry(blob_id: bytes, length: int, plain_bytes: int, *, is_tree: bool) -> bytes:
    """Return the entry of a blob in the header of its pack; the arguments are as in `Blob`."""
    kind = TREE if is_tree else DATA
    if plain_bytes:
        return _COMPRESSED_ENTRY.pack(kind + _COMPRESSED, length, plain_bytes, blob_id)
    return _PLAIN_ENTRY.pack(kind, length, blob_id)


def blobs_in(header: bytes) -> Iterator[Blob]:
    """Yield the blobs that a decrypted header names. Raises `RepositoryBroken`."""
    offset = position = 0
    while position < len(header):
        kind = header[position]
        entry = _COMPRESSED_ENTRY if kind & _COMPRESSED else _PLAIN_ENTRY
        if kind > TREE + _COMPRESSED or position + entry.size > len(header):
            raise RepositoryBroken("the header of a pack is damaged")
        _, length, *plain, blob_id = entry.unpack_from(header, position)
        yield Blob(blob_id, bool(kind & TREE), offset, length, plain[0] if plain else 0)
        offset, position = offset + length, position + entry.size


def encoded_indexes(packs: Iterable[tuple[str, Iterable[Blob]]]) -> Iterator[tuple[list[str], list[bytes]]]:
    """Yield as many indexes as the packs need: the names of its packs, and its JSON in pieces.

    The pieces are valid until the next index.
    """
    names: list[str] = []
    parts: list[bytes] = []
    size_bytes = 0
    for name, blobs in packs:
        part = b'{"id":"%b","blobs":[%b]}' % (name.encode(), b",".join(map(_blob_json, blobs)))
        names.append(name)
        parts += (b"," if parts else _HEAD, part)
        size_bytes += len(part)
        if size_bytes >= _FULL_BYTES:
            parts.append(_END)
            yield names, parts
            parts.clear()
            names, size_bytes = [], 0
    if parts:
        yield names, [*parts, _END]


def _blob_json(blob: Blob) -> bytes:
    kind = b"tree" if blob.is_tree else b"data"
    plain = b',"uncompressed_length":%d' % blob.plain_bytes if blob.plain_bytes else b""
    return b'{"id":"%b","type":"%b","offset":%d,"length":%d%b}' % (
        blob.id.hex().encode(), kind, blob.offset, blob.length, plain,
    )  # fmt: skip
