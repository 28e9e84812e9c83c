"""The guard around every provider: distrust of its answers, and a cancel that ends every wait at once."""

import itertools
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import Any

import pytest

from agent.base.errors import Cancelled, ProviderBug
from agent.transfer.cancel import CancelToken
from agent.transfer.guarded_storage import MOST_LISTED, GuardedStorage
from agent.transfer.retry import RetryLimits
from providers.api import Capability, Checkpoint, Sink, Source, Storage, Stored
from providers.errors import (
    AccessDenied,
    AlreadyThere,
    Expired,
    Rejected,
    StorageError,
    UnknownOutcome,
    Unreachable,
)
from providers.testing.streams import BytesSource, FailingSource, MemorySink
from tests.support.fakes import Fault, MemoryStorage

QUICK = RetryLimits(attempts=5, total_s=60, longest_pause_s=0.001)


def guarded(
    storage: Storage, token: CancelToken | None = None, limits: RetryLimits = QUICK
) -> GuardedStorage:
    return GuardedStorage(storage, limits, token or CancelToken())


class Endless(MemoryStorage):
    """A hostile server: its list has no end. `met` is called with each name."""

    def __init__(self, met: Callable[[int], None] = lambda _number: None) -> None:
        super().__init__()
        self._met = met

    def list(self, prefix: str, /) -> Iterator[Stored]:
        for number in itertools.count():
            self._met(number)
            yield Stored(f"{prefix}{number}", 1)


def test_a_list_that_does_not_end_ends_with_the_cancel() -> None:
    token = CancelToken()
    storage = Endless(lambda number: token.cancel("enough") if number == 10 else None)
    with pytest.raises(Cancelled, match="enough"):
        guarded(storage, token).list("")


def test_a_list_that_does_not_end_ends_with_the_total_time() -> None:
    """Retries do not begin it anew: the time is that of all attempts."""
    storage = Endless()
    with pytest.raises(Unreachable, match=r"transfer\.totalTime"):
        guarded(storage, limits=RetryLimits(attempts=5, total_s=0.05)).list("", wanted=lambda _name: False)


def test_a_list_takes_no_more_memory_than_one_of_the_longest() -> None:
    with pytest.raises(Rejected, match=str(MOST_LISTED)):
        guarded(Endless()).list("")


def test_a_list_has_only_names_that_are_wanted_and_that_may_be() -> None:
    """A name from a far side is not handed on before it was checked."""
    storage = MemoryStorage(
        {"a.zip": b"1", "b.txt": b"22", "../../etc/a.zip": b"", "/a.zip": b"", "c//a.zip": b""}
    )
    found = guarded(storage).list("", wanted=lambda name: name.endswith(".zip"))
    assert list(found) == [Stored("a.zip", 1)]


def test_a_list_that_breaks_off_is_begun_again() -> None:
    storage = MemoryStorage({"a.zip": b"1"}, [Fault(Unreachable("a")), Fault(Unreachable("b"))])
    assert [stored.name for stored in guarded(storage).list("")] == ["a.zip"]
    assert storage.calls == 3


def _bug(*_arguments: object) -> None:
    raise KeyError("bug")


def test_what_a_provider_must_not_raise_is_its_bug_in_every_method() -> None:
    """A discard and a close, too: nothing that a provider does ends a job in a way of its own."""

    class Broken(MemoryStorage):
        capabilities = frozenset(Capability)

        def __getattribute__(self, name: str) -> Any:
            if name in {"put", "get", "list", "stat", "delete", "read_range", "discard", "location", "close"}:
                return _bug
            return super().__getattribute__(name)

    storage = guarded(Broken())
    calls: list[Callable[[], object]] = [
        lambda: storage.put("a", BytesSource(b"x"), {}, {}),
        lambda: storage.get("a", MemorySink(), {}),
        lambda: storage.list(""),
        lambda: storage.stat("a"),
        lambda: storage.delete("a"),
        lambda: storage.read_range("a", 0, 1),
        lambda: storage.discard({}),
        lambda: storage.location("a"),
        storage.close,
    ]
    for call in calls:
        with pytest.raises(ProviderBug):
            call()


def test_a_provider_that_fetched_less_than_it_says_is_not_believed() -> None:
    class Boastful(MemoryStorage):
        def get(self, name: str, sink: Sink, checkpoint: Checkpoint, /) -> Stored:
            return replace(super().get(name, sink, checkpoint), size_bytes=1000)

    with pytest.raises(ProviderBug):
        guarded(Boastful({"a": b"x"})).get("a", MemorySink(), {})


def test_what_a_stream_raised_comes_out_whatever_the_provider_makes_of_it() -> None:
    """It is not tried again: a stream that failed would look as if it had ended."""

    class Disguising(MemoryStorage):
        def put(self, name: str, source: Source, metadata: Any, checkpoint: Checkpoint, /) -> Stored:
            self.calls += 1
            try:
                return super().put(name, source, metadata, checkpoint)
            except KeyError as error:
                raise Unreachable("the connection broke") from error

    storage, error = Disguising(), KeyError("in the writer")
    with pytest.raises(KeyError) as caught:
        guarded(storage).put("a", FailingSource(b"abc", 2, error, streamed=True), {}, {})
    assert caught.value is error
    assert storage.objects == {}


def test_a_discard_runs_after_a_cancel_and_once() -> None:
    """The guard discards the bytes of a cancelled job, and does not wait for a far side that is gone."""
    discards: list[str] = []

    class Discarding(MemoryStorage):
        def discard(self, checkpoint: Checkpoint, /) -> None:
            discards.append("once")
            raise Unreachable("gone")

    token = CancelToken()
    token.cancel("enough")
    with pytest.raises(Unreachable):
        guarded(Discarding(), token).discard({})
    assert discards == ["once"]


class Creating(MemoryStorage):
    """Keeps created objects; the errors of `raised` come one after the other, once the object is stored."""

    capabilities = frozenset({Capability.CREATE})

    def __init__(self, objects: dict[str, bytes], raised: Iterable[StorageError]) -> None:
        super().__init__(objects)
        self._raised = iter(raised)

    def create(self, name: str, content: bytes | bytearray, /) -> Stored:
        if name in self.objects:
            raise AlreadyThere("x")
        self.objects[name] = bytes(content)
        for error in self._raised:
            raise error
        return Stored(name, len(content))


@pytest.mark.parametrize("lost", [UnknownOutcome("lost"), Unreachable("HTTP 500")], ids=["lost", "500"])
def test_an_object_whose_answer_was_lost_counts_as_stored(lost: StorageError) -> None:
    storage = Creating({}, [lost])
    stored = GuardedStorage(storage, QUICK, CancelToken()).create("locks/1", b"content")
    assert (stored.name, stored.size_bytes) == ("locks/1", 7)
    assert storage.objects == {"locks/1": b"content"}


def test_an_object_that_was_there_before_the_first_try_is_told() -> None:
    storage = Creating({"config": b"somebody else's"}, [])
    with pytest.raises(AlreadyThere):
        GuardedStorage(storage, QUICK, CancelToken()).create("config", b"ours")


class CreateOnly(Creating):
    """Refuses whatever concerns an object that is there, as Azure with the right to create alone."""

    def create(self, name: str, content: bytes | bytearray, /) -> Stored:
        if name in self.objects:
            raise self.refusal
        return super().create(name, content)

    refusal: StorageError = AccessDenied("403")


def test_a_refusal_after_a_lost_answer_shows_that_the_object_is_there() -> None:
    storage = CreateOnly({}, [UnknownOutcome("lost")])
    assert GuardedStorage(storage, QUICK, CancelToken()).create("locks/1", b"1").size_bytes == 1


@pytest.mark.parametrize(
    ("first", "refusal"),
    [
        (None, AccessDenied("403")),
        (Unreachable("no connection"), AccessDenied("403")),
        (UnknownOutcome("lost"), Expired("old")),
    ],
    ids=["first try", "nothing was sent", "expired"],
)
def test_another_refusal_is_one(first: StorageError | None, refusal: StorageError) -> None:
    """A pack that is believed to be stored and is not makes a broken repository."""
    storage = CreateOnly({} if first else {"locks/1": b""}, [first] if first else [])
    storage.refusal = refusal
    with pytest.raises(AccessDenied):
        GuardedStorage(storage, QUICK, CancelToken()).create("locks/1", b"1")


def test_a_provider_that_stored_less_than_the_object_is_found_out() -> None:
    class Short(Creating):
        def create(self, name: str, content: bytes | bytearray, /) -> Stored:
            return Stored(name, len(content) - 1)

    with pytest.raises(ProviderBug):
        GuardedStorage(Short({}, []), QUICK, CancelToken()).create("config", b"ours")
