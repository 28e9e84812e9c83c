"""Large hostile archives: how a restore of them ends, and what it costs in memory."""

import os
import re
import shutil
import stat
import tempfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path

import pytest

from agent.base.errors import JobError
from agent.formats.entry_checks import ArchiveLimits
from agent.formats.zip import records
from agent.formats.zip.metadata import own_extra
from agent.formats.zip.records import Member
from agent.restore.root import RestoreOptions
from tests.faults.tally import tell
from tests.support.archives import Crafted, deflated
from tests.support.diskfaults import in_child
from tests.support.hostile import LINK
from tests.support.restoring import restored

AS_SET = ArchiveLimits(max_files=1_000_000, max_bytes=64 << 30, max_ratio=1100)  # the settings' defaults
MOST_MEMORY_BYTES = 48 << 20
ZEROS = deflated(bytes(10 << 20))


def links() -> Iterator[Crafted]:
    yield from (Crafted(b"link%d" % number, b"to", mode=LINK) for number in range(150_000))
    yield Crafted(b"..")


def deep_names() -> Iterator[Crafted]:
    yield from (Crafted(b"%d/" % number + b"d/" * 32_000 + b"f", b"") for number in range(50))


def long_names() -> Iterator[Crafted]:
    yield from (Crafted(b"%0255d" % number, b"") for number in range(30_000))


def zeros() -> Iterator[Crafted]:
    bomb = partial(Crafted, content=b"", method=8, data=ZEROS, size_bytes=10 << 20, crc=1)
    yield from (bomb(b"f%d" % number) for number in range(6_600))


def attributes() -> Iterator[Crafted]:
    extra = own_extra(1, None, {"user.large": bytes(60_000)})
    yield from (Crafted(b"f%d" % number, b"", extra=extra) for number in range(500))


def many_attributes() -> Iterator[Crafted]:
    """Seen to take 315 MiB and 67 s."""
    extra = own_extra(1, None, {f"{number:04x}": b"" for number in range(8_000)})
    yield from (Crafted(b"f%d" % number, b"", extra=extra) for number in range(1_400))


def directories() -> Iterator[Crafted]:
    mode = stat.S_IFDIR | 0o755
    yield from (Crafted(b"%d/" % number, b"", mode=mode) for number in range(30_000))


def write(path: Path, entries: Iterable[Crafted]) -> None:
    """An archive of any size; as `crafted`, but not in memory."""
    directory = []
    with path.open("wb") as file:
        for entry in entries:
            data = entry.content if entry.data is None else entry.data
            member = Member(entry.name, 0, 0x5A21_0000, entry.mode << 16, b"", entry.extra)
            member.method, member.compressed_bytes = entry.method, len(data)
            member.size_bytes = entry.size_bytes or len(entry.content)
            member.crc = zlib.crc32(entry.content) if entry.crc is None else entry.crc
            directory.append(records.central_header(member, file.tell()))
            file.write(records.local_header(member) + data)
        begin = file.tell()
        file.writelines(directory)
        file.write(records.end_of_archive(len(directory), file.tell() - begin, begin))


@pytest.fixture
def destination() -> Iterator[Path]:
    memory = "/dev/shm" if os.path.isdir("/dev/shm") else None
    made = Path(tempfile.mkdtemp(prefix="edge-backup-bomb-", dir=memory))
    yield made
    shutil.rmtree(made)


def memory_bytes(key: str) -> int:
    found = re.search(rf"^{key}:\s+(\d+) kB", Path("/proc/self/status").read_text("ascii"), re.MULTILINE)
    assert found
    return int(found[1]) << 10


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    ("entries", "end"),
    [
        (links, "archive-invalid"),
        (deep_names, "archive-invalid"),
        (zeros, "archive-invalid"),
        (long_names, "restored"),
        (attributes, "restored"),
        (many_attributes, "archive-invalid"),
        (directories, "restored"),
    ],
)
def test_a_large_hostile_archive_costs_little_memory(
    destination: Path, entries: Callable[[], Iterator[Crafted]], end: str
) -> None:
    target, archive, result = destination / "target", destination / "a.zip", destination / "result"
    target.mkdir()
    write(archive, entries())

    def attacked() -> None:
        Path("/proc/self/clear_refs").write_text("5")  # the peak starts here: proc_pid_clear_refs(5)
        before = memory_bytes("VmRSS")
        try:
            restored(target, archive, RestoreOptions(limits=AS_SET))
            code = "restored"
        except JobError as error:
            code = error.code
        result.write_text(f"{code} {memory_bytes('VmHWM') - before}")

    in_child(attacked)
    code, grown = result.read_text().split()
    size = archive.stat().st_size
    tell(f"{entries.__name__}: {size / 1e6:.0f} MB, {code}, {int(grown) / 2**20:.1f} MiB more memory")
    assert code == end
    assert int(grown) < MOST_MEMORY_BYTES
    assert code == "restored" or os.listdir(target) == []
