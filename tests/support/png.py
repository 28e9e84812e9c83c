"""Makes the pictures of the documents small: a screenshot of a plain page needs a palette only."""

import struct
import zlib
from collections import Counter
from collections.abc import Iterator

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_PALETTE_SIZE = 256

Colour = tuple[int, int, int]


def with_palette(png: bytes) -> bytes:
    """Return the picture with at most 256 colours. It has 8 bits of each colour, and no interlacing."""
    chunks = list(_chunks(png))
    width, height, depth, kind = struct.unpack(">IIBB", chunks[0][1][:10])
    assert (depth, kind) == (8, 2), "Chromium's screenshots have no alpha channel"
    data = zlib.decompress(b"".join(content for name, content in chunks if name == b"IDAT"))
    rows = list(_unfiltered(data, height, width * 3))
    pixels = [list(zip(row[0::3], row[1::3], row[2::3], strict=True)) for row in rows]
    palette, index_of = _reduced(Counter(pixel for row in pixels for pixel in row))
    packed = b"".join(b"\0" + bytes(index_of[pixel] for pixel in row) for row in pixels)
    return _SIGNATURE + b"".join(
        (
            _chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 3, 0, 0, 0)),
            _chunk(b"PLTE", bytes(value for colour in palette for value in colour)),
            _chunk(b"IDAT", zlib.compress(packed, 9)),
            _chunk(b"IEND", b""),
        )
    )


def _chunks(png: bytes) -> Iterator[tuple[bytes, bytes]]:
    position = len(_SIGNATURE)
    while position < len(png):
        length, name = struct.unpack_from(">I4s", png, position)
        yield name, png[position + 8 : position + 8 + length]
        position += length + 12


def _chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def _unfiltered(data: bytes, height: int, width: int) -> Iterator[bytes]:
    """Yield the rows of three bytes a pixel as they were before filtering (PNG, 9.2)."""
    above = bytes(width)
    for start in range(0, height * (width + 1), width + 1):
        row = bytearray(data[start + 1 : start + 1 + width])
        for n in range(width):
            left, corner = (row[n - 3], above[n - 3]) if n >= 3 else (0, 0)
            row[n] = (row[n] + _predicted(data[start], left, above[n], corner)) & 0xFF
        above = bytes(row)
        yield above


def _predicted(kind: int, left: int, above: int, corner: int) -> int:
    if kind < 4:
        return (0, left, above, (left + above) // 2)[kind]
    distances = [(abs(above - corner), 0), (abs(left - corner), 1), (abs(left + above - 2 * corner), 2)]
    return (left, above, corner)[min(distances)[1]]


def _reduced(counts: "Counter[Colour]") -> tuple[list[Colour], dict[Colour, int]]:
    """Return the most frequent colours, and for each colour the number of the nearest of those."""
    palette = [colour for colour, _ in counts.most_common(_PALETTE_SIZE)]
    return palette, {colour: _nearest(palette, colour) for colour in counts}


def _nearest(palette: list[Colour], colour: Colour) -> int:
    def distance(number: int) -> int:
        return sum((one - other) ** 2 for one, other in zip(palette[number], colour, strict=True))

    return min(range(len(palette)), key=distance)
