"""Archives that somebody hostile makes, by the hundred: each with a name that says what it tries."""

import itertools
import stat
import struct
import zlib
from collections.abc import Iterator

from agent.formats.zip.metadata import own_extra
from tests.support.archives import Crafted, crafted, deflated

DOS, UNIX, NTFS, DARWIN = 0, 3, 10, 19
SYSTEMS = (DOS, UNIX, NTFS, DARWIN)
DIRECTORY, LINK, REGULAR = stat.S_IFDIR | 0o755, stat.S_IFLNK | 0o777, stat.S_IFREG | 0o644

NAMES = (
    # Out of the directory.
    *(b"..", b"../x", b"../../x", b"a/../../x", b"./../x", b"a/..", b"a/../", b"a/b/../../../x"),
    *(
        b"/x",
        b"//x",
        b"/",
        b"///etc/passwd",
        b"/../x",
        b"..\\x",
        b"a\\..\\..\\x",
        b"\\x",
        b"\\\\host\\share\\x",
    ),
    *(
        b"C:\\x",
        b"C:/x",
        b"C:x",
        b"c:..\\x",
        b"\\\\?\\C:\\x",
        b"../",
        b"..\\",
        b".../x",
        b"....//x",
        b"..;/x",
    ),
    *(b"%2e%2e/x", b"..%2fx", b"..%00/x", b"~", b"~root/x", b"$HOME/x", b"`id`", b"-rf", b"--"),
    # Overlong and other false UTF-8, and what looks like dots and slashes.
    *(
        b"\xc0\xae\xc0\xae/x",
        b"..\xc0\xafx",
        b"\xe0\x80\xae\xe0\x80\xae/x",
        b"\xff\xfe",
        b"\x80",
        b"a\xed\xa0\x80",
    ),
    *("．．/x".encode(), "․․/x".encode(), "..∕x".encode(), "..／x".encode(), "\u202e../x".encode()),
    *("\ufeff../x".encode(), "..\u200b/x".encode(), "a\u2028b".encode()),
    # Nothing, dots, slashes, NUL, control characters.
    *(b"", b".", b"./", b"././.", b"a/", b"a//", b"a//b", b"a/./b", b"a/.", b"\\", b"a\\", b"a/\\", b"a\\/"),
    *(
        b"\0",
        b"a\0",
        b"a\0b",
        b"a/\0/b",
        b"../x\0.txt",
        b"\n",
        b"a\nb",
        b"\x1b[2J",
        b"\x7f",
        b" ",
        b"a ",
        b"a.",
    ),
    # Long and deep.
    *(b"x" * 255, b"x" * 256, b"x" * 65_535, b"a/" * 300 + b"x", b"./" * 30_000 + b"x"),
    *(b"/" * 60_000 + b"x", ("ä" * 128).encode(), b"x" * 255 + b"/" + b"y" * 255),
    # Ours, and those of other systems.
    *(
        b".edge-backup-job-1/plan",
        b".edge-backup-job-1/new/x",
        b"./.edge-backup-job-1/x",
        b".edge-backup-job-1/",
    ),
    *(b".edge-backup-job-1", b"a/../.edge-backup-job-1/x", b".EDGE-BACKUP-JOB-1/plan", b".edge-backup-/x"),
    *(b"CON", b"nul.txt", b"a:b", b"a::$DATA", b"LPT1/x", b"lost+found/x", b".git/config", b"a|b", b"*?"),
)

PAIRS = (
    # What some file systems take for the same name.
    *((b"a", b"A"), ("é".encode(), "e\u0301".encode()), (b"k", "\u212a".encode()), (b"s", "ſ".encode())),
    *(("ß".encode(), b"SS"), ("ﬁ".encode(), b"fi"), (b"a", b"a."), (b"a", b"a "), (b"a", b"a::$DATA")),
    *(
        (b"i", "İ".encode()),
        (b"a", b"a\xef\xbb\xbf"),
        (b"a", b"./a"),
        (b"a", b"a//"),
        (b"a\\b", b"a/b"),
    ),
    # A file where a directory is wanted, and the reverse.
    *((b"a", b"a"), (b"a", b"a/b"), (b"a/b", b"a"), (b"a/", b"a"), (b"a", b"a/"), (b"a/b/c", b"a/b")),
)

KINDS = (
    *(kind << 12 | bits for kind in range(16) for bits in (0o644, 0o4755, 0o2755, 0o1777, 0o7777, 0)),
    0xFFFF,
)

LINK_TARGETS = (
    *(b"/", b"..", b"../outside", b"/etc", b".", b"link", b"a", b"./link", b"x" * 4095, b"x" * 4096),
    *(
        b"\0",
        b"a\0b",
        b"\xff",
        b"",
        b"/proc/self/root",
        b"/proc/self/cwd/..",
        b".edge-backup-job-1/new",
        b"~",
    ),
)

EXTRAS = (
    *(struct.pack("<HH", field_id, len(value) + lie & 0xFFFF) + value
    for field_id in (0x0001, 0x5455, 0x7875, 0x4245, 0x7855, 0x7075, 0x6375, 0x9901, 0x0017, 0xFFFF)
    for value in (b"", b"\1", b"\xff" * 4, b"\xff" * 24, bytes(24), b"Edge\1\x0c\0" + b"\xff" * 12, b"\1../x")
    for lie in (0, 1, 0xFFFF)),
    b"Edge", b"\1\0", b"\x45\x42\xff\xffEdge",
    own_extra(((1 << 63) - 1) * 10**9 + 1, None, {}),
    own_extra(-(1 << 63) * 10**9 + 1, None, {}),
    b"EB\x13\0Edge\1\x0c\0" + struct.pack("<qL", (1 << 63) - 1, 0xFFFF_FFFF),
    *(own_extra(1, None, {name: b"\1" * 20}) for name in (
        "security.capability", "security.selinux", "trusted.overlay.opaque", "user.x", "user.", "", "x" * 300,
        "system.posix_acl_access", "system.posix_acl_default", "security.ima", "os2.x", "user." + "y" * 250,
    )),
    own_extra(1, None, {"user.large": bytes(60_000)}),
    *(own_extra(1, name, {}) for name in (
        b"../outside/secret", b"/etc/passwd", b"", b"first", b"link", b"self", b".", b"a\0b", b"link/x",
    )),
    *(b"ux\x0b\0\x01\x04" + struct.pack("<L", uid) + b"\x04" + struct.pack("<L", gid)
      for uid, gid in itertools.product((0, 1, 0xFFFF, 0x7FFF_FFFF, 0xFFFF_FFFE, 0xFFFF_FFFF), repeat=2)),
)  # fmt: skip

_END = struct.Struct("<4s4H2LH")
_FIRST_CENTRAL = {
    "made by": (4, 2), "needed": (6, 2), "flags": (8, 2), "method": (10, 2), "time": (12, 4), "crc": (16, 4),
    "compressed": (20, 4), "size": (24, 4), "name": (28, 2), "extra": (30, 2), "comment": (32, 2),
    "disk": (34, 2), "internal": (36, 2), "external": (38, 4), "offset": (42, 4),
}  # fmt: skip
_LOCAL = {
    "needed": (4, 2), "flags": (6, 2), "method": (8, 2), "crc": (14, 4), "compressed": (18, 4),
    "size": (22, 4), "name": (26, 2), "extra": (28, 2),
}  # fmt: skip
_END_FIELDS = {
    "disk": (4, 2), "first disk": (6, 2), "here": (8, 2), "entries": (10, 2), "size": (12, 4),
    "offset": (16, 4), "comment": (20, 2),
}  # fmt: skip
_LIES = (0, 1, 2, 7, 0x7FFF, 0xFFFE, 0xFFFF, 0x7FFF_FFFF, 0xFFFF_FFFE, 0xFFFF_FFFF)


def corpus() -> Iterator[tuple[str, bytes]]:
    """An attack, and the archive that tries it."""
    yield from _names()
    yield from _kinds_and_links()
    yield from _extras()
    yield from _lies()
    yield from _shapes()
    yield from _zip64()
    yield from _bombs()


def _names() -> Iterator[tuple[str, bytes]]:
    for system, name in itertools.product(SYSTEMS, NAMES):
        mode = REGULAR if system in (UNIX, DARWIN) else 0
        for form in (mode, DIRECTORY, LINK):
            content = b"" if form == DIRECTORY else b"../outside"
            entry = Crafted(name, content, made_by=system, mode=form)
            yield f"name {name[:40]!r} system {system} mode {form:o}", crafted(Crafted(b"before"), entry)
    for first, second in PAIRS:
        for modes in itertools.product((REGULAR, DIRECTORY, LINK), repeat=2):
            pair = [
                Crafted(name, b"" if mode == DIRECTORY else b"a", mode=mode)
                for name, mode in zip((first, second), modes, strict=True)
            ]
            yield f"pair {first!r} {second!r} {modes[0]:o} {modes[1]:o}", crafted(*pair)


def _kinds_and_links() -> Iterator[tuple[str, bytes]]:
    for system, mode in itertools.product(SYSTEMS, KINDS):
        for name, content in ((b"thing", b""), (b"thing", b"to"), (b"thing/", b"")):
            yield f"kind {mode:o} system {system} {name!r}", crafted(Crafted(name, content, system, mode))
    for target in LINK_TARGETS:
        link = Crafted(b"link", target, mode=LINK)
        for below in (b"link/x", b"./link/x", b"link/../x", b"link/outside/x", b"link//x", b"LINK/x"):
            yield f"through a link to {target[:30]!r}: {below!r}", crafted(link, Crafted(below))
        yield f"link to {target[:30]!r} twice", crafted(link, link)
        yield f"link to {target[:30]!r}, then a file", crafted(link, Crafted(b"link"))
        yield f"a file, then a link to {target[:30]!r}", crafted(Crafted(b"link"), link)
        hard = Crafted(b"hard", extra=own_extra(1, b"link", {}))
        yield f"hard link to a link to {target[:30]!r}", crafted(link, hard)
        yield (
            f"hard link through a link to {target[:30]!r}",
            crafted(link, Crafted(b"hard", extra=own_extra(1, b"link/secret", {}))),
        )


def _extras() -> Iterator[tuple[str, bytes]]:
    for number, extra in enumerate(EXTRAS):
        for name, mode in ((b"self", stat.S_IFREG | 0o6755), (b"d/", DIRECTORY | 0o7000), (b"l", LINK)):
            content = b"" if mode & stat.S_IFMT(mode) == stat.S_IFDIR else b"to"
            entry = Crafted(name, content, mode=mode, extra=extra)
            yield f"extra field {number}: {extra[:12].hex()} {mode:o}", crafted(Crafted(b"first"), entry)


def _lies() -> Iterator[tuple[str, bytes]]:
    """Every field of every record says something else, one at a time."""
    content = b"text " * 100
    data = crafted(Crafted(b"one", content, method=8, data=deflated(content)), Crafted(b"two"))
    places = (
        (data.index(b"PK\1\2"), _FIRST_CENTRAL, "central"),
        (data.rindex(b"PK\1\2"), _FIRST_CENTRAL, "last central"),
        (data.index(b"PK\3\4"), _LOCAL, "local"),
        (data.rindex(b"PK\5\6"), _END_FIELDS, "end"),
    )
    for begin, fields, record in places:
        for (field, (offset, size)), value in itertools.product(fields.items(), _LIES):
            lying = bytearray(data)
            lying[begin + offset : begin + offset + size] = (value & (1 << 8 * size) - 1).to_bytes(
                size, "little"
            )
            yield f"{record} {field} = {value:#x}", bytes(lying)
    for bit in range(16):
        yield f"flag {bit}", crafted(Crafted(b"a", flags=1 << bit))
    for method in range(100):
        yield f"method {method}", crafted(Crafted(b"a", method=method, data=deflated(b"content")))


def _shapes() -> Iterator[tuple[str, bytes]]:
    """Cut, continued, overlapping, in another order."""
    data = crafted(
        Crafted(b"one", b"x" * 50), Crafted(b"two", b"y" * 50), Crafted(b"d/", b"", mode=DIRECTORY)
    )
    yield from ((f"cut to {length}", data[:length]) for length in range(len(data)))
    yield from ((f"without its first {length}", data[length:]) for length in range(1, 120))
    for size in (1, 22, 1000, 70_000):
        yield f"{size} bytes before", bytes(size) + data
        yield f"{size} bytes after", data + bytes(size)
    yield "an archive before", data + data
    yield "an end record in the comment", crafted(Crafted(b"a"), comment=b"PK\5\6" * 5_000)
    yield "an archive in the comment", crafted(Crafted(b"a"), comment=crafted(Crafted(b"../b")))
    yield "overlapping", crafted(Crafted(b"one"), Crafted(b"two", offset=0, local_name=b"one"))
    yield "quoting", crafted(Crafted(b"a", crafted(Crafted(b"b"))), Crafted(b"b", offset=31))
    yield (
        "nested in itself",
        crafted(Crafted(b"a.zip", data, data=data), Crafted(b"b", offset=31, local_name=b"one")),
    )
    yield "same entry often", crafted(*(Crafted(b"f%d" % n, offset=0, local_name=b"f0") for n in range(100)))
    yield "central directory as data", crafted(Crafted(b"a", offset=len(crafted(Crafted(b"a"))) - 100))
    yield "local name differs", crafted(Crafted(b"harmless", local_name=b"../../x"))
    yield "local name above, central below", crafted(Crafted(b"../../x", local_name=b"harmless"))
    yield "no entries", crafted()
    yield "nothing", b""
    yield "only an end", _END.pack(b"PK\5\6", 0, 0, 65_535, 65_535, 0xFFFF_FFFF, 0xFFFF_FFFF, 0)


def _zip64() -> Iterator[tuple[str, bytes]]:
    """32-bit values that say "look there", and what is there lies."""
    values = (0, 1, 7, 1 << 31, (1 << 32) - 1, 1 << 32, (1 << 63) - 1, 1 << 63, (1 << 64) - 1)
    for open_size, value in itertools.product((None, 0xFFFF_FFFF), values):
        field = struct.pack("<HH3Q", 1, 24, value, value, value)
        entry = Crafted(b"a", extra=field, size_bytes=open_size)
        yield f"zip64 field {value:#x}, size {open_size}", crafted(entry)
        yield f"zip64 field {value:#x}, offset", crafted(Crafted(b"a", extra=field, offset=0xFFFF_FFFF))
    data = crafted(Crafted(b"a"))
    end, directory = data.rindex(b"PK\5\6"), data.index(b"PK\1\2")
    for entries, size, offset, where in itertools.product(
        (1, 1 << 63), (end - directory, 1 << 63), values, values
    ):
        end64 = struct.pack("<4sQ2H2L4Q", b"PK\6\6", 44, 45, 45, 0, 0, entries, entries, size, offset)
        locator = struct.pack("<4sLQL", b"PK\6\7", 0, end if where == 1 else where, 1)
        last = _END.pack(b"PK\5\6", 0, 0, 65_535, 65_535, 0xFFFF_FFFF, 0xFFFF_FFFF, 0)
        tried = f"zip64 end: {entries:#x} entries, {size:#x} bytes at {offset:#x}, record at {where:#x}"
        yield tried, data[:end] + end64 + locator + last


def _bombs() -> Iterator[tuple[str, bytes]]:
    """Small ones of each kind; what they do to memory and disk is looked at in a process of its own."""
    zeros = deflated(bytes(10 << 20))
    yield "announces less than it has", crafted(Crafted(b"a", method=8, data=zeros, size_bytes=1000))
    yield "announces more than it has", crafted(Crafted(b"a", method=8, data=zeros, size_bytes=9_000_000))
    yield "announces what Deflate cannot", crafted(Crafted(b"a", method=8, data=zeros, size_bytes=1 << 30))
    yield (
        "announces more than the device has",
        crafted(
            *(Crafted(b"f%d" % n, method=8, data=zeros, size_bytes=10 << 20) for n in range(3)),
            Crafted(b"a", size_bytes=0xFFFF_FFFF, extra=struct.pack("<HHQ", 1, 8, 1 << 62)),
        ),
    )
    yield "directories without an end", crafted(Crafted(b"a/" * 32_000 + b"x"))
    yield "long comment", crafted(Crafted(b"a"), comment=b"c" * 65_535)
    yield "empty blocks without end", crafted(Crafted(b"a", method=8, data=b"\0\0\0\xff\xff" * 100_000))
    yield "two streams", crafted(Crafted(b"a", method=8, data=deflated(b"cont") + deflated(b"ent")))
    endless = zlib.compressobj(wbits=-15)
    data = endless.compress(b"content") + endless.flush(zlib.Z_SYNC_FLUSH)
    yield "a stream that never says that it ends", crafted(Crafted(b"a", method=8, data=data))
    yield (
        "an archive of archives",
        crafted(*(Crafted(b"%d.zip" % n, crafted(Crafted(b"a", data))) for n in range(9))),
    )
