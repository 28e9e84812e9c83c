"""Files in a directory that another process, or a pulled plug, may change at any moment.

Unfinished files have hidden names, `.<name>.part-<16 hex digits>`. Their writer holds a lock on them
(`flock`), which the kernel drops when the process dies. An unfinished file whose lock can be taken is
therefore abandoned and may be removed; the file of a living agent is never removed.
"""

import errno
import fcntl
import os
import re
import secrets
import stat
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from providers.errors import (
    WRITABLE_HINT,
    AccessDenied,
    Classify,
    IoError,
    NoSpace,
    Rejected,
    StorageError,
    TargetAbsent,
    TooLarge,
)

DIRECTORY_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC

_ON_THE_WAY = os.O_PATH | os.O_NOFOLLOW | os.O_DIRECTORY | os.O_CLOEXEC
_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_NO_HARD_LINK = {errno.EPERM, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK}
"""Answers of link(2) on VFAT and other file systems without hard links."""
_PART = re.compile(r"\..*\.part-[0-9a-f]{16}", re.DOTALL)
_KINDS: Mapping[int | None, tuple[type[StorageError], str]] = {
    errno.EACCES: (AccessDenied, "access is denied: give the agent's user the right to it"),
    errno.EPERM: (AccessDenied, "access is denied: give the agent's user the right to it"),
    errno.ENOSPC: (NoSpace, "it is full: remove old archives"),
    errno.EDQUOT: (NoSpace, "the quota is used up: remove old archives"),
    errno.EFBIG: (TooLarge, "its file system cannot keep a file of this length (VFAT: 4 GiB - 1)"),
    errno.ENOENT: (TargetAbsent, "it vanished: plug it in or create it again"),
    errno.EISDIR: (Rejected, "a directory has the archive's name"),
    errno.EEXIST: (Rejected, "what has the archive's name is no regular file"),
    errno.ELOOP: (Rejected, "a symbolic link is in the way, and none is followed"),
    errno.ENOTDIR: (Rejected, "what should be a directory is a file or a symbolic link"),
    errno.ENAMETOOLONG: (Rejected, "its file system cannot keep a name of this length"),
    errno.EINVAL: (Rejected, "its file system cannot keep this name"),
    errno.EROFS: (IoError, f"it is read-only{WRITABLE_HINT}"),
    errno.EIO: (IoError, "it fails to read or write: check the medium"),
    errno.ENODEV: (IoError, "it is gone: plug it in again"),
    errno.ENXIO: (IoError, "it is gone: plug it in again"),
    errno.ESTALE: (IoError, "it is gone on the file server: mount it again"),
}


def classify_os_error(what: str) -> Classify:
    """Return a classifier of an `OSError` about `what` by its errno; `IoError` for an unknown one.

    The message also has the name of the file where that is refused, and not all of `what`.
    """

    def classify(error: BaseException) -> StorageError:
        number = error.errno if isinstance(error, OSError) else None
        unlisted = (IoError, f"the system reports {errno.errorcode.get(number or 0, 'an error')}")
        kind, why = _KINDS.get(number, unlisted)
        file = _file_of(error) if kind in (AccessDenied, Rejected) else ""
        return kind(f"{what}{file}: {why}")

    return classify


def _file_of(error: BaseException) -> str:
    path = getattr(error, "filename", None)
    name = os.path.basename(path) if isinstance(path, str) else ""
    return f", '{name}'" if name.isprintable() and name.strip(".") else ""


def is_mount_point(directory: int) -> bool:
    """Return True when another file system begins here.

    Only the device number tells: the mount table also lists a directory that a hardened systemd unit
    (`ReadWritePaths=`) has bound onto itself, with a stick or without.
    """
    here, above = os.fstat(directory), os.stat("..", dir_fd=directory)
    return here.st_dev != above.st_dev or here.st_ino == above.st_ino  # `/` is its own parent


def open_resolved(path: Path, access: int = os.O_RDONLY) -> int:
    """Return a descriptor of the directory at an absolute path that was resolved before.

    With O_PATH for `access` the directory need not be readable.

    Raises OSError: ENOTDIR when a component has become a symbolic link since, or is no directory.
    """
    fd = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for name in path.parts[1:]:
            fd = _step(fd, os.open(name, _ON_THE_WAY, dir_fd=fd))
        return os.open(".", access | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=fd)
    finally:
        os.close(fd)


def _step(left: int, entered: int) -> int:
    os.close(left)
    return entered


@contextmanager
def inside(root: int, names: Sequence[str], *, create: bool) -> Iterator[int]:
    """Open the directory `names` below `root`, following no symbolic link; close it at the end.

    With `create` missing directories are made with mode 0700, and removed again when the block fails. Raises
    OSError.
    """
    with ExitStack() as stack:
        directory = root
        for name in names:
            if create:
                _make_directory(stack, name, directory)
            directory = os.open(name, DIRECTORY_FLAGS | os.O_NOFOLLOW, dir_fd=directory)
            stack.callback(os.close, directory)
        yield directory


def _make_directory(stack: ExitStack, name: str, parent: int) -> None:
    try:
        os.mkdir(name, 0o700, dir_fd=parent)
    except FileExistsError:
        return

    def undo(kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None:
            with suppress(OSError):  # not empty: somebody else uses it by now
                os.rmdir(name, dir_fd=parent)

    stack.push(undo)
    os.fsync(parent)


@contextmanager
def new_part(directory: int, name: str) -> Iterator[tuple[str, int]]:
    """Make an unfinished file for `name`, mode 0600 and locked; yield its name and its descriptor.

    The caller renames it. It is removed when the block fails. Raises OSError.
    """
    part, file = _create_part(directory, name)
    try:
        yield part, file
    except BaseException:
        with suppress(OSError):  # the medium may be gone; the first error matters more
            os.unlink(part, dir_fd=directory)
        raise
    finally:
        os.close(file)


def name_new(part: str, name: str, directory: int) -> None:
    """Give the file `part` in `directory` a name that nothing has yet, in one step.

    Raises OSError: FileExistsError when something has the name.
    """
    try:
        os.link(part, name, src_dir_fd=directory, dst_dir_fd=directory, follow_symlinks=False)
    except OSError as error:
        if error.errno not in _NO_HARD_LINK:
            raise
    else:
        os.unlink(part, dir_fd=directory)
        return
    # VFAT has no hard links. Between the look and the rename only another program could make the file.
    with suppress(FileNotFoundError):
        os.stat(name, dir_fd=directory, follow_symlinks=False)
        raise FileExistsError(errno.EEXIST, "there is a file already", name)
    os.rename(part, name, src_dir_fd=directory, dst_dir_fd=directory)


def _create_part(directory: int, name: str) -> tuple[str, int]:
    short = os.fsencode(name)[:200].decode(errors="ignore")  # a name may have 255 bytes at most
    while True:
        part = f".{short}.part-{secrets.token_hex(8)}"
        file = os.open(part, _NEW_FILE, 0o600, dir_fd=directory)
        fcntl.flock(file, fcntl.LOCK_EX)
        if os.fstat(file).st_nlink:
            return part, file
        os.close(file)  # another agent removed it before it was locked


def refuse_special(name: str | Path, directory: int | None = None) -> None:
    """Raise OSError (EEXIST) when `name` is there and is no regular file: nothing may replace that.

    `name` is below the descriptor `directory`, if given. A rename would make a file of `/dev/null`.
    """
    with suppress(FileNotFoundError):
        if not stat.S_ISREG(os.stat(name, dir_fd=directory, follow_symlinks=False).st_mode):
            raise FileExistsError(errno.EEXIST, "what is there is no regular file", str(name))


def is_part(name: str) -> bool:
    return _PART.fullmatch(name) is not None


def remove_abandoned(directory: int) -> None:
    """Remove the unfinished files that no living process is writing. Raises OSError."""
    # Without this an open directory need not list files that were made since (readdir(3p)).
    os.lseek(directory, 0, os.SEEK_SET)
    for name in filter(is_part, os.listdir(directory)):
        with suppress(OSError), _opened(directory, name) as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.unlink(name, dir_fd=directory)


def remove_abandoned_below(path: Path, since_s: float) -> None:
    """Remove abandoned files in a directory and all below it, on its file system, where that is allowed.

    Also remove empty directories that a `put` may have made since `since_s` (seconds since 1970); a later
    `put` makes them again.
    """
    made: list[str] = []
    with suppress(OSError):
        root = os.open(path, DIRECTORY_FLAGS)
        try:
            device = os.fstat(root).st_dev
            for name, directories, _, directory in os.fwalk(".", dir_fd=root):
                status = os.fstat(directory)
                if status.st_dev != device:
                    directories.clear()
                    continue
                if name != "." and _made_here(status) and status.st_mtime >= since_s:
                    made.append(name)
                remove_abandoned(directory)
            for name in reversed(made):  # the inner ones first
                with suppress(OSError):  # not empty
                    os.rmdir(name, dir_fd=root)
        finally:
            os.close(root)


def _made_here(status: os.stat_result) -> bool:
    return status.st_uid == os.geteuid() and stat.S_IMODE(status.st_mode) == 0o700


@contextmanager
def _opened(directory: int, name: str) -> Iterator[int]:
    file = os.open(name, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=directory)
    try:
        yield file
    finally:
        os.close(file)


def write_all(file: int, data: bytes | bytearray) -> None:
    """Write all of `data`; a single `write` may stop short of it. Raises OSError."""
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(file, rest) :]
