"""Rules 8 and 9 of `providers.api`, run over every provider on every server: errors and the network."""

import socket
import time
from contextlib import suppress
from dataclasses import replace

import pytest

from providers.errors import AccessDenied, Unreachable
from providers.testing.streams import BytesSource, FailingSource, HookedSource, MemorySink, content
from providers.testing.transfers import (
    LARGE,
    NAME,
    SMALL,
    Stopped,
    assert_nothing_stored,
    opened,
    through_proxy,
)
from providers.testing.under_test import ProviderUnderTest

# -- rule 8: errors ------------------------------------------------------------------------------------


UNKIND = [Stopped("stop"), OSError(5, "the staging disk"), ValueError("odd"), KeyError("k"), EOFError()]


@pytest.mark.parametrize("error", UNKIND, ids=repr)
def test_what_the_source_raises_comes_out_unchanged(under_test: ProviderUnderTest, error: Exception) -> None:
    with opened(under_test) as storage:
        with pytest.raises(type(error)) as raised:
            storage.put(NAME, FailingSource(SMALL, 30_000, error), {}, {})
        assert raised.value is error
        assert under_test.names() == []


@pytest.mark.parametrize("error", UNKIND, ids=repr)
def test_what_the_sink_raises_comes_out_unchanged(under_test: ProviderUnderTest, error: Exception) -> None:
    under_test.write(NAME, SMALL)
    with opened(under_test) as storage:
        with pytest.raises(type(error)) as raised:
            storage.get(NAME, MemorySink(fails_at=0, error=error), {})
        assert raised.value is error


@pytest.mark.parametrize("at", [0, 1, 5_000_000, 8_999_999])
@pytest.mark.parametrize(
    "streamed", [False, pytest.param(True, marks=pytest.mark.needs("streams"))], ids=["staged", "streamed"]
)
def test_a_cancel_at_any_byte_leaves_nothing(under_test: ProviderUnderTest, at: int, streamed: bool) -> None:
    if streamed and under_test.factory.needs_size:
        pytest.skip("the agent stages archives for this provider")
    checkpoint: dict[str, str] = {}
    storage = under_test.factory(under_test.options(NAME), under_test.limits)
    with pytest.raises(Stopped):
        storage.put(NAME, FailingSource(LARGE, at, Stopped(), streamed=streamed), {}, checkpoint)
    storage.close()
    assert_nothing_stored(under_test, checkpoint)


@pytest.mark.needs("credentials")
def test_wrong_credentials_are_access_denied(under_test: ProviderUnderTest) -> None:
    if (options := under_test.denied_options(NAME)) is None:
        pytest.skip("this provider has no credentials")
    under_test.write(NAME, SMALL)
    storage = under_test.factory(options, under_test.limits)
    with pytest.raises(AccessDenied):
        storage.put(NAME, BytesSource(LARGE), {}, {})
    with pytest.raises(AccessDenied):
        storage.get(NAME, MemorySink(), {})
    storage.close()
    assert under_test.read(NAME) == SMALL


# -- rule 9: the network -------------------------------------------------------------------------------


@pytest.mark.needs("network")
def test_a_refused_connection_is_reported_at_once_and_not_tried_again(under_test: ProviderUnderTest) -> None:
    with through_proxy(under_test) as (storage, proxy):
        proxy.refuse = True
        started = time.monotonic()
        with pytest.raises(Unreachable):
            storage.put(NAME, BytesSource(SMALL), {}, {})
        with pytest.raises(Unreachable):
            storage.get(NAME, MemorySink(), {})
    assert time.monotonic() - started < 10
    assert proxy.connections == 0


@pytest.mark.needs("network")
def test_a_host_name_that_does_not_exist_is_unreachable(under_test: ProviderUnderTest) -> None:
    if not under_test.networked:
        pytest.skip("this provider opens no connection")

    def connect(_host: str, _port: int) -> socket.socket:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    with (
        opened(under_test, limits=replace(under_test.limits, connect=connect)) as storage,
        pytest.raises(Unreachable),
    ):
        storage.put(NAME, BytesSource(SMALL), {}, {})


@pytest.mark.needs("network")
def test_a_black_hole_is_given_up_within_the_time_out(under_test: ProviderUnderTest) -> None:
    under_test.write(NAME, SMALL)
    with through_proxy(under_test, timeout_s=1) as (storage, proxy):
        proxy.black_hole = True
        started = time.monotonic()
        with pytest.raises(Unreachable):
            storage.get(NAME, MemorySink(), {})
        with pytest.raises(Unreachable):
            storage.put(NAME, BytesSource(LARGE), {}, {})
        assert time.monotonic() - started < 20


@pytest.mark.needs("network")
def test_a_black_hole_in_mid_upload_is_given_up_within_the_time_out(under_test: ProviderUnderTest) -> None:
    with through_proxy(under_test, timeout_s=1) as (storage, proxy):

        def swallow(offset: int) -> None:
            proxy.black_hole = proxy.black_hole or offset > 5_000_000

        started = time.monotonic()
        with pytest.raises(Unreachable):
            storage.put(NAME, HookedSource(content(30_000_000), swallow), {}, {})
        assert time.monotonic() - started < 20
        proxy.black_hole = False
    assert under_test.names() == []


@pytest.mark.needs("network")
def test_a_far_side_that_drips_is_given_up(under_test: ProviderUnderTest) -> None:
    """Every byte comes within the time-out, and the archive would take years."""
    under_test.write(NAME, LARGE)
    with through_proxy(under_test, timeout_s=1) as (storage, proxy):
        proxy.drip.add("down")
        started = time.monotonic()
        with pytest.raises(Unreachable):
            storage.get(NAME, MemorySink(), {})
        assert time.monotonic() - started < 20


@pytest.mark.needs("network")
def test_a_far_side_that_takes_an_upload_drop_by_drop_is_given_up(under_test: ProviderUnderTest) -> None:
    with through_proxy(under_test, timeout_s=1) as (storage, proxy):

        def clog(offset: int) -> None:
            if offset > 5_000_000:
                proxy.drip.add("up")

        started = time.monotonic()
        with pytest.raises(Unreachable):
            storage.put(NAME, HookedSource(content(30_000_000), clog), {}, {})
        assert time.monotonic() - started < 20
        proxy.drip.clear()
    assert under_test.names() == []


@pytest.mark.needs("network")
def test_a_reset_in_mid_upload_stores_nothing_and_can_be_tried_again(under_test: ProviderUnderTest) -> None:
    source, checkpoint = BytesSource(LARGE), dict[str, str]()
    with through_proxy(under_test) as (storage, proxy):
        proxy.reset_after["up"] = 4_000_000
        with pytest.raises(Unreachable):
            storage.put(NAME, source, {}, checkpoint)
        assert_nothing_stored(under_test, checkpoint)
        proxy.reset_after.clear()
        source.seek(0)
        storage.put(NAME, source, {}, checkpoint)
    assert under_test.read(NAME) == LARGE
    assert checkpoint == {}


@pytest.mark.needs("network")
def test_a_reset_in_mid_download_continues_where_it_was(under_test: ProviderUnderTest) -> None:
    under_test.write(NAME, LARGE)
    sink, checkpoint = MemorySink(), dict[str, str]()
    with through_proxy(under_test) as (storage, proxy):
        proxy.reset_after["down"] = 6_000_000
        with pytest.raises(Unreachable):
            storage.get(NAME, sink, checkpoint)
        proxy.reset_after.clear()
        there = sink.tell()
        storage.get(NAME, sink, checkpoint)
    assert sink.data == LARGE
    assert there > 0
    assert sink.restarts == 0


@pytest.mark.needs("network")
def test_shutting_down_the_opened_socket_ends_a_transfer_at_once(under_test: ProviderUnderTest) -> None:
    """The agent cancels a transfer that waits for the far side in this way."""
    with through_proxy(under_test) as (_, proxy):
        sockets: list[socket.socket] = []

        def connect(host: str, port: int) -> socket.socket:
            sockets.append(proxy.connect(host, port))
            if proxy.black_hole:  # cancelled already: the agent shuts this one down, too
                sockets[-1].shutdown(socket.SHUT_RDWR)
            return sockets[-1]

        def cancel(offset: int) -> None:
            # Some read a whole part before they connect for the first time.
            if offset > 4_000_000 and sockets and not proxy.black_hole:
                proxy.black_hole = True
                for connection in sockets:
                    with suppress(OSError):  # closed by now
                        connection.shutdown(socket.SHUT_RDWR)

        with opened(under_test, limits=replace(under_test.limits, connect=connect)) as storage:
            started = time.monotonic()
            with pytest.raises(Unreachable):
                storage.put(NAME, HookedSource(content(30_000_000), cancel), {}, {})
            assert time.monotonic() - started < 20  # a read may take 60 s here
        proxy.black_hole = False
