"""Rules 1 and 10 to 12 of `providers.api`, run over every provider on every server, and lists."""

import logging
import socket
import traceback
import tracemalloc
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from providers.api import Capability, Storage
from providers.errors import BadOptions, StorageError
from providers.testing.streams import BytesSource, FailingSource, GeneratedSource, HashingSink, MemorySink
from providers.testing.transfers import LARGE, NAME, SMALL, Stopped, opened, through_proxy
from providers.testing.under_test import ProviderUnderTest

# -- rule 1: the factory -------------------------------------------------------------------------------


def test_the_factory_opens_no_connection(under_test: ProviderUnderTest) -> None:
    def connect(host: str, port: int) -> socket.socket:
        raise AssertionError(f"connected to {host}:{port}")

    under_test.factory(under_test.options(NAME), replace(under_test.limits, connect=connect)).close()


def test_bad_options_name_every_wrong_key_and_no_value(under_test: ProviderUnderTest) -> None:
    for options, keys in under_test.bad_options():
        with pytest.raises(BadOptions) as raised:
            under_test.factory(options, under_test.limits)
        assert raised.value.problems.keys() == keys
        text = "".join(traceback.format_exception(raised.value))
        assert not [secret for secret in under_test.secrets if secret in text]


def test_options_of_other_providers_are_overlooked(under_test: ProviderUnderTest) -> None:
    options = {**under_test.options(NAME), "backup.dir": "/srv", "other.key": "x"}
    under_test.factory(options, under_test.limits).close()


# -- rule 10: memory -----------------------------------------------------------------------------------


def test_memory_does_not_grow_with_the_archive(under_test: ProviderUnderTest) -> None:
    size_bytes = 64 << 20
    sink = HashingSink()
    with opened(under_test) as storage:
        storage.put(NAME, GeneratedSource(1 << 20), {}, {})  # what is loaded only once
        tracemalloc.start()
        try:
            storage.put(NAME, GeneratedSource(size_bytes), {}, {})
            storage.get(NAME, sink, {})
            _, peak_bytes = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert sink.size_bytes == size_bytes
    assert peak_bytes < under_test.limits.buffer_bytes + (8 << 20)


# -- rules 11 and 12 -----------------------------------------------------------------------------------


def test_close_may_be_called_twice(under_test: ProviderUnderTest) -> None:
    storage = under_test.factory(under_test.options(NAME), under_test.limits)
    storage.close()
    storage.close()
    storage = under_test.factory(under_test.options(NAME), under_test.limits)
    storage.put(NAME, BytesSource(SMALL), {}, {})
    storage.close()
    storage.close()


def test_no_secret_is_in_a_repr_a_message_a_log_line_or_the_checkpoint(
    under_test: ProviderUnderTest, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    checkpoint: dict[str, str] = {}
    texts: list[str] = []
    caplog.set_level(logging.DEBUG)
    storage = under_test.factory(under_test.options(NAME), under_test.limits)
    texts += [repr(storage), str(storage)]
    texts.append(repr(storage.put(NAME, BytesSource(LARGE), {}, checkpoint)))
    texts.append(repr(storage.get(NAME, MemorySink(), checkpoint)))
    with pytest.raises(Stopped):
        storage.put(NAME, FailingSource(LARGE, 6_000_000, Stopped()), {}, checkpoint)
    texts.append(repr(checkpoint))
    texts += [words for error in failures(under_test) for words in all_words(error)]
    storage.close()
    printed = capfd.readouterr()
    texts += [caplog.text, printed.out, printed.err, *(repr(vars(record)) for record in caplog.records)]
    assert not [(secret, text) for secret in under_test.secrets for text in texts if secret in text]


def failures(under_test: ProviderUnderTest) -> list[BaseException]:
    """Return one error of each kind that any server gives."""
    errors: list[BaseException] = []

    def attempt(storage: Storage, name: str) -> None:
        try:
            storage.put(name, BytesSource(SMALL, size=80_000), {}, {})
        except StorageError as error:
            errors.append(error)
        try:
            storage.get(name, MemorySink(), {})
        except StorageError as error:
            errors.append(error)

    with opened(under_test, "missing.zip") as storage:
        attempt(storage, "missing.zip")
    if (denied := under_test.denied_options(NAME)) is not None:
        attempt(under_test.factory(denied, under_test.limits), NAME)
    if under_test.networked:
        with through_proxy(under_test) as (storage, proxy):
            for direction, after in (("up", 3_000), ("down", 3_000), ("up", 0)):
                proxy.reset_after = {"up": after} if direction == "up" else {"down": after}
                attempt(storage, NAME)
            proxy.refuse = True
            attempt(storage, NAME)
    assert errors
    return errors


def all_words(error: BaseException) -> list[str]:
    """Return all that an error, and the errors that it is chained to, would show."""
    words: list[str] = []
    seen: BaseException | None = error
    while seen is not None:
        words += [repr(seen), str(seen), repr(seen.args), repr(vars(seen))]
        seen = seen.__cause__ or seen.__context__
    return [*words, "".join(traceback.format_exception(error))]


# -- what a provider may offer besides -----------------------------------------------------------------


@pytest.mark.needs("list")
def test_a_list_names_what_begins_with_the_prefix(under_test: ProviderUnderTest) -> None:
    with opened(under_test, needs=Capability.LIST) as storage:
        assert list(storage.list("")) == []
        for name in ("backup-1.zip", "backup-2.zip", "other.zip", "sub/backup-3.zip"):
            under_test.write(name, b"x")
        assert listed(storage, "backup-") == ["backup-1.zip", "backup-2.zip"]
        assert listed(storage, "sub/") == ["sub/backup-3.zip"]
        assert listed(storage, "") == under_test.names()


def listed(storage: Storage, prefix: str) -> list[str]:
    return sorted(stored.name for stored in storage.list(prefix))


@pytest.mark.needs("list")
def test_a_list_says_how_large_objects_are_and_when_they_were_stored(under_test: ProviderUnderTest) -> None:
    """The time may be unknown, and the clock of the far side may differ."""
    with opened(under_test, needs=Capability.LIST) as storage:
        storage.put(NAME, BytesSource(SMALL), {}, {})
        (found,) = storage.list("")
    assert (found.name, found.size_bytes) == (NAME, len(SMALL))
    assert found.modified is None or abs(datetime.now(UTC) - found.modified) < timedelta(days=1)


@pytest.mark.needs("list")
def test_a_list_can_be_ended_where_it_stands(under_test: ProviderUnderTest) -> None:
    """`limits.check` is its cancel point, whose error comes out unchanged."""
    under_test.write(NAME, SMALL)

    def check() -> None:
        raise Stopped

    limits = replace(under_test.limits, check=check)
    with opened(under_test, limits=limits, needs=Capability.LIST) as storage, pytest.raises(Stopped):
        list(storage.list(""))


def test_preflight_of_a_good_store_raises_nothing(under_test: ProviderUnderTest) -> None:
    with opened(under_test) as storage:
        storage.preflight(True)
