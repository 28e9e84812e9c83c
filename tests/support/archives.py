"""Trees to archive, the archive of a tree, what is in it, and archives that no honest tool would make."""

import io
import os
import stat
import zlib
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from agent.base.roots import Root
from agent.formats.entries import Entry, EntryKind, Item
from agent.formats.entry_checks import ArchiveLimits, take_survey
from agent.formats.walk_report import Report
from agent.formats.zip import records
from agent.formats.zip.format import Zip
from agent.formats.zip.reader import ArchiveReader
from agent.formats.zip.records import Member
from agent.formats.zip.writer import ArchiveOptions, write_archive
from agent.save.pipeline import saved_entries
from agent.save.walk import WalkRoot, walk

LEVELS = ("store", "fast", "balanced", "small", "auto")
"""Of `archive.level`."""
WIDE = ArchiveLimits(max_files=10**6, max_bytes=10**12, max_ratio=2000)


def go_on() -> None:
    """A check that never stops anything."""


def found_in(root: Path, own: Iterable[Path] = ()) -> tuple[dict[str, Entry], Report]:
    """Return the entries of a walk by name; descriptors are closed by then."""
    report = Report()
    return {entry.name: entry for entry in walk(WalkRoot(Root("", root)), report, own, go_on)}, report


def archive_of(root: Path, options: ArchiveOptions | None = None) -> tuple[bytes, Report]:
    """The archive of a directory."""
    report, options = Report(), options or ArchiveOptions()
    entries = saved_entries(WalkRoot(Root("", root)), Zip(options), report, (), go_on)
    return b"".join(written(entries, report, options)), report


def written(
    entries: Iterable[Entry],
    report: Report,
    options: ArchiveOptions | None = None,
    check: Callable[[], None] = go_on,
) -> Generator[bytes, None, None]:
    return write_archive(entries, report, options or ArchiveOptions(), check)


@dataclass(frozen=True)
class Thing:
    """The facts that a backup has to keep of a file, a directory or a link."""

    kind: EntryKind
    mode: int | None
    mtime_ns: int | None
    content: bytes = b""
    xattrs: dict[str, bytes] = field(default_factory=dict)


def things_in(root: Path) -> dict[str, Thing]:
    """Return the tree on the disk below `root`."""
    things = {}
    for directory, subdirectories, files in os.walk(root):
        for name in subdirectories + files:
            path = os.path.join(directory, name)
            things[os.path.relpath(path, root)] = _thing(path)
    return things


def _thing(path: str) -> Thing:
    status = os.lstat(path)
    mode = stat.S_IMODE(status.st_mode)
    if stat.S_ISLNK(status.st_mode):
        return Thing(EntryKind.LINK, mode, status.st_mtime_ns, os.fsencode(os.readlink(path)))
    attributes = {name: os.getxattr(path, name) for name in os.listxattr(path)}
    if stat.S_ISDIR(status.st_mode):
        return Thing(EntryKind.DIR, mode, status.st_mtime_ns, b"", attributes)
    return Thing(EntryKind.FILE, mode, status.st_mtime_ns, Path(path).read_bytes(), attributes)


def things_archived(data: bytes) -> dict[str, Thing]:
    """Return the content of an archive, every file inflated and checked."""
    reader = ArchiveReader(io.BytesIO(data))
    take_survey(reader.items(), WIDE)
    return {
        entry.name: Thing(
            entry.kind, entry.mode, entry.mtime_ns, content_of(reader, entry), dict(entry.xattrs)
        )
        for entry in reader.items()
    }


def content_of(reader: ArchiveReader, entry: Item) -> bytes:
    if entry.kind is EntryKind.DIR:
        return b""
    parts: list[bytes] = []
    reader.read(entry, parts.append)
    return b"".join(parts)


def open_descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


@contextmanager
def unprivileged() -> Iterator[None]:
    """As nobody, where the tests run as root: root can read everything."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


@dataclass
class Crafted:
    """One entry of a hand-made archive; what is not said is right."""

    name: bytes
    content: bytes = b"content"
    made_by: int = records.SYSTEM_UNIX
    mode: int = stat.S_IFREG | 0o644
    flags: int = 0
    method: int = records.STORED
    extra: bytes = b""
    data: bytes | None = None
    """Instead of `content` as it is in the archive."""
    local_name: bytes | None = None
    local_extra: bytes = b""
    size_bytes: int | None = None
    crc: int | None = None
    offset: int | None = None


def deflated(content: bytes) -> bytes:
    stream = zlib.compressobj(wbits=-15)
    return stream.compress(content) + stream.flush()


def crafted(*entries: Crafted, comment: bytes = b"") -> bytes:
    """An archive as somebody else makes it, or somebody hostile."""
    body, directory = b"", b""
    for entry in entries:
        data = entry.content if entry.data is None else entry.data
        member = Member(entry.name, entry.flags, 0x5A21_0000, entry.mode << 16, b"", entry.extra)
        member.method, member.compressed_bytes = entry.method, len(data)
        member.size_bytes = len(entry.content) if entry.size_bytes is None else entry.size_bytes
        member.crc = zlib.crc32(entry.content) if entry.crc is None else entry.crc
        record = bytearray(
            records.central_header(member, len(body) if entry.offset is None else entry.offset)
        )
        record[5] = entry.made_by
        directory += record
        member.name = entry.name if entry.local_name is None else entry.local_name
        member.common_extra = entry.local_extra
        body += records.local_header(member) + data
    end = records.end_of_archive(len(entries), len(directory), len(body))
    return body + directory + end[:-2] + len(comment).to_bytes(2, "little") + comment
