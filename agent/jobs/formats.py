"""The format and the encryption of archives, as the request and the settings ask for them.

Decided before the command is accepted.
"""

import os
from collections.abc import Mapping
from importlib import metadata
from typing import TYPE_CHECKING

from pydantic import SecretBytes, SecretStr

from agent.base.refusals import Reason, Refused
from agent.base.text import composed
from agent.jobs.requests.options import Key, invalid_option
from agent.jobs.requests.restore import ArchiveKey
from agent.jobs.requests.storage import StorageOptions
from agent.jobs.staging import states_of
from agent.settings import Settings
from agent.settings.group_defaults import EncryptionSettings
from agent.settings.stores import NO_RECIPIENTS

if TYPE_CHECKING:
    from agent.formats.base import Encryption, Format, PruneFormat, ReadFormat, SaveFormat, Unlock
    from agent.formats.entry_checks import ArchiveLimits
    from agent.formats.zip.writer import ArchiveOptions

MAX_THREADS = 4
_NEEDED_VERSION = 47
"""Of `cryptography`: as the extra says, but another one may have brought an older one."""


def archive_format(settings: Settings, level: str | None = None) -> "Format":
    """Return the format of archives. The format is chosen here and nowhere else."""
    from agent.formats.zip.format import Zip

    return Zip(archive_options(settings, level))


def save_format(
    destination: StorageOptions | None, settings: Settings, level: str | None = None
) -> "SaveFormat":
    """Return the format in which a backup to this destination is saved; `level` overrides the setting."""
    if destination is None or destination.repository is None:
        return archive_format(settings, level)
    from agent.formats.repository.format import Repository

    password = destination.repository.password.get_secret_value()
    given = settings.repository
    return Repository(password, states_of(settings.storage), given.trust_for, given.prune_window)


def read_format(source: StorageOptions, settings: Settings) -> "ReadFormat":
    if source.repository is None:
        return archive_format(settings)
    from agent.formats.repository.snapshots import Snapshots

    password = source.repository.password.get_secret_value()
    return Snapshots(
        password, states_of(settings.storage), settings.restore.max_files, settings.storage_reserve
    )


def prune_format(source: StorageOptions, settings: Settings, device_id: str) -> "PruneFormat":
    """Return the format in which old archives of this destination are removed."""
    if source.repository is None:
        return archive_format(settings)
    from agent.formats.repository.snapshots import PrunedSnapshots

    return PrunedSnapshots(
        source.repository.password.get_secret_value(),
        states_of(settings.storage),
        settings.restore.max_files,
        settings.storage_reserve,
        host=device_id,
        most_unused_percent=settings.repository.max_unused,
    )


def repository_remains(settings: Settings) -> Mapping[str, int]:
    """Return how many objects interrupted jobs left in repositories, by kind; nothing for none."""
    states = states_of(settings.storage)
    if not states.is_dir():
        return {}
    from agent.formats.repository.remains import remains_in

    return {kind: number for kind, number in remains_in(states)._asdict().items() if number}


def archive_options(settings: Settings, level: str | None = None) -> "ArchiveOptions":
    """Return `archive.*`; by default a thread for each core, and at most four."""
    from agent.formats.zip.writer import ArchiveOptions

    archive = settings.archive
    threads = archive.threads or min(os.cpu_count() or 1, MAX_THREADS)
    # Often the only directory that the agent may write to.
    return ArchiveOptions(
        level or archive.level, archive.dialect, threads, scratch=os.fspath(settings.storage.absolute())
    )


def archive_limits(settings: Settings) -> "ArchiveLimits":
    from agent.formats.entry_checks import ArchiveLimits

    limits = settings.restore
    return ArchiveLimits(max_files=limits.max_files, max_bytes=limits.max_size, max_ratio=limits.max_ratio)


def encryption_for(
    passcode: SecretStr | None, destination: StorageOptions | None, settings: EncryptionSettings
) -> "Encryption | None":
    """Return how the archive of a backup is encrypted; None when nobody asks for it. Raises `Refused`."""
    from agent.formats.base import Encryption

    if destination and destination.repository:
        _refuse_for_repository(passcode, destination.store, settings)
    if passcode is None and not settings.recipients:
        return None
    if passcode is not None and settings.recipients:
        raise invalid_option(
            Key.BACKUP_PASSCODE, "is of no use: this device encrypts for 'encryption.recipients' alone"
        )
    _refuse_without_extra()
    text = None if passcode is None else composed(passcode.get_secret_value())
    return Encryption(tuple(settings.recipients), text, settings.work_factor)


def _refuse_for_repository(passcode: SecretStr | None, store: str, settings: EncryptionSettings) -> None:
    """Raise `Refused` for another key than the repository's password, which encrypts all of it."""
    if passcode is not None:
        why = f"is for one archive; store '{store}' keeps a repository, which has a password of its own"
        raise invalid_option(Key.BACKUP_PASSCODE, why)
    if settings.recipients:
        raise Refused(Reason.CANNOT, f"store '{store}': {NO_RECIPIENTS}")


def unlock_for(key: ArchiveKey | None, settings: EncryptionSettings) -> "Unlock":
    """Return what opens an archive. Raises `Refused`."""
    from agent.formats.base import Unlock

    if key is None:
        return Unlock(max_work_factor=settings.max_work_factor)
    _refuse_without_extra()
    if isinstance(key, SecretBytes):
        return Unlock((), key.get_secret_value(), settings.max_work_factor)
    # As given, too: what encrypted the archive may not have normalised it.
    passcodes = tuple(dict.fromkeys((composed(key.get_secret_value()), key.get_secret_value())))
    return Unlock(passcodes, None, settings.max_work_factor)


def _refuse_without_extra() -> None:
    try:
        version = int(metadata.version("cryptography").partition(".")[0])
    except metadata.PackageNotFoundError:
        version = 0
    if version < _NEEDED_VERSION:
        message = "encryption is not installed on this device: install edge-backup-agent[encryption]"
        raise Refused(Reason.CANNOT, message)
