"""The pieces that archives are made of, each by itself."""

import os
import random
import sys
import threading
import time
import zlib
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.base.errors import ArchiveError
from agent.base.text import readable
from agent.formats.entry_names import safe_name
from agent.formats.ordered import OrderedPool
from agent.formats.zip.deflate import BLOCK_BYTES, HISTORY_BYTES, LAST_BLOCK, Deflater, deflater, stored
from agent.formats.zip.directory import CentralDirectory
from agent.formats.zip.metadata import Extra, common_extra, dos_time, from_dos_time, own_extra, parse_extra
from agent.formats.zip.packing import Blocks

TEXT = b"".join(b"line %d of some text, value=%d\n" % (index, index * 7919 % 1000) for index in range(90_000))


def portable(level: str) -> Deflater:
    """A level means less where there are no wheels."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("isal", "zlib_ng"):
            patch.setitem(sys.modules, name, None)
        return deflater(level)


LEVELS = ("store", "fast", "balanced", "small")
DEFLATERS = {level: deflater(level) for level in LEVELS}
DEFLATERS |= {f"{level} with zlib": portable(level) for level in LEVELS}


@pytest.mark.parametrize("name", DEFLATERS)
@pytest.mark.parametrize("size_bytes", [0, 1, 70_000, BLOCK_BYTES, 2 * BLOCK_BYTES + 3])
def test_blocks_join_to_one_deflate_stream(name: str, size_bytes: int) -> None:
    middle = min(size_bytes, BLOCK_BYTES + 500_000)
    content = TEXT[:middle] + os.urandom(size_bytes - middle)
    stream, history = b"", b""
    for begin in range(0, size_bytes, BLOCK_BYTES):
        block = content[begin : begin + BLOCK_BYTES]
        compressed = DEFLATERS[name].block(block, history)
        stream += b"".join(stored(block)) if compressed is None else compressed
        history = block[-HISTORY_BYTES:]
    inflate = zlib.decompressobj(-15)
    assert inflate.decompress(stream + LAST_BLOCK) == content
    assert inflate.eof
    assert not inflate.unused_data


@pytest.mark.parametrize("name", DEFLATERS)
def test_whole_files_are_compressed_when_that_helps(name: str) -> None:
    contents = [TEXT[:size_bytes] for size_bytes in (5000, 0, 50_000, BLOCK_BYTES)]
    for content, (compressed, crc) in zip(contents, DEFLATERS[name].wholes(contents), strict=True):
        assert crc == zlib.crc32(content)
        if name.startswith("store") or not content:
            assert compressed == b""
        else:
            assert len(compressed) < len(content) // 2
            assert zlib.decompress(compressed + LAST_BLOCK, -15) == content


@pytest.mark.parametrize("name", DEFLATERS)
def test_whole_files_that_do_not_shrink_are_told_from_others(name: str) -> None:
    contents = [os.urandom(size_bytes) for size_bytes in (1, 5000, 50_000, BLOCK_BYTES)]
    for content, (compressed, crc) in zip(contents, DEFLATERS[name].wholes(contents), strict=True):
        assert crc == zlib.crc32(content)
        assert not compressed or len(compressed + LAST_BLOCK) >= len(content)


@pytest.mark.parametrize("name", DEFLATERS)
def test_incompressible_blocks_are_stored_and_grow_by_less_than_a_thousandth(name: str) -> None:
    noise = os.urandom(BLOCK_BYTES)
    assert DEFLATERS[name].block(noise, b"") is None
    assert len(b"".join(stored(noise))) < BLOCK_BYTES * 1.001


@pytest.mark.parametrize("level", LEVELS)
def test_a_compressor_remembers_nothing_of_what_it_did_before(level: str) -> None:
    """Which thread has had which piece before must not show in the archive."""
    pieces = [TEXT[begin : begin + 300_000] for begin in range(0, 1_500_000, 300_000)]
    for piece in [*pieces, b"tiny " * 3, b"\0" * 5000, os.urandom(5000) * 2, TEXT[:5000]]:
        fresh = deflater(level)
        assert fresh.block(piece, b"") == DEFLATERS[level].block(piece, b"")
        assert fresh.block(piece, TEXT[:HISTORY_BYTES]) == DEFLATERS[level].block(piece, TEXT[:HISTORY_BYTES])
        assert fresh.wholes([piece]) == DEFLATERS[level].wholes([piece])


def test_without_wheels_zlib_takes_their_place() -> None:
    assert portable("balanced").block(TEXT[:BLOCK_BYTES], b"") == _zlib_block(TEXT[:BLOCK_BYTES], 5)


def _zlib_block(data: bytes, level: int) -> bytes:
    stream = zlib.compressobj(level, zlib.DEFLATED, -15)
    return stream.compress(data) + stream.flush(zlib.Z_SYNC_FLUSH)


@given(st.integers(315_619_200, 4_354_732_800))
def test_dos_times_come_back_to_two_seconds(seconds: int) -> None:
    back = from_dos_time(dos_time(seconds))
    assert back is not None
    # An hour of local time happens twice when summer ends.
    assert abs(back - seconds) % 3600 in (0, 1, 3599)


@given(st.integers(-(2**70), 2**70))
def test_any_time_has_a_dos_time(seconds: int) -> None:
    assert 0 <= dos_time(seconds) < 2**32
    assert dos_time(-(10**12)) <= dos_time(seconds) <= dos_time(10**12)


@given(st.integers(0, 2**32 - 1))
def test_any_dos_time_is_a_time_or_none(value: int) -> None:
    assert from_dos_time(value) is None or 315_000_000 < (from_dos_time(value) or 0) < 4_400_000_000


@given(
    st.integers(-(2**62), 2**62),
    st.none() | st.binary(min_size=1, max_size=50),
    st.dictionaries(st.text("abc.", min_size=1), st.binary(max_size=100), max_size=3),
)
def test_metadata_comes_back(mtime_ns: int, link: bytes | None, xattrs: dict[str, bytes]) -> None:
    status = os.stat_result((0o644, 1, 1, 1, 70_000, 2**32 - 2, 0, 0, 0, 0, 0.0, 0.0, 0.0, 0, mtime_ns, 0))
    extra = parse_extra(common_extra(status) + own_extra(mtime_ns, link, xattrs))
    assert (extra.uid, extra.gid, extra.mtime_ns) == (70_000, 2**32 - 2, mtime_ns)
    assert (extra.hard_link_to, extra.xattrs) == (link, xattrs)
    # The usual order may be read in another way than any other.
    assert parse_extra(own_extra(mtime_ns, link, xattrs) + common_extra(status)) == extra


def test_what_is_no_owner_or_time_is_ignored_in_the_usual_order_too() -> None:
    usual = (
        b"UT\5\0\1" + bytes(4) + b"ux\x0b\0\1\4%b\4" + bytes(4) + b"EB\x13\0Edge\1\x0c\0" + bytes(8) + b"%b"
    )
    assert parse_extra(usual % (b"\xff" * 4, bytes(4))).uid is None
    assert parse_extra(usual % (bytes(4), b"\xff" * 4)).mtime_ns == 0  # of the other field
    assert parse_extra(usual % (b"\5" + bytes(3), b"\7" + bytes(3))) == Extra(mtime_ns=7, uid=5, gid=0)


def test_whole_seconds_need_no_field_of_ours() -> None:
    assert own_extra(1_700_000_000_000_000_000, None, {}) == b""


@given(st.binary(max_size=300), st.integers(0, 300))
def test_any_extra_field_is_read_or_ignored(data: bytes, cut: int) -> None:
    parse_extra(data)
    parse_extra(own_extra(1, b"name", {"user.a": data})[:cut])
    parse_extra(b"EB" + len(data).to_bytes(2, "little") + b"Edge" + data)


def test_a_field_of_somebody_else_with_our_id_is_ignored() -> None:
    assert parse_extra(own_extra(1, b"name", {}).replace(b"Edge", b"Else")).hard_link_to is None


@settings(max_examples=300)
@given(
    st.binary(max_size=60) | st.text("ab./\\:\0", max_size=12).map(str.encode), st.booleans(), st.booleans()
)
def test_a_safe_name_is_safe(raw: bytes, unix: bool, directory: bool) -> None:
    try:
        name = safe_name(raw, unix=unix, directory=directory)
    except ArchiveError:
        return
    parts = name.split("/")
    assert name == "" or all(part not in ("", ".", "..") for part in parts)
    assert "\0" not in name
    assert unix or "\\" not in name
    assert safe_name(os.fsencode(name) or b".", unix=True) == name


@given(st.text() | st.binary().map(os.fsdecode))
def test_what_is_shown_is_printable_and_short(name: str) -> None:
    shown = readable(name)
    assert shown.isprintable()
    assert len(shown) <= 10 * 200
    shown.encode()


def test_results_come_in_order_and_the_budget_bounds_what_is_on_its_way() -> None:
    running, most, lock = 0, 0, threading.Lock()

    def work(index: int) -> int:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        time.sleep(0.002 * (index % 3))
        return index

    def emit(index: int) -> Iterator[bytes]:
        nonlocal running
        with lock:
            running -= 1
        yield b"%d" % index
        yield b" "

    pool = OrderedPool(4, budget_bytes=50)
    out: list[bytes] = []
    for index in range(40):
        pool.submit(partial(work, index), emit, 10)
        out += pool.ready()
        if index % 10 == 0:
            pool.then(lambda: iter([b"| "]))
    out += pool.drain()
    pool.close()
    expected = b"".join(b"%d %s" % (index, b"| " if index % 10 == 0 else b"") for index in range(40))
    assert b"".join(out) == expected
    assert most <= 6


@pytest.mark.parametrize("threads", [1, 2, 4])
def test_work_in_turn_waits_until_half_the_budget_is_full_of_it_and_keeps_its_place(threads: int) -> None:
    """Beside the caller, work of many short calls would cost both more than it saves."""
    begun: list[int] = []

    def work(index: int) -> bytes:
        begun.append(index)
        return b"%d " % index

    pool = OrderedPool(threads, budget_bytes=60)
    out: list[bytes] = []
    for index in range(3):
        pool.submit(partial(work, index), lambda data: iter([data]), 10, in_turn=True)
        out += pool.ready()
    assert not begun
    assert not out
    pool.submit(partial(work, 3), lambda data: iter([data]), 10, in_turn=True)
    out += pool.ready()
    assert sorted(begun) == [0, 1, 2, 3]
    pool.submit(partial(work, 4), lambda data: iter([data]), 10, in_turn=True)
    pool.submit(partial(work, 5), lambda data: iter([data]), 10)
    pool.submit(partial(work, 6), lambda data: iter([data]), 10, in_turn=True)
    out += pool.drain()
    pool.close()
    assert b"".join(out) == b"0 1 2 3 4 5 6 "


def test_the_next_work_goes_on_while_the_output_of_the_last_is_used() -> None:
    """A restore writes the chunks of a large file while another thread opens the next ones."""
    pool, begun = OrderedPool(2, budget_bytes=4), threading.Event()

    def work(number: int) -> bytes:
        if number >= 3:
            begun.set()
        return bytes([number])

    def output() -> Iterator[bytes]:
        for number in range(6):
            pool.submit(partial(work, number), lambda piece: iter((piece,)), 1, in_turn=True)
            yield from pool.overlapping()
        yield from pool.drain()

    found = output()
    first = next(found)
    assert begun.wait(60), "work waits for the caller, who has not come back yet"
    assert [first, *found] == [bytes([number]) for number in range(6)]
    pool.close()


@pytest.mark.parametrize("threads", [1, 2])
def test_trouble_in_turn_comes_out_where_its_result_would(threads: int) -> None:
    pool = OrderedPool(threads, budget_bytes=2)
    pool.submit(lambda: b"fine", lambda data: iter([data]), 1, in_turn=True)
    pool.submit(lambda: b"x" * (1 // 0), lambda data: iter([data]), 1, in_turn=True)
    out = pool.ready()
    assert next(out) == b"fine"
    with pytest.raises(ZeroDivisionError):
        next(out)
    pool.close()


@pytest.mark.parametrize("level", ["fast", "balanced", "small"])
def test_a_block_becomes_the_same_bytes_whatever_was_compressed_before(level: str) -> None:
    """Which thread took which block differs from run to run; the archive must not."""
    chance = random.Random(3)
    words = [b"%x" % chance.randrange(1 << 20) for _ in range(400)]
    text = b" ".join(chance.choices(words, k=50_000))
    used = deflater(level)
    for _ in range(150):
        begin, size_bytes = chance.randrange(HISTORY_BYTES, len(text) - 40_000), chance.randrange(300, 40_000)
        block, history = text[begin : begin + size_bytes], text[begin - HISTORY_BYTES : begin]
        assert used.block(block, history) == deflater(level).block(block, history)


def test_trouble_on_a_thread_comes_out_where_its_result_would() -> None:
    pool = OrderedPool(1, budget_bytes=100)
    pool.submit(lambda: b"fine", lambda data: iter([data]), 1)
    pool.submit(lambda: b"x" * (1 // 0), lambda data: iter([data]), 1)
    out = pool.drain()
    assert next(out) == b"fine"
    with pytest.raises(ZeroDivisionError):
        next(out)
    pool.close()
    pool.close()


def test_blocks_of_a_file_are_read_into_memory_that_was_given_back(tmp_path: Path) -> None:
    content = TEXT[: 2 * BLOCK_BYTES + 1000]
    (tmp_path / "big").write_bytes(content)
    blocks, found = Blocks(), b""
    with (tmp_path / "big").open("rb", buffering=0) as file:
        first = blocks.read(file.fileno(), BLOCK_BYTES)
        found += first.data
        assert first.end() == content[BLOCK_BYTES - HISTORY_BYTES : BLOCK_BYTES]
        blocks.give_back(first)
        second = blocks.read(file.fileno(), BLOCK_BYTES)
        third = blocks.read(file.fileno(), BLOCK_BYTES)
        found += bytes(second.data) + bytes(third.data)
        assert second.memory is first.memory
        assert third.memory is not first.memory
        assert third.end() == third.data == content[2 * BLOCK_BYTES :]
        assert blocks.read(file.fileno(), BLOCK_BYTES).size_bytes == 0
    assert found == content


def test_a_large_central_directory_comes_back_from_its_temporary_file(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("agent.formats.zip.directory.MEMORY_BYTES", 100_000)
    directory = CentralDirectory()
    records = [os.urandom(1000) for _ in range(300)]
    for record in records:
        directory.add(record)
    assert b"".join(directory.chunks()) == b"".join(records)
    assert (directory.entries, directory.size_bytes) == (300, 300_000)
    directory.close()
