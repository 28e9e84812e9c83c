"""The errors of providers, and the translation of foreign errors into them.

Each error has a stable `code`, which ends up in the twin (`lastOperation.statusCode`), and says whether
trying again can help. Messages are composed here or by the provider from facts of the agent's own
side. The text of a foreign exception is chained and never copied: it may hold a URL with secrets.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import ClassVar

from providers.http_fields import retry_after_s

WRITABLE_HINT = " (with systemd, 'ReadWritePaths=' of the unit says where the agent may write)"
"""The end of messages about a file system that is read-only."""


class StorageError(Exception):
    """Base of the errors of providers. The text is for people and holds no secret."""

    code: ClassVar[str] = "storage-error"
    retryable: ClassVar[bool] = False

    def __init__(self, message: str, *, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class BadOptions(StorageError):
    """Options that cannot be used. `problems` maps every wrong key to what was expected; no values."""

    code = "bad-options"

    def __init__(self, problems: Mapping[str, str]) -> None:
        super().__init__("; ".join(f"option '{key}' {problem}" for key, problem in sorted(problems.items())))
        self.problems = dict(problems)


class AccessDenied(StorageError):
    """Credentials are missing, wrong, expired or too weak (401, 403)."""

    code = "access-denied"


class Expired(AccessDenied):
    """Credentials have expired: with new ones the transfer can continue."""


class NotAllowed(StorageError):
    """A setting of the device (`allow.*`) refuses the destination. Nothing was sent there."""

    code = "not-allowed"


class Suspended(StorageError):
    """Raised by the agent's stream, never by a provider: the transfer continues later from its checkpoint."""

    code = "interrupted"


class NotFound(StorageError):
    """The object, bucket or container does not exist (404, 410)."""

    code = "not-found"


class NoBucket(NotFound):
    """The bucket or container itself does not exist: nothing can be stored there either."""


class TargetAbsent(NotFound):
    """A local target is not there: the stick is not plugged in."""

    code = "target-absent"


class NoSpace(StorageError):
    """The far side, or a local target, is full (ENOSPC, EDQUOT, 507)."""

    code = "no-space"


class IoError(StorageError):
    """A local target fails in another way (EIO, EROFS, ENODEV)."""

    code = "io-error"


class Rejected(StorageError):
    """The far side understood and refused for good (other 4xx)."""

    code = "rejected"


class AlreadyThere(Rejected):
    """An object has this name already, and only a new one may be made (409, 412)."""

    code = "already-there"


class TooLarge(Rejected):
    """The archive is larger than the store can keep (413, VFAT's 4 GiB, S3's part count)."""

    code = "too-large"


class Unreachable(StorageError):
    """DNS, TCP or TLS failed, time ran out, or the far side is busy (408, 429, 5xx)."""

    code = "unreachable"
    retryable = True


class UnknownOutcome(Unreachable):
    """The connection broke after everything was sent: the far side may have stored it."""

    code = "unknown-outcome"


class Corrupted(StorageError):
    """Length or hash differ from what was announced. Tried again once."""

    code = "corrupted"
    retryable = True


Classify = Callable[[BaseException], StorageError]


def means(kind: type[StorageError], message: str) -> Classify:
    """Return a classifier that makes one error of every exception."""
    return lambda _: kind(message)


@contextmanager
def translating(table: Mapping[type[BaseException], Classify]) -> Iterator[None]:
    """Raise the error that `table` makes of a foreign exception, chained to it.

    The most derived class in the table wins. A `StorageError` and exceptions that are not in the table pass
    unchanged, as those of the agent's streams must.
    """
    try:
        yield
    except StorageError:
        raise
    except BaseException as error:
        for kind in type(error).__mro__:
            if classify := table.get(kind):
                raise classify(error) from error
        raise


_BY_STATUS: Mapping[int, type[StorageError]] = {
    **dict.fromkeys((401, 403, 407), AccessDenied),
    **dict.fromkeys((404, 410), NotFound),
    **dict.fromkeys((408, 425, 429), Unreachable),
    413: TooLarge,
    **dict.fromkeys((501, 505), Rejected),  # the server has no such method or version of HTTP
    507: NoSpace,
}


def from_http_status(
    status: int,
    what: str,
    headers: Mapping[str, str],
    known: tuple[type[StorageError], str] | None = None,
) -> StorageError:
    """Return the error for an HTTP `status` outside 200-299.

    `what` names request and URL, without secrets. `headers` ignore letter case. `known` is the error, with
    its text, that the far side's own code stands for.
    """
    by_status = _BY_STATUS.get(status, Unreachable if status >= 500 else Rejected)
    kind, text = known or (by_status, f"HTTP {status}")
    return kind(f"{what}: {text}", retry_after_s=retry_after_s(headers, datetime.now(UTC)))
