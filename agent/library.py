"""Backups and restores for the device's own programs, in their process and without a broker.

The engine is the agent's, over the agent's storage directory and journal: only one of the two can run at a
time. While an agent runs, `edge-backup backup` and `edge-backup restore` ask it. All settings hold here, too,
except for the least length of a passcode: here it may even be empty.

Every function takes `config`, the path of the device's settings file, and raises `BackupError`.
"""

import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from pydantic import SecretStr

from agent.base.errors import JobError, disk_errors
from agent.base.refusals import Refused
from agent.base.text import names_are_utf8
from agent.embedded import Embedded
from agent.formats.archive_file import open_archive
from agent.jobs.chosen_roots import ChosenRoots
from agent.jobs.formats import archive_format, unlock_for
from agent.jobs.requests.backup import BackupRequest
from agent.jobs.requests.control import DiscardRequest, FinalizeRequest
from agent.jobs.requests.options import Selection
from agent.jobs.requests.raw import Request
from agent.jobs.requests.restore import RestoreRequest
from agent.jobs.requests.storage import StorageOptions
from agent.jobs.staging import OwnDirectories, StorageUnusable
from agent.journal import JournalError
from agent.journal.intact import JournalBroken
from agent.journal.schema import NewerJournal
from agent.save.inventory import Inventory, take_inventory
from agent.settings import Settings
from agent.settings.group_defaults import TargetSettings
from agent.settings.load import SettingsError, load

__all__ = ["BackupCreate", "BackupError", "BackupInfo", "Preview", "Unexportable"]
__all__ += ["backup_info", "create_backup", "unpack_backup"]

FilePath = str | os.PathLike[str]


class BackupError(Exception):
    """A backup or restore failed, or was refused, for the reason in the message; nothing has changed.

    `code` is a status code of docs/wire.md; `refused` when nothing was begun, `busy` while an agent runs.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True, slots=True)
class Unexportable:
    """A file that is not in a backup: a restore does not bring it back."""

    name: str
    """Its name as in an archive: relative to the directory, or beginning with its data set."""
    reason: str


@dataclass(frozen=True, slots=True)
class BackupCreate:
    """A backup that was made."""

    history_id: str
    """For `edge-backup show`."""
    file: str
    unexportable: tuple[Unexportable, ...]
    """The first skipped files; the archive's manifest has their number."""


@dataclass(frozen=True, slots=True)
class BackupInfo:
    """The content that a backup would have now."""

    files: int
    content_bytes: int
    unexportable: tuple[Unexportable, ...]
    unexportable_count: int


def create_backup(password: str, output_path: FilePath, *, config: FilePath | None = None) -> BackupCreate:
    """Make a backup as the settings say into the file `output_path`, encrypted with the password.

    A file that is there is replaced in one step, when the new one is complete. The password may be of any
    length; one that is empty keeps nothing secret, and the standard `age` tool refuses it.
    """
    file = os.path.abspath(output_path)
    settings = _settings(config)
    request = BackupRequest(passcode=SecretStr(password), output=file)
    with _opened(settings) as embedded, _translated():
        job_id = _carry_out(embedded, request)
    embedded.close()
    return BackupCreate(job_id, file, _unexportable_in(file, password, settings))


def backup_info(*, config: FilePath | None = None) -> BackupInfo:
    """Return what `create_backup` would save and skip now. Works also while an agent runs."""
    settings, inventory = _settings(config), Inventory()
    if settings.backup_cmd:
        raise BackupError("refused", "backupCmd collects what is saved, at the time of a backup")
    with _translated():
        inventory.roots = ChosenRoots(settings).for_backup(Selection())
    own, consistent = OwnDirectories(settings).paths(), settings.sqlite == "consistent"
    take_inventory(inventory, archive_format(settings), own, lambda: None, consistent=consistent)
    if inventory.problem:
        raise BackupError("io-error", f"'{settings.dir}' {inventory.problem}")
    report = inventory.report
    skipped = tuple(Unexportable(name, reason) for name, reason in report.unexportable)
    return BackupInfo(inventory.files, inventory.size_bytes, skipped, report.skipped)


class Preview:
    """A backup that is unpacked beside its target; leaving its `with` block discards what still waits.

    Numbers are of files, links and directories. It holds the storage directory: no agent starts meanwhile.
    A child process that inherits it by a fork can neither finalize nor discard it.
    """

    def __init__(self, embedded: Embedded, value: Mapping[str, Any]) -> None:
        self._embedded: Embedded | None = embedded
        self._process = os.getpid()
        self._id: str = value["id"]
        self.added: int = value["added"]
        self.changed: int = value["changed"]
        self.removed: int = value["removed"]
        self.kept: int = value["kept"]
        self.lost: tuple[str, ...] = tuple(value["lost"])
        """The first names that the device would lose."""
        self.unexportable: tuple[str, ...] = tuple(value["unexportable"])
        """The first names that the backup skipped when it was made."""

    def finalize(self) -> str:
        """Put it in place, all or nothing: the id of the job in the history."""
        embedded = self._taken()
        with _translated(embedded):
            return _carry_out(embedded, FinalizeRequest(self._id))

    def discard(self) -> None:
        """Remove it; the target stays as it is."""
        embedded = self._taken()
        with _translated(embedded):
            embedded.carry_out(DiscardRequest(self._id))

    def _taken(self) -> Embedded:
        if not self._is_of_this_process():
            raise BackupError("refused", "this preview belongs to the parent process: decide on it there")
        embedded, self._embedded = self._embedded, None
        if embedded is None:
            raise BackupError("refused", "this preview was finalized or discarded already")
        return embedded

    def _is_of_this_process(self) -> bool:
        """Return False in a child: it may not use the parent's connection to the journal."""
        return os.getpid() == self._process

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._embedded and self._is_of_this_process():
            self.discard()


def unpack_backup(password: str, path: FilePath, *, config: FilePath | None = None) -> Preview:
    """Open a backup, check all of it and unpack it beside its target, which does not change.

    The caller has to `finalize` or `discard` what comes back; the next start of an agent discards it, too.
    """
    file = Path(os.path.abspath(path))
    settings = _settings(config)
    target = str(file.parent)
    settings = settings.model_copy(update={"targets": {target: TargetSettings(path=file.parent)}})
    source = StorageOptions("local", {"local.target": target, "local.name": file.name})
    with _opened(settings) as embedded, _translated():
        embedded.carry_out(RestoreRequest(source=source, preview=True, key=SecretStr(password)))
        value = embedded.preview()
        assert value
        if value["state"] != "waiting":
            raise BackupError(value["code"], value["message"])
    return Preview(embedded, value)


def _settings(config: FilePath | None) -> Settings:
    if not names_are_utf8():
        raise BackupError(
            "refused",
            f"this program's locale has the encoding {sys.getfilesystemencoding()}, and file names in a"
            " backup are UTF-8: set PYTHONUTF8=1 or LC_ALL=C.UTF-8 in its environment",
        )
    try:
        return load({}, Path(config) if config else None, os.environ).settings
    except SettingsError as error:
        raise BackupError("refused", str(error)) from error


@contextmanager
def _translated(closing: Embedded | None = None) -> Iterator[None]:
    """Raise a `BackupError` for all that is refused or fails; close `closing` at the end."""
    try:
        yield
    except Refused as error:
        raise BackupError("refused", error.message) from error
    except JobError as error:
        raise BackupError(error.code, str(error)) from error
    except JournalBroken as error:
        raise BackupError("io-error", str(error)) from error
    except JournalError as error:
        raise BackupError("no-space", "the journal cannot be written: its disk is full or fails") from error
    finally:
        if closing:
            closing.close()


@contextmanager
def _opened(settings: Settings) -> Iterator[Embedded]:
    """Open the engine, and close it when an error leaves the block."""
    try:
        embedded = Embedded(settings)
    except StorageUnusable as error:
        raise BackupError("busy", str(error)) from error
    except NewerJournal as error:
        raise BackupError("refused", str(error)) from error
    except (OSError, JournalError) as error:
        raise BackupError("io-error", f"cannot use the storage '{settings.storage}'") from error
    try:
        yield embedded
    except BaseException:
        embedded.close()
        raise


def _carry_out(embedded: Embedded, request: Request) -> str:
    """Carry out a job, and return its id. Raises `BackupError` when it fails."""
    job_id = embedded.carry_out(request)
    entry = embedded.entry(job_id)
    if entry["state"] != "FINISHED":
        raise BackupError(entry["statusCode"], entry["message"])
    return job_id


def _unexportable_in(file: str, password: str, settings: Settings) -> tuple[Unexportable, ...]:
    """Return the skipped entries that the archive's manifest names."""
    with _translated(), disk_errors(f"cannot read '{file}'"), open(file, "rb") as archive:
        unlock = unlock_for(SecretStr(password), settings.encryption)
        manifest = open_archive(archive, unlock).manifest()
        assert manifest
        return tuple(Unexportable(each.name, each.reason) for each in manifest.unexportable)
