"""Indexes: in which pack a blob lies.

Source: restic's `doc/design.rst`, "Indexing".
"""

from collections.abc import Iterable, Iterator

from agent.formats.repository.packs import Blob

_FULL_BYTES = 3 << 20
"""An index gets no further pack from this size on: memory has it several times. No pack adds 2 MiB."""


def encoded_indexes(packs: Iterable[tuple[str, Iterable[Blob]]]) -> Iterator[tuple[list[str], bytes]]:
    """Yield the JSON of as many indexes as the packs need, each with the names of its packs."""
    names: list[str] = []
    parts: list[bytes] = []
    size_bytes = 0
    for name, blobs in packs:
        part = b'{"id":"%b","blobs":[%b]}' % (name.encode(), b",".join(map(_blob, blobs)))
        names.append(name)
        parts.append(part)
        size_bytes += len(part)
        if size_bytes >= _FULL_BYTES:
            yield names, _index(parts)
            names, parts, size_bytes = [], [], 0
    if parts:
        yield names, _index(parts)


def _index(parts: list[bytes]) -> bytes:
    return b'{"packs":[%b]}' % b",".join(parts)


def _blob(blob: Blob) -> bytes:
    kind = b"tree" if blob.is_tree else b"data"
    plain = b',"uncompressed_length":%d' % blob.plain_bytes if blob.plain_bytes else b""
    return b'{"id":"%b","type":"%b","offset":%d,"length":%d%b}' % (
        blob.id.hex().encode(), kind, blob.offset, blob.length, plain,
    )  # fmt: skip
