"""Archives in motion: every byte is counted and hashed, and a cancel is never missed."""

import hashlib
import io
import os
import resource
import socket
import threading
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.base.errors import Cancelled, NoSpace
from agent.transfer.cancel import CancelToken
from agent.transfer.connections import Connections
from agent.transfer.streams import FileSink, FileSource, StreamSource, file_digest
from providers.errors import Suspended, TooLarge

CHUNKS = st.lists(st.binary(max_size=50), max_size=20)


# Cancelling


def test_a_token_is_cancelled_once() -> None:
    """The first reason is the one that is reported."""
    token = CancelToken()
    token.check()
    token.cancel("first", "stopped")
    token.cancel("second")
    assert (token.code, token.message) == ("stopped", "first")
    with pytest.raises(Cancelled, match="first"):
        token.check()


def test_cancelling_without_a_code_says_cancelled() -> None:
    token = CancelToken()
    token.cancel("m")
    assert token.code == "cancelled"


def test_cancelled_is_an_ordinary_exception() -> None:
    """As a BaseException inside a cloud SDK's thread, an upload would return success with nothing stored."""
    assert issubclass(Cancelled, Exception)


def test_a_cancel_wakes_who_is_inside_and_nobody_else() -> None:
    token, woken = CancelToken(), []
    with token.waking(lambda: woken.append("left")):
        pass
    with token.waking(lambda: woken.append("a")), token.waking(lambda: woken.append("b")):
        token.cancel("m")
        token.cancel("again")
    assert woken == ["a", "b"]


def test_who_comes_in_after_the_cancel_is_woken_at_once() -> None:
    """Between a check and a wait there is time for a cancel."""
    token, woken = CancelToken(), []
    token.cancel("m")
    with token.waking(lambda: woken.append(1)):
        assert woken == [1]


def test_whoever_cancels_wakes_exactly_once_whatever_the_moment() -> None:
    """Two threads race: entering and cancelling; a wake that is missed would be a wait for ever."""
    for _ in range(200):
        token, woken = CancelToken(), threading.Event()
        canceller = threading.Thread(target=token.cancel, args=("m",))
        canceller.start()
        with token.waking(woken.set):
            assert woken.wait(10)
        canceller.join()


# Sources


@pytest.mark.parametrize("resumable", [True, False])
def test_only_what_can_be_continued_tells_a_provider_to_leave_it(resumable: bool) -> None:
    """A provider keeps what it has sent for `Suspended`, and takes it away for everything else."""
    token = CancelToken(resumable=resumable)
    token.interrupt("the agent was stopped", "interrupted")
    with pytest.raises(Cancelled) as caught:
        token.check()
    assert isinstance(caught.value, Suspended) is resumable
    wanted = CancelToken(resumable=True)
    wanted.cancel("enough", "cancelled")
    with pytest.raises(Cancelled) as caught:
        wanted.check()
    assert not isinstance(caught.value, Suspended)


def test_what_only_has_to_be_finished_is_not_timed_out_but_can_be_cancelled() -> None:
    """A commit that has begun is nearly done: going back takes longer."""
    token = CancelToken()
    token.finish()
    token.time_out("too long", "deadline-exceeded")
    token.check()
    token.cancel("enough", "cancelled")
    with pytest.raises(Cancelled, match="enough"):
        token.check()


def test_what_was_timed_out_before_cannot_be_finished() -> None:
    token = CancelToken()
    token.time_out("too long", "deadline-exceeded")
    with pytest.raises(Cancelled, match="too long"):
        token.finish()


def test_a_file_is_a_source_with_a_size_that_rewinds(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"0123456789")
    seen: list[int] = []
    source = FileSource(path, CancelToken(), seen.append, md5=b"m" * 16)
    assert (source.size, source.rewindable, source.md5) == (10, True, b"m" * 16)
    assert (source.read(4), source.tell(), source.read()) == (b"0123", 4, b"456789")
    assert source.seek(2) == 2
    assert source.seek(-1, os.SEEK_END) == 9
    assert source.read(5) == b"9"
    assert seen == [4, 10, 10]
    source.close()


def test_a_file_source_without_a_checksum_knows_no_md5(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"")
    source = FileSource(tmp_path / "a", CancelToken())
    assert source.md5 is None
    assert source.read(1) == b""
    source.close()


def test_reading_a_file_stops_with_the_cancel(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"0123")
    token = CancelToken()
    source = FileSource(tmp_path / "a", token)
    assert source.read(1) == b"0"
    token.cancel("m")
    with pytest.raises(Cancelled):
        source.read(1)
    source.close()


@given(CHUNKS, st.lists(st.integers(-1, 60), max_size=30))
def test_a_stream_reads_like_a_file(chunks: list[bytes], sizes: list[int]) -> None:
    """Any cut into chunks, any sequence of reads: all bytes, in order, `n` at a time, b"" at the end."""
    source, file = StreamSource(iter(chunks), CancelToken()), io.BytesIO(b"".join(chunks))
    for size in [*sizes, -1, 1]:
        assert source.read(size) == file.read(size)
        assert source.tell() == file.tell()
    assert source.sha256 == hashlib.sha256(b"".join(chunks)).hexdigest()


def test_a_stream_has_no_size_and_no_way_back() -> None:
    source = StreamSource(iter([b"ab"]), CancelToken())
    assert (source.size, source.rewindable, source.md5) == (None, False, None)
    with pytest.raises(OSError, match="cannot seek"):
        source.seek(0)


def test_a_stream_pulls_no_more_than_it_is_asked_for() -> None:
    """Memory stays bounded: the archive is made at the pace of the network."""
    pulled: list[int] = []

    def chunks() -> Iterator[bytes]:
        for number in range(100):
            pulled.append(number)
            yield b"x" * 10

    source = StreamSource(chunks(), CancelToken())
    source.read(15)
    assert pulled == [0, 1]


def test_what_ends_the_archive_comes_out_unchanged_and_is_known() -> None:
    """It is not the provider's fault, whatever its type."""
    error = KeyError("in the writer")

    def chunks() -> Iterator[bytes]:
        yield b"ab"
        raise error

    source = StreamSource(chunks(), CancelToken())
    assert source.read(2) == b"ab"
    with pytest.raises(KeyError) as caught:
        source.read(1)
    assert caught.value is error


def test_a_stream_stops_with_the_cancel_before_the_next_chunk() -> None:
    token = CancelToken()
    source = StreamSource(iter([b"a", b"b"]), token)
    assert source.read(1) == b"a"
    token.cancel("m")
    with pytest.raises(Cancelled):
        source.read(1)


# Sinks


def test_a_sink_continues_what_is_there_and_can_begin_again(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"old ")
    seen: list[int] = []
    with closing(FileSink(path, CancelToken(), seen.append)) as sink:
        assert sink.tell() == 4
        assert sink.write(b"more") == 4
        sink.restart()
        assert sink.tell() == 0
        sink.write(b"new")
        assert sink.tell() == 3
        sink.close()
    assert path.read_bytes() == b"new"
    assert seen == [8, 3]


def test_writing_stops_with_the_cancel(tmp_path: Path) -> None:
    token = CancelToken()
    sink = FileSink(tmp_path / "a", token)
    sink.write(b"a")
    token.cancel("m")
    with pytest.raises(Cancelled):
        sink.write(b"b")
    sink.close()
    assert (tmp_path / "a").read_bytes() == b"a"


@pytest.mark.parametrize("algorithm", ["md5", "sha256"])
def test_the_digest_of_a_file_is_that_of_all_its_bytes(tmp_path: Path, algorithm: str) -> None:
    content = bytes(range(256)) * 10_000  # more than one block
    (tmp_path / "a").write_bytes(content)
    assert file_digest(tmp_path / "a", algorithm, CancelToken()) == hashlib.new(algorithm, content).digest()


def test_hashing_a_file_stops_with_the_cancel(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"x")
    token = CancelToken()
    token.cancel("m")
    with pytest.raises(Cancelled):
        file_digest(tmp_path / "a", "md5", token)


# Connections


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server


def test_shutting_the_connections_ends_a_read_that_waits(listener: socket.socket) -> None:
    """Also after TLS has taken the descriptor out of the socket that was opened."""
    token = CancelToken()
    connections = Connections(5)
    opened = connections.open(*listener.getsockname())
    taken = socket.socket(fileno=opened.detach())
    taken.settimeout(10)
    far, _ = listener.accept()
    ended: list[bytes] = []
    reader = threading.Thread(target=lambda: ended.append(taken.recv(1)))
    with token.waking(connections.shut):
        reader.start()
        token.cancel("m")
        reader.join(10)
    assert ended == [b""]
    connections.close()
    taken.close()
    far.close()


def test_a_cancelled_job_can_still_clean_up_at_the_far_side(listener: socket.socket) -> None:
    """The bytes that were sent are discarded over a connection of its own."""
    token = CancelToken()
    connections = Connections(5)
    token.cancel("m")
    with closing(connections), token.waking(connections.shut):
        connections.open(*listener.getsockname()).close()


def test_a_connection_that_is_refused_is_an_os_error() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = server.getsockname()
    with pytest.raises(OSError, match="refused"):
        Connections(5).open(*address)


def test_closing_twice_does_no_harm(listener: socket.socket) -> None:
    connections = Connections(5)
    connections.open(*listener.getsockname()).close()
    connections.close()
    connections.close()
    connections.shut()


def test_an_archive_that_does_not_fit_on_the_disk_is_not_begun(tmp_path: Path) -> None:
    """cassandra-medusa#636, idevicerestore#622: all that was free was written before that was told."""
    told: list[int] = []
    with closing(FileSink(tmp_path / "a", CancelToken(), expected=told.append, max_bytes=1 << 60)) as sink:
        sink.expect(1000)
        with pytest.raises(NoSpace, match=f"where {1 << 59} are needed"):
            sink.expect(1 << 59)
        with pytest.raises(TooLarge):
            sink.expect(1 << 61)
    assert told == [1000]


def test_a_full_disk_while_fetching_is_the_device_s(tmp_path: Path) -> None:
    """Not a bug of the provider that writes: what the sink raises passes through it unchanged."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
    try:
        sink = FileSink(tmp_path / "a", CancelToken())
        with pytest.raises(NoSpace, match="cannot write the download"):
            sink.write(b"x" * (1 << 20))
        with suppress(NoSpace):  # what is still in the buffer does not fit either
            sink.close()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
