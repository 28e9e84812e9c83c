"""The errors that end a job. `code` goes to the twin as `lastOperation.statusCode`.

The texts are composed by the agent: they hold no secret."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import ClassVar

from providers.errors import WRITABLE_HINT, Suspended


class JobError(Exception):
    """Base of the expected errors of a job."""

    code: ClassVar[str] = "failed"


class Cancelled(JobError):
    """The job was cancelled. An `Exception` on purpose: a BaseException in a cloud SDK's thread makes an
    upload return success with nothing stored."""

    code = "cancelled"


class Interrupted(Cancelled, Suspended):
    """The agent stops a transfer that it will continue: a provider leaves it as it is."""


class AccessForbidden(JobError):
    """A path is missing, is no directory, or lies outside what the access mode allows."""

    code = "access-forbidden"


class ArchiveError(JobError):
    """The archive cannot be read, is damaged, or names something that must not be restored."""

    code = "archive-invalid"


class NotInArchive(JobError):
    """The archive does not hold what the command restores."""

    code = "not-found"


OF_ANOTHER_DEVICE = "one of another device is named by its id ('restore.fromDevice')"
"""The hint where nothing is found: the settings may put each device into a directory of its own."""


class NoRepository(JobError):
    """There is no repository at the destination: no backup has made it yet, or it is elsewhere."""

    code = "not-found"


class NoneChosen(JobError):
    """The command names no archive, and the agent cannot tell which one it means."""

    code = "none-chosen"


class ManifestBroken(JobError):
    """The archive's manifest is damaged."""

    code = "manifest-broken"


class NewerFormat(JobError):
    """A later agent made the archive, in a format that this one does not know."""

    code = "newer-format"


class ForeignArchive(JobError):
    """Another device made the archive, and neither command nor settings allow it (`restore.foreign`)."""

    code = "foreign-archive"


class Encrypted(JobError):
    """The archive is encrypted, and the command has neither passcode nor identity."""

    code = "sealed"


class NotEncrypted(JobError):
    """A passcode or an identity was given for an archive without encryption: it may be a foreign one."""

    code = "not-sealed"


class WrongKey(JobError):
    """The archive is encrypted, and the given passcode or identity does not open it."""

    code = "wrong-key"


class EncryptionBroken(JobError):
    """The encrypted archive was cut or altered."""

    code = "seal-broken"


class WorkFactorTooHigh(JobError):
    """Opening the archive would take more memory than the device gives."""

    code = "seal-too-hard"


class RepositoryBusy(JobError):
    """Another program holds the exclusive lock of the repository: it prunes or checks it."""

    code = "repository-busy"


class RepositoryLost(JobError):
    """The repository exists, but the device has no state of its own for it and no right to read it."""

    code = "repository-lost"


class RepositoryForeign(JobError):
    """The repository belongs to another device."""

    code = "repository-foreign"


class RepositoryBroken(ArchiveError):
    """A file of the repository is damaged, contradicts another one, or is no file of a repository."""

    code = "repository-broken"


class ClockWrong(JobError):
    """The device's clock is before the release of the agent: a snapshot would have a wrong time."""

    code = "clock-wrong"


class NoSpace(JobError):
    """The device's own disk is full, or would be."""

    code = "no-space"


class IoError(JobError):
    """The device's own disk fails: EIO, read-only, a mount point in the way."""

    code = "io-error"


class NotTakenBack(IoError):
    """A restore failed, and the disk does not yet allow the old data to be put back."""


class LeftToRecovery(NotTakenBack):
    """A restore was cancelled, and ends before all of it is undone: the recovery goes on."""


class WorkGone(IoError):
    """Somebody removed the working directory that a restore had made in its target."""


class SourceChanged(JobError):
    """With `strictBackup`: a file was skipped or changed while it was read."""

    code = "incomplete"


class HookFailed(JobError):
    """A command around the job ended with an error or ran out of time."""

    code = "hook-failed"


class NotConfirmed(JobError):
    """A commit-confirmed restore was not confirmed in time."""

    code = "not-confirmed"


class HealthFailed(JobError):
    """The health check failed after a restore."""

    code = "health-failed"


class ConfirmationPending(JobError):
    """The agent stops while a restore waits to be confirmed: the job has not ended."""

    code = "interrupted"


class ProviderBug(JobError):
    """A provider raised what it must not raise. The original is chained, for the log only."""

    code = "provider.bug"


_PROTECTED_HINT = " (is it immutable, or only for appending? 'lsattr' shows that)"
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


@contextmanager
def disk_errors(what: str) -> Iterator[None]:
    """Raise `NoSpace` or `IoError` for an OSError of the device's own disk; `what` begins the message."""
    try:
        yield
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else "input/output error"
        if error.errno == errno.EROFS:
            reason += WRITABLE_HINT
        if error.errno == errno.EPERM:
            reason += _PROTECTED_HINT
        kind = NoSpace if error.errno in _FULL else IoError
        raise kind(f"{what}: {reason}") from error
