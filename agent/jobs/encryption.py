"""Encryption as a request and the settings ask for it: for whom an archive is encrypted, what opens one.

Decided before the command is accepted.
"""

from importlib import metadata
from typing import TYPE_CHECKING

from pydantic import SecretBytes, SecretStr

from agent.base.refusals import Reason, Refused
from agent.base.text import composed
from agent.jobs.requests.options import Key, invalid_option
from agent.jobs.requests.restore import ArchiveKey
from agent.jobs.requests.storage import StorageOptions
from agent.settings import EncryptionSettings
from agent.settings.stores import NO_RECIPIENTS

if TYPE_CHECKING:
    from agent.formats.base import Encryption, Unlock

_NEEDED_VERSION = 47
"""Of `cryptography`: as the extra says, but another one may have brought an older one."""


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
