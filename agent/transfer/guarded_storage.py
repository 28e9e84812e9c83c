"""A wrapper around any provider: it retries, checks the answers, and stops when the job is cancelled."""

from collections.abc import Callable, Iterator, Mapping, MutableMapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import TypeVar

from agent.base.errors import JobError, ProviderBug
from agent.base.redaction import holds_secret
from agent.transfer.cancel import CancelToken
from agent.transfer.retry import RetryLimits, with_retries
from providers.api import Capability, Checkpoint, Piece, Sink, Source, Storage, Stored, check_name
from providers.errors import (
    AccessDenied,
    AlreadyThere,
    BadOptions,
    Expired,
    Rejected,
    StorageError,
    UnknownOutcome,
    Unreachable,
)

Result = TypeVar("Result")

MOST_LISTED = 100_000
"""Most objects of one list: more are no archives of one device, and would fill its memory."""


class GuardedStorage(Storage):
    """A storage whose errors and answers are checked; used by one thread.

    Every method with I/O, except `discard` and `close`, is tried again after a retryable error and raises
    `Cancelled` once the token is set. Every method raises `ProviderBug` for what a provider must not raise
    (rule 8 of `providers.api`) and for an answer that cannot be true.
    """

    def __init__(
        self,
        storage: Storage,
        retries: RetryLimits,
        token: CancelToken,
        secrets: frozenset[str] = frozenset(),
    ) -> None:
        """ETags and checkpoints that repeat one of the `secrets` are replaced by an empty text."""
        self.capabilities = storage.capabilities
        self._storage, self._retries, self._token, self._secrets = storage, retries, token, secrets

    def put(
        self, name: str, source: Source, metadata: Mapping[str, str], checkpoint: Checkpoint, /
    ) -> Stored:
        heard, cleared = _Heard(source), _Cleared(checkpoint, self._secrets)

        def attempt() -> Stored:
            if source.rewindable:
                source.seek(0)
            stored = self._asked(lambda: self._storage.put(name, heard, metadata, cleared), heard)
            _check_whole(stored, source)
            return self._cleared(stored)

        def possible() -> bool:
            return source.rewindable or source.tell() == 0 or Capability.RESUME_STREAM in self.capabilities

        return self._retried(attempt, possible)

    def create(self, name: str, content: bytes | bytearray, /) -> Stored:
        earlier: list[StorageError] = []

        def attempt() -> Stored:
            try:
                stored = self._asked(lambda: self._storage.create(name, content))
            except StorageError as error:
                if _was_stored(error, earlier):
                    return Stored(name, len(content), place=self.location(name))
                earlier.append(error)
                raise
            if stored.size_bytes != len(content):
                raise ProviderBug("the provider reports another length than it was given")
            return self._cleared(stored)

        return self._retried(attempt)

    def get(self, name: str, sink: Sink, checkpoint: Checkpoint, /) -> Stored:
        cleared = _Cleared(checkpoint, self._secrets)

        def attempt() -> Stored:
            stored = self._asked(lambda: self._storage.get(name, sink, cleared))
            if stored.size_bytes != sink.tell():
                raise ProviderBug("the provider reports another length than it fetched")
            return self._cleared(stored)

        return self._retried(attempt)

    def list(self, prefix: str, /, wanted: Callable[[str], bool] = lambda _name: True) -> Iterator[Stored]:
        """Yield the objects whose names begin with `prefix` and are `wanted`.

        Leaves out names that no archive may have. Raises `Rejected` for more than `MOST_LISTED`, and
        `Unreachable` when the list takes longer than all attempts may.
        """

        def attempt() -> Sequence[Stored]:
            return self._asked(lambda: self._listed(prefix, wanted))

        late = Unreachable(f"the list does not end within {self._retries.total_s:.0f} s (transfer.totalTime)")
        with self._token.within(self._retries.total_s, late):
            return iter(self._retried(attempt))

    def stat(self, name: str, /) -> Stored:
        return self._cleared(self._retried(lambda: self._asked(lambda: self._storage.stat(name))))

    def delete(self, name: str, /) -> None:
        self._retried(lambda: self._asked(lambda: self._storage.delete(name)))

    def read_range(self, name: str, offset: int, size_bytes: int, /) -> Piece:
        return self._retried(lambda: self._asked(lambda: self._storage.read_range(name, offset, size_bytes)))

    def discard(self, checkpoint: Checkpoint, /) -> None:
        """Discard also after a cancel, and without retries: cleaning up is not worth a wait."""
        self._asked(lambda: self._storage.discard(checkpoint))

    def location(self, name: str, /) -> str:
        with _distrusting():
            return self._storage.location(name)

    def preflight(self, writing: bool, /) -> None:
        with _distrusting():
            self._storage.preflight(writing)

    def close(self) -> None:
        self._asked(self._storage.close)

    def _listed(self, prefix: str, wanted: Callable[[str], bool]) -> Sequence[Stored]:
        found = []
        for stored in self._storage.list(prefix):
            self._token.check()
            if stored.name.startswith(prefix) and wanted(stored.name) and _may_be_named(stored.name):
                found.append(self._cleared(stored))
            if len(found) > MOST_LISTED:
                raise Rejected(f"the list has more than {MOST_LISTED} archives")
        return found

    def _cleared(self, stored: Stored) -> Stored:
        return replace(stored, etag="") if holds_secret(stored.etag, self._secrets) else stored

    def _asked(self, call: Callable[[], Result], heard: "_Heard | None" = None) -> Result:
        """Call the provider once."""
        with _distrusting(heard), self._token.lent():
            return call()

    def _retried(self, attempt: Callable[[], Result], possible: Callable[[], bool] = lambda: True) -> Result:
        return with_retries(attempt, self._retries, self._token, possible)


class _Cleared(MutableMapping[str, str]):
    """A checkpoint that empties values with a secret in them: a far side can send one as its ETag."""

    def __init__(self, checkpoint: Checkpoint, secrets: frozenset[str]) -> None:
        self._checkpoint, self._secrets = checkpoint, secrets

    def __getitem__(self, key: str) -> str:
        return self._checkpoint[key]

    def __setitem__(self, key: str, value: str) -> None:
        self._checkpoint[key] = "" if holds_secret(value, self._secrets) else value

    def __delitem__(self, key: str) -> None:
        del self._checkpoint[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._checkpoint)

    def __len__(self) -> int:
        return len(self._checkpoint)


class _Heard:
    """A source that remembers what it raised, so that a provider cannot swallow it."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self.size, self.rewindable, self.md5 = source.size, source.rewindable, source.md5
        self.failure: Exception | None = None

    def read(self, n: int = -1, /) -> bytes:
        try:
            return self._source.read(n)
        except Exception as error:
            self.failure = error
            raise

    def seek(self, offset: int, whence: int = 0, /) -> int:
        return self._source.seek(offset, whence)

    def tell(self) -> int:
        return self._source.tell()


@contextmanager
def _distrusting(heard: _Heard | None = None) -> Iterator[None]:
    """Raise the error of the source, even if the provider hid it, and `ProviderBug` for a forbidden error."""
    try:
        yield
    except Exception as error:
        if heard and heard.failure:
            raise heard.failure from None if heard.failure is error else error
        if isinstance(error, JobError | StorageError):
            raise
        raise ProviderBug("the provider failed in a way it should not: see the device's log") from error
    # An SDK may swallow what the stream raised, and report success with nothing stored.
    if heard and heard.failure:
        raise heard.failure


def _was_stored(error: StorageError, earlier: Sequence[StorageError]) -> bool:
    """Return True when a refusal shows that an earlier attempt stored the object and its answer was lost.

    With the right to create alone, Azure refuses to look at an object that is there: 403.
    """
    if isinstance(error, AlreadyThere):
        return bool(earlier)
    refused = isinstance(error, AccessDenied) and not isinstance(error, Expired)
    return refused and any(isinstance(each, UnknownOutcome) for each in earlier)


def _check_whole(stored: Stored, source: Source) -> None:
    """Raise `ProviderBug` when less was stored than the source has."""
    whole = source.tell() if source.size is None else source.size
    if stored.size_bytes != whole or (source.size is None and source.read(1)):
        raise ProviderBug(f"the provider stored {stored.size_bytes} bytes, which is not all of the archive")


def _may_be_named(name: str) -> bool:
    try:
        check_name(name)
    except BadOptions:
        return False
    return True
