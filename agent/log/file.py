"""The rotating log file. It never stops the agent: lines that cannot be written are dropped."""

import errno
import logging
import os
import re
import stat
import time
from contextlib import nullcontext, suppress
from io import TextIOWrapper
from itertools import pairwise
from pathlib import Path

from agent.base.durable import closing_fd, make_directories
from providers.directory import open_resolved, refuse_special

log = logging.getLogger(__name__)

_DAY_S = 86_400


class RotatingLogFile(logging.FileHandler):
    """`name` grows to `size_bytes`, then becomes `name.1`, which becomes `name.2`, up to `count`.

    Older files are removed beyond `count`, and after `max_age_days` unless that is 0. The directory is
    made when it is missing. Raises OSError when the file cannot be opened.

    The rotating handler of the standard library formats every record twice, and takes 0.2 MiB.
    """

    def __init__(self, path: Path, size_bytes: int, count: int, max_age_days: int) -> None:
        make_directories(path.parent, 0o750)
        # Where it leads now: who may write on the way cannot lead it elsewhere afterwards.
        self._directory = Path(os.path.realpath(path.parent))
        self._max_age_s = max_age_days * _DAY_S
        self._size_bytes, self._count = size_bytes, count
        self._failing = self._failed = False
        super().__init__(self._directory / path.name, encoding="utf-8", errors="backslashreplace")
        with suppress(OSError):
            self._prune()

    def _open(self) -> TextIOWrapper:
        # A pipe of this name would be waited for without O_NONBLOCK.
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
        with closing_fd(open_resolved(self._directory, os.O_PATH)) as directory:
            file = os.open(os.path.basename(self.baseFilename), flags, 0o640, dir_fd=directory)
        if not stat.S_ISREG(os.fstat(file).st_mode):
            os.close(file)
            raise FileExistsError(errno.EEXIST, "what is there is no regular file", self.baseFilename)
        return open(file, "a", encoding=self.encoding, errors=self.errors)

    def _rotate(self) -> None:
        """Rename the files by one number when the current one is full.

        Raises OSError when it cannot be opened, and when one of the names is no regular file's.
        """
        if self.stream is None:  # after a failure
            self.stream = self._open()
        if self.stream.tell() < self._size_bytes:
            return
        os.close(open_resolved(self._directory, os.O_PATH))  # nothing is renamed elsewhere
        names = [self.baseFilename, *(f"{self.baseFilename}.{number + 1}" for number in range(self._count))]
        for name in names[1:]:
            refuse_special(name)
        self._close_stream()
        for name, older in reversed(list(pairwise(names))):
            with suppress(FileNotFoundError):
                os.replace(name, older)
        self.stream = self._open()
        with suppress(OSError):
            self._prune()

    def _prune(self) -> None:
        """Remove older files beyond the count and the age, which is that of the last line."""
        current = Path(self.baseFilename)
        numbered = re.compile(re.escape(current.name) + r"\.([0-9]+)")
        for name in os.listdir(current.parent):
            path, match = current.with_name(name), numbered.fullmatch(name)
            with suppress(OSError):  # gone meanwhile, or no regular file
                if match and (int(match[1]) > self._count or self._too_old(path)):
                    refuse_special(path)
                    path.unlink()

    def _too_old(self, path: Path) -> bool:
        return self._max_age_s > 0 and time.time() - path.stat().st_mtime > self._max_age_s

    def reopen(self) -> None:
        """Open the file again by its name, after logrotate has moved it away (SIGHUP)."""
        with self.lock or nullcontext():
            self._close_stream()

    def _close_stream(self) -> None:
        stream, self.stream = self.stream, None
        if stream is not None:
            with suppress(OSError):
                stream.close()

    def _is_gone(self) -> bool:
        """Return True when the open file no longer has its name."""
        if self.stream is None:
            return False
        try:
            there, here = os.stat(self.baseFilename, follow_symlinks=False), os.fstat(self.stream.fileno())
        except OSError:
            return True
        return (there.st_dev, there.st_ino) != (here.st_dev, here.st_ino)

    def emit(self, record: logging.LogRecord) -> None:
        self._failed = False
        if self._is_gone():
            self._close_stream()
        try:
            self._rotate()
            super().emit(record)
        except Exception:
            self.handleError(record)
        begins, self._failing = self._failed and not self._failing, self._failed
        if begins:
            # This line comes here, too, and then changes nothing.
            log.error("log file not writable; logging to stderr only: %s", self.baseFilename)

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: ARG002, N802
        """Drop the line when the disk is full or fails, and open the file again for the next one."""
        self._failed = True
        self._close_stream()
