"""The local provider in a directory that fills up, fails, vanishes in mid-write, or is shared."""

import errno
import fcntl
import resource
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from providers.directory import classify_os_error, is_part
from providers.errors import (
    AccessDenied,
    IoError,
    NoSpace,
    Rejected,
    StorageError,
    TargetAbsent,
    TooLarge,
)
from providers.testing.streams import (
    BytesSource,
    HookedSource,
    StreamedSource,
)
from tests.contract.local_targets import DATA, local, put, small_disk

# -- a disk that fills up or fails --------------------------------------------------------------------


def test_an_archive_that_cannot_fit_is_refused_before_it_is_read(tmp_path: Path) -> None:
    source = BytesSource(DATA)
    with small_disk(tmp_path / "disk") as disk:
        with pytest.raises(NoSpace, match="3000000 are needed"):
            local(disk).put("a.zip", source, {}, {})
        assert list(disk.iterdir()) == []
    assert source.tell() == 0


def test_a_disk_that_fills_up_in_mid_write_keeps_nothing(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk") as disk:
        (disk / "old.zip").write_bytes(b"old")
        with pytest.raises(NoSpace):
            local(disk).put("sub/a.zip", StreamedSource(DATA), {}, {})
        assert [path.name for path in disk.iterdir()] == ["old.zip"]


def test_a_file_that_the_file_system_cannot_keep_is_too_large(tmp_path: Path) -> None:
    """The kernel answers EFBIG at a process's limit as VFAT does at 4 GiB - 1."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2_000_000, hard))
    try:
        with pytest.raises(TooLarge, match="4 GiB"):
            put(tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert list(tmp_path.iterdir()) == []


def test_a_target_that_vanishes_in_mid_write_is_absent(tmp_path: Path) -> None:
    target = tmp_path / "stick"
    target.mkdir()

    def pull(offset: int) -> None:
        if offset == len(DATA):
            shutil.rmtree(target)

    with pytest.raises(TargetAbsent):
        local(target).put("a.zip", HookedSource(DATA, pull), {}, {})
    assert not target.exists()


@pytest.mark.parametrize(
    ("number", "kind"),
    [
        (errno.ENOSPC, NoSpace),
        (errno.EDQUOT, NoSpace),
        (errno.EIO, IoError),
        (errno.EROFS, IoError),
        (errno.ENODEV, IoError),
        (errno.ESTALE, IoError),
        (errno.EACCES, AccessDenied),
        (errno.EPERM, AccessDenied),
        (errno.EFBIG, TooLarge),
        (errno.ENOENT, TargetAbsent),
        (errno.ELOOP, Rejected),
        (errno.EMFILE, IoError),
        (None, IoError),
    ],
)
def test_each_errno_has_its_error(number: int | None, kind: type[StorageError]) -> None:
    error = OSError(number, "/secret/path") if number else OSError("/secret/path")
    made = classify_os_error("target 'usb'")(error)
    assert type(made) is kind
    assert str(made).startswith("target 'usb': ")
    assert "/secret" not in str(made)


# -- other processes ----------------------------------------------------------------------------------

_WRITER = """
import sys, time
from pathlib import Path
from providers.api import Limits, Target
from providers.local import Local
from providers.testing.streams import HookedSource

def tell(offset):
    if offset:
        print("writing", flush=True)
        time.sleep(60)

limits = Limits(targets={"device": Target(Path(sys.argv[1]))})
Local({}, limits).put("a.zip", HookedSource(bytes(9), tell), {}, {})
"""


@contextmanager
def another_agent_writing(target: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process in the middle of a put of `a.zip`."""
    process = subprocess.Popen([sys.executable, "-c", _WRITER, str(target)], stdout=subprocess.PIPE)
    assert process.stdout is not None
    try:
        assert process.stdout.readline() == b"writing\n"
        yield process
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        process.wait(60)
        process.stdout.close()


def parts(target: Path) -> list[str]:
    return [path.name for path in target.iterdir() if is_part(path.name)]


def test_what_a_killed_process_left_goes_with_the_next_put_and_what_a_living_one_writes_stays(
    tmp_path: Path,
) -> None:
    with another_agent_writing(tmp_path) as writer:
        put(tmp_path, "b.zip")
        assert len(parts(tmp_path)) == 1
        writer.send_signal(signal.SIGKILL)
        writer.wait(60)
        assert [stored.name for stored in local(tmp_path).list("")] == ["b.zip"]
        put(tmp_path, "b.zip")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["b.zip"]


def test_two_puts_of_one_name_at_once_both_succeed_and_one_of_them_stays(tmp_path: Path) -> None:
    source = HookedSource(DATA, lambda offset: put(tmp_path, data=b"the other") if offset else None)
    local(tmp_path).put("a.zip", source, {}, {})
    assert (tmp_path / "a.zip").read_bytes() == DATA
    assert parts(tmp_path) == []


def test_a_part_that_another_agent_took_for_abandoned_before_it_was_locked_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flock, removed = fcntl.flock, list[str]()

    def late_flock(file: int, operation: int) -> None:
        if not removed:
            removed.extend(parts(tmp_path))
            (tmp_path / removed[0]).unlink()
        flock(file, operation)

    monkeypatch.setattr(fcntl, "flock", late_flock)
    put(tmp_path)
    assert removed
    assert (tmp_path / "a.zip").read_bytes() == DATA


def test_files_of_others_are_left_alone(tmp_path: Path) -> None:
    for name in (".hidden", ".x.part-", "x.part-0123456789abcdef", ".x.part-0123456789ABCDEF"):
        (tmp_path / name).touch()
    put(tmp_path)
    assert len(list(tmp_path.iterdir())) == 5
