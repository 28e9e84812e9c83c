"""Data of the benchmarks: made from fixed seeds, so that every run has the same bytes.

A scale of 1 is the full size; a smaller one makes fewer files and shorter logs of the same kind.
"""

import os
import random
from collections.abc import Callable, Iterator
from datetime import date, timedelta
from itertools import count, islice
from pathlib import Path

GIB = 1 << 30
SMALL_FILES = 10_000
FILES_PER_DIRECTORY = 100
HALF_RANDOM_FILES = 20
STAMP_EVERY_BYTES = 1 << 18

_FIRST_DATE = date(2026, 1, 1)
_LINES_PER_DAY = 172_000
_LEVELS = ("INFO", "INFO", "INFO", "INFO", "DEBUG", "DEBUG", "WARN", "ERROR")
_UNITS = (
    "mqtt.link",
    "modbus.master",
    "app.scheduler",
    "net.dhcp",
    "storage.ring",
    "update.agent",
    "kernel",
    "ntp",
)
_EVENTS = (
    "value %d accepted from sensor %d",
    "request %d answered in %d us",
    "connection %d closed by peer after %d s",
    "queue length %d, oldest entry %d ms",
    "retry %d of the transfer of block %d",
    "session %d renewed, lease %d s",
    "temperature %d of zone %d within limits",
    "frame %d dropped: checksum %d",
)  # fmt: skip
_KEYS = (
    "address",
    "baud-rate",
    "enabled",
    "gateway",
    "interval",
    "name",
    "retries",
    "threshold",
    "topic",
    "unit",
)


def small_files(root: Path, scale: float) -> None:
    """10,000 files of 1-8 KiB, config and log text by turns, 100 in a directory."""
    chance = random.Random(1)
    log, config = _chunks(_log_lines(chance), 16), _chunks(_config_lines(chance), 32)
    for number in range(_scaled(SMALL_FILES, scale)):
        directory = root / f"unit-{number // FILES_PER_DIRECTORY:03}"
        directory.mkdir(parents=True, exist_ok=True)
        kind, chunks = ("log", log) if number % 2 else ("conf", config)
        _write(directory / f"{number:05}.{kind}", _first(chunks, chance.randrange(1 << 10, 8 << 10)))


def large_log(root: Path, scale: float) -> None:
    """One log of 1 GiB."""
    root.mkdir(parents=True, exist_ok=True)
    _write(root / "application.log", _first(_log_days(random.Random(2)), _scaled(GIB, scale)))


def half_random(root: Path, scale: float) -> None:
    """1 GiB in 20 files: logs, and random bytes as encrypted or compressed files have them, by turns."""
    root.mkdir(parents=True, exist_ok=True)
    chance, size_bytes = random.Random(3), _scaled(GIB // HALF_RANDOM_FILES, scale)
    log, noise = _log_days(random.Random(4)), _noise(chance)
    for number in range(HALF_RANDOM_FILES):
        kind, chunks = ("bin", noise) if number % 2 else ("log", log)
        _write(root / f"{number:02}.{kind}", _first(chunks, size_bytes))


def tiny_files(root: Path, files: int) -> None:
    """Files with nothing or a few bytes in them, 100 in a directory."""
    for number in range(files):
        directory = root / f"{number // 10_000:03}" / f"{number // FILES_PER_DIRECTORY:05}"
        if number % FILES_PER_DIRECTORY == 0:
            directory.mkdir(parents=True)
        (directory / f"{number:06}").write_bytes(b"%d\n" % number if number % 2 else b"")


def flat_files(root: Path, files: int) -> None:
    """Files with nothing or a few bytes in them, all in one directory."""
    root.mkdir(parents=True)
    for number in range(files):
        (root / f"{number:06}").write_bytes(b"%d\n" % number if number % 2 else b"")


def deep(root: Path, levels: int) -> None:
    """Directories one in another, with a file in each."""
    root.mkdir(parents=True)
    fd = os.open(root, os.O_RDONLY)
    for _ in range(levels):
        os.close(os.open("file", os.O_WRONLY | os.O_CREAT, dir_fd=fd))
        os.mkdir("d", dir_fd=fd)
        inner = os.open("d", os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = inner
    os.close(fd)


def sparse(root: Path, size_bytes: int) -> None:
    """One file that is a hole from end to end."""
    root.mkdir(parents=True)
    with (root / "hole").open("wb") as file:
        file.truncate(size_bytes)


SMALL_CORPUS, LOG_CORPUS, MIXED_CORPUS = "10,000 small files", "1 GiB log", "1 GiB half random"
CORPORA: dict[str, Callable[[Path, float], None]] = {
    SMALL_CORPUS: small_files,
    LOG_CORPUS: large_log,
    MIXED_CORPUS: half_random,
}
"""By name at scale 1. Each makes its files in a directory that does not exist yet."""


def incompressible(path: Path, size_bytes: int) -> None:
    """One file that no compressor makes smaller."""
    _write(path, _first(_noise(random.Random(5)), size_bytes))


def log_text(seed: int, size_bytes: int) -> bytes:
    """A log that begins where another seed's does not."""
    lines = _chunks(_log_lines(random.Random(seed)), 16)
    return b"".join(_first(lines, size_bytes))


def config_text(seed: int, size_bytes: int) -> bytes:
    return b"".join(_first(_chunks(_config_lines(random.Random(seed)), 32), size_bytes))


def noise(seed: int, size_bytes: int) -> bytes:
    return b"".join(_first(_noise(random.Random(seed)), size_bytes))


def stamped(root: Path, size_bytes: int) -> None:
    """One file of which only a number in every 256 KiB is on the disk: no two chunks of it are alike."""
    root.mkdir(parents=True)
    with (root / "stamped").open("wb") as file:
        for number in range(0, size_bytes, STAMP_EVERY_BYTES):
            file.seek(number)
            file.write(number.to_bytes(8))
        file.truncate(size_bytes)


def _scaled(amount: int, scale: float) -> int:
    return max(1, round(amount * scale))


def _write(path: Path, chunks: Iterator[bytes]) -> None:
    with path.open("wb") as file:
        file.writelines(chunks)


def _first(chunks: Iterator[bytes], size_bytes: int) -> Iterator[bytes]:
    """Exactly `size_bytes` of the endless `chunks`; the rest of the last one is dropped."""
    while size_bytes > 0:
        chunk = next(chunks)[:size_bytes]
        size_bytes -= len(chunk)
        yield chunk


def _chunks(lines: Iterator[str], lines_each: int) -> Iterator[bytes]:
    while True:
        yield "".join(islice(lines, lines_each)).encode("ascii")


def _noise(chance: random.Random) -> Iterator[bytes]:
    while True:
        yield chance.randbytes(1 << 20)


def _log_days(chance: random.Random) -> Iterator[bytes]:
    """A log of one day after the other, 16 MiB each. All days are the first one with another date.

    That is quick to make, and too far apart for a compressor to see: Deflate looks 32 KiB back.
    """
    first_day = list(islice(_chunks(_log_lines(chance), _LINES_PER_DAY // 16), 16))
    for number in count():
        today = (_FIRST_DATE + timedelta(days=number)).isoformat().encode("ascii")
        yield from (chunk.replace(_FIRST_DATE.isoformat().encode("ascii"), today) for chunk in first_day)


def _log_lines(chance: random.Random) -> Iterator[str]:
    """Like a device's log: time goes on, eight sources, eight kinds of events, a trace id in each line."""
    milliseconds = 0
    while True:
        bits = chance.getrandbits(128)
        milliseconds += bits & 0x1FF
        seconds = milliseconds // 1000
        stamp = (
            f"{seconds // 3600 % 24:02}:{seconds // 60 % 60:02}:{seconds % 60:02}.{milliseconds % 1000:03}Z"
        )
        event = _EVENTS[bits >> 9 & 7] % (bits >> 20 & 0xFFF, bits >> 32 & 0x3F)
        level, unit = _LEVELS[bits >> 12 & 7], _UNITS[bits >> 15 & 7]
        yield f"{_FIRST_DATE}T{stamp} {level:5} [{unit}] {bits >> 80:012x} {event}\n"


def _config_lines(chance: random.Random) -> Iterator[str]:
    """Like a settings file: sections of a few keys with numbers, names and addresses."""
    while True:
        yield f"\n[channel-{chance.randrange(1000)}]\n"
        for key in chance.sample(_KEYS, 5):
            bits = chance.getrandbits(32)
            value = f"10.{bits & 255}.{bits >> 8 & 255}.{bits >> 16 & 255}" if bits >> 31 else bits & 0xFFF
            yield f"{key} = {value}\n"
