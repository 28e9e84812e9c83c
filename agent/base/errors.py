"""What ends a job. `code` goes to the twin as `lastOperation.statusCode`; the text is composed by us."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import ClassVar

from providers.errors import Suspended


class JobError(Exception):
    """Base of the expected ways for a job to fail. The text is for people and holds no secret."""

    code: ClassVar[str] = "failed"


class Cancelled(JobError):
    """Somebody asked for it. An `Exception` on purpose: raised as a BaseException inside a cloud SDK's
    thread, an upload returns success with nothing stored."""

    code = "cancelled"


class Interrupted(Cancelled, Suspended):
    """The agent itself stops something that it is going to continue: a provider leaves it as it is."""


class AccessForbidden(JobError):
    """A directory is missing, is none, or lies outside what the access mode allows."""

    code = "access-forbidden"


class ArchiveError(JobError):
    """The archive cannot be read, is damaged, or names something that must not be restored."""

    code = "archive-invalid"


class NotInArchive(JobError):
    """What was to be restored is not in the archive."""

    code = "not-found"


class NoneChosen(JobError):
    """The command names no archive, and which one it means cannot be known."""

    code = "none-chosen"


class ManifestBroken(JobError):
    """The archive's manifest is damaged."""

    code = "manifest-broken"


class NewerFormat(JobError):
    """The archive was made by a later agent, in a way that this one does not know."""

    code = "newer-format"


class ForeignArchive(JobError):
    """Another device made the archive, and nobody said that it may be restored here."""

    code = "foreign-archive"


class Encrypted(JobError):
    """The archive is encrypted, and nothing was given to open it."""

    code = "sealed"


class NotEncrypted(JobError):
    """Something was given to open the archive, and it is not encrypted: it may be somebody else's."""

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


class NoSpace(JobError):
    """The device's own disk is full, or would be."""

    code = "no-space"


class IoError(JobError):
    """The device's own disk fails: EIO, read-only, a mount point in the way."""

    code = "io-error"


class NotTakenBack(IoError):
    """A restore failed, and the disk did not let the old data come back yet."""


class WorkGone(IoError):
    """Somebody removed what a restore had put aside in its target."""


class SourceChanged(JobError):
    """With `strictBackup`: something could not be saved as it was."""

    code = "incomplete"


class HookFailed(JobError):
    """A command around the job ended with an error or ran out of time."""

    code = "hook-failed"


class NotConfirmed(JobError):
    """An unconfirmed restore was not confirmed in time."""

    code = "not-confirmed"


class HealthFailed(JobError):
    """The device was not well with what was restored."""

    code = "health-failed"


class ConfirmationPending(JobError):
    """The agent stops while a restore is on trial: that is not its end."""

    code = "interrupted"


class ProviderBug(JobError):
    """A provider raised what it must not raise. The original is chained, for the log only."""

    code = "provider.bug"


_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


@contextmanager
def disk_errors(what: str) -> Iterator[None]:
    """Raise `NoSpace` or `IoError` for an OSError of the device's own disk; `what` failed where."""
    try:
        yield
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else "input/output error"
        kind = NoSpace if error.errno in _FULL else IoError
        raise kind(f"{what}: {reason}") from error
