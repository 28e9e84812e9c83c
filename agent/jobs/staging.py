"""The agent's own directories: archives that wait for `start`, downloads, the journal.

Only one agent may use it at a time. Whatever is incomplete has a name of its own and is removed when
the agent starts; a complete archive has its final name and stays.
"""

import fcntl
import os
import threading
import time
import uuid
from collections.abc import Callable, Collection
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import structlog

from agent.base.durable import make_directories, remove_tree, sync_directory
from agent.formats.archive_names import ENCRYPTED, MAX_NAME_LETTERS, PLAIN, archive_name
from agent.jobs.filesystem_probe import NoAnswer, Probes
from agent.journal import Journal
from agent.restore.memory import read_working
from agent.settings import Settings

log = structlog.get_logger(__name__)

_INCOMPLETE = (".part", ".direct")
_WORK = "work-"
_SHARED = "shared"


class StorageUnusable(Exception):
    """The storage directory belongs to somebody else, or another agent works in it."""


def directories_of(storage: Path) -> tuple[Path, ...]:
    """Return the storage and the directories that are always in it.

    `archives` is the target that there is when none is configured.
    """
    return storage, storage / "backups", storage / "downloads", storage / "archives"


def journal_of(storage: Path) -> Path:
    return storage / "journal.db"


def states_of(storage: Path) -> Path:
    """Return the directory with what the device knows of each repository, and for temporary files."""
    return storage / "repositories"


class Staging:
    def __init__(self, storage: Path) -> None:
        """Make the directories with mode 0700, and lock them until the process ends.

        Raises `StorageUnusable`, and OSError when the disk does not allow it.
        """
        self.storage, self.journal = storage, journal_of(storage)
        _, self._backups, self._downloads, _ = directories = directories_of(storage)
        for directory in directories:
            _make_private(directory)
        # No command is acknowledged before the directory that keeps it is sure to be there again.
        sync_directory(storage)
        sync_directory(storage.parent)
        self.lock = os.open(storage / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        """The descriptor of the locked file, whose content the owner may use."""
        # The file may be removed under a running agent; then the directory still keeps a second one out.
        self._directory = os.open(storage, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            for descriptor in (self._directory, self.lock):
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            self.close()
            raise StorageUnusable(
                f"storage '{storage}' is in use by another agent: stop it, or set another 'storage'"
            ) from error

    def free_path(
        self,
        device_tag: str,
        suffix: str = PLAIN,
        name: str = "",
        taken: Callable[[str], bool] = lambda _name: False,
    ) -> Path:
        """Return the path of the next archive in staging, whose name it has at every destination.

        Names carry milliseconds, but clocks jump, and that of a device without a battery begins at the
        same time with every start: what is `taken` is not used again.
        """
        while True:
            path = self._backups / archive_name(datetime.now(UTC), device_tag, suffix, name)
            if not path.exists() and not taken(path.name):
                return path
            time.sleep(0.001)

    def staged_path(self, name: str) -> Path:
        """Return the path of a staged archive with this name."""
        return self._backups / name

    @property
    def longest_path(self) -> Path:
        """Return a path as long as the longest of a staged archive."""
        return self._backups / archive_name(datetime.now(UTC), "0" * 8, ENCRYPTED, "x" * MAX_NAME_LETTERS)

    def complete_archives(self) -> list[Path]:
        """Return the archives in staging that have a readable directory or are encrypted, oldest first."""
        paths = (path for suffix in (PLAIN, ENCRYPTED) for path in self._backups.glob(f"*{suffix}"))
        return [path for path in sorted(paths, key=_age_key) if _is_complete(path)]

    def remove(self, path: Path) -> bool:
        """Remove an archive, or the directory of one, durably; return False, and log, when that fails.

        It loses its name at once. Giving back the space of a large file takes half a second per GiB, and
        nobody is to wait for that: a thread does it, and what a crash leaves goes at the next start.
        """
        # A new name: a directory that had this one before may not be gone yet.
        doomed = path.with_name(f"{path.name}-{uuid.uuid4().hex}{_INCOMPLETE[0]}")
        try:
            if path.exists():  # else only the journal did not know yet
                path.rename(doomed)
            sync_directory(path.parent)
        except OSError:
            log.exception("staged archive not removed", file=path.name)
            return False
        threading.Thread(target=_give_back, args=(doomed,), name=f"remove-{path.name}", daemon=True).start()
        return True

    def download(self, job_id: str) -> Path:
        return self._downloads / f"{job_id}.part"

    def work_directory(self, job_id: str) -> Path:
        """Return the directory in which a command of the settings collects or receives this job's files."""
        return (self.storage / f"{_WORK}{job_id}").absolute()

    def shared(self, schedule: str) -> Path:
        """Return the directory for the archive that several stores of a schedule get."""
        return (self.storage / _SHARED / schedule).absolute()

    def remove_shared(self, schedule: str) -> None:
        """Remove the archive that several stores of a schedule got, as `remove`."""
        if (directory := self.shared(schedule)).exists():
            self.remove(directory)

    def keep_shared(self, schedules: Collection[str]) -> None:
        """Remove the archives of all other schedules: the settings have them no more."""
        for directory in (self.storage / _SHARED).glob("*"):
            if directory.name not in schedules and directory.suffix != _INCOMPLETE[0]:
                self.remove_shared(directory.name)

    def remove_incomplete(self) -> None:
        """Remove incomplete files that a crash left. To be called before anything runs."""
        for directory in self.storage.glob(f"{_WORK}*"):
            log.info("working directory of an earlier run removed", directory=directory.name)
            remove_tree(directory)
        for directory in (self.storage / _SHARED).glob(f"*{_INCOMPLETE[0]}"):
            remove_tree(directory)
        states = states_of(self.storage)
        repositories = [states, *states.iterdir()] if states.is_dir() else []
        for directory in (self.storage, self._backups, self._downloads, *filter(Path.is_dir, repositories)):
            with os.scandir(directory) as entries:
                names = [entry.name for entry in entries if entry.name.endswith(_INCOMPLETE)]
            for name in names:
                log.info("incomplete file of an earlier run removed", file=name)
                with suppress(FileNotFoundError):
                    (directory / name).unlink()

    def close(self) -> None:
        """Give the directory back, also when a child process has inherited the descriptors."""
        for descriptor in (self.lock, self._directory):
            fcntl.flock(descriptor, fcntl.LOCK_UN)
            os.close(descriptor)


def _make_private(directory: Path) -> None:
    """Make the directory, and set its mode to 0700: Kanto's agent may have left it with another one.

    Raises `StorageUnusable` for a directory of another user: what it holds may have been put there by them.
    """
    make_directories(directory, 0o700)
    status = directory.stat()
    if status.st_uid not in (0, os.geteuid()):
        raise StorageUnusable(
            f"storage '{directory}' belongs to user {status.st_uid}: give it to the agent's user with chown,"
            " or set another 'storage'"
        )
    if status.st_mode & 0o077:
        try:
            directory.chmod(0o700)
        except PermissionError:
            log.warning("storage directory of root is open to others", path=str(directory))


def _give_back(path: Path) -> None:
    """Give back the space of a file or directory."""
    if path.is_dir():
        remove_tree(path)
        return
    try:
        path.unlink(missing_ok=True)
    except OSError:
        log.exception("staged archive not removed", file=path.name)


def _age_key(path: Path) -> tuple[int, str]:
    return path.stat().st_mtime_ns, path.name


def _is_complete(path: Path) -> bool:
    from agent.formats.archive_file import is_complete

    return is_complete(path)


class OwnDirectories:
    """The directories that no backup saves and no restore changes. Belongs to the main thread."""

    def __init__(self, settings: Settings, journal: Journal | None = None) -> None:
        """Working directories of restores are known only with a `journal`."""
        self._settings, self._journal, self._probes = settings, journal, Probes()

    def paths(self) -> tuple[Path, ...]:
        """Return the storage with its parts, the targets, and what restores work in or left.

        Without those on a file system that does not answer: nobody can walk there either.
        """
        targets = (target.path for target in self._settings.targets.values())
        elsewhere = (self._there(path) for path in (*targets, *self._working()))
        return (*directories_of(self._settings.storage), *filter(None, elsewhere))

    def _there(self, path: Path) -> Path | None:
        with suppress(NoAnswer, OSError):
            return self._probes.look(str(path), partial(_resolved, path))
        return None

    def _working(self) -> list[Path]:
        unfinished = self._journal.jobs.unfinished() if self._journal else []
        return [left.path(each.job.id) for each in unfinished for left in read_working(each.working)]


def _resolved(path: Path) -> Path:
    return Path(os.path.realpath(path, strict=True))
