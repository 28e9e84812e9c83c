"""How data of devices changes between two backups: nine workloads, made from fixed seeds.

A scale of 1 is the full size, tens of MiB each. The number of changes grows with the scale, so that the share
of what changes does not depend on it.
"""

import json
import random
import sqlite3
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from benchmarks.corpora import config_text, log_text, noise

MIB = 1 << 20
LOG_BYTES = IMAGE_BYTES = DISK_BYTES = 64 * MIB
ROWS, RING_ROWS = 600_000, 300_000
CONFIGS, CHANGED_CONFIGS = 2_000, 10
RECORDS, NEW_RECORDS = 100_000, 32
_MBR_MARK = b"\x55\xaa"


@dataclass(frozen=True, slots=True)
class Workload:
    """`make` makes the data in a directory that does not exist yet, `change` changes it there."""

    name: str
    make: Callable[[Path, float], None]
    change: Callable[[Path, float], None]
    expected: float
    """The share of the first snapshot's bytes that the second one is expected to send at most."""


def _some(amount: float, scale: float) -> int:
    return max(1, round(amount * scale))


# Logs


def _log(root: Path, scale: float) -> None:
    root.mkdir()
    (root / "app.log").write_bytes(log_text(11, _some(LOG_BYTES, scale)))


def _append(root: Path, scale: float) -> None:
    with (root / "app.log").open("ab") as file:
        file.write(log_text(12, _some(LOG_BYTES * 0.03, scale)))


def _rotated(root: Path, scale: float) -> None:
    root.mkdir()
    for number in range(4):
        (root / f"app.log.{number}").write_bytes(log_text(20 + number, _some(LOG_BYTES / 4, scale)))


def _rotate(root: Path, scale: float) -> None:
    for number in (2, 1, 0):
        (root / f"app.log.{number}").rename(root / f"app.log.{number + 1}")
    (root / "app.log.0").write_bytes(log_text(24, _some(LOG_BYTES / 4, scale)))


# Databases


def _rows(chance: random.Random, numbers: Iterable[int]) -> Iterator[tuple[int, int, float, str]]:
    for number in numbers:
        yield number, chance.randrange(64), chance.random(), chance.randbytes(24).hex()


def _insert(database: sqlite3.Connection, chance: random.Random, numbers: Iterable[int]) -> None:
    database.executemany("INSERT INTO samples VALUES (?, ?, ?, ?)", _rows(chance, numbers))


def _samples(root: Path, rows: int, *indexes: str) -> None:
    root.mkdir()
    with closing(sqlite3.connect(root / "samples.db")) as database, database:
        database.execute("CREATE TABLE samples (number INTEGER PRIMARY KEY, sensor, value, note)")
        for columns in indexes:
            database.execute(f"CREATE INDEX by_{columns.partition(',')[0]} ON samples ({columns})")
        _insert(database, random.Random(30), range(rows))


def _ring(root: Path, scale: float) -> None:
    _samples(root, _some(RING_ROWS, scale), "sensor, number")


def _turn_ring(root: Path, scale: float) -> None:
    """One percent goes, the oldest, and as much comes."""
    rows, few = _some(RING_ROWS, scale), _some(RING_ROWS * 0.01, scale)
    with closing(sqlite3.connect(root / "samples.db")) as database, database:
        database.execute("DELETE FROM samples WHERE number < ?", (few,))
        _insert(database, random.Random(31), range(rows, rows + few))


def _database(root: Path, scale: float) -> None:
    _samples(root, _some(ROWS, scale))


def _update(root: Path, scale: float) -> None:
    chance = random.Random(32)
    rows = _some(ROWS, scale)
    with closing(sqlite3.connect(root / "samples.db")) as database, database:
        for _ in range(_some(ROWS * 0.001, scale)):
            values = (chance.random(), chance.randrange(rows))
            database.execute("UPDATE samples SET value = ? WHERE number = ?", values)


def _vacuum(root: Path, scale: float) -> None:
    del scale
    with closing(sqlite3.connect(root / "samples.db")) as database:
        with database:
            database.execute("DELETE FROM samples WHERE number % 50 = 7")
        database.execute("VACUUM")


# Documents


def _configs(root: Path, scale: float) -> None:
    chance = random.Random(40)
    for number in range(_some(CONFIGS, scale)):
        directory = root / f"unit-{number // 20:02}"
        directory.mkdir(parents=True, exist_ok=True)
        (directory / f"{number:04}.conf").write_bytes(
            config_text(number, chance.randrange(2 << 10, 30 << 10))
        )


def _edit(root: Path, scale: float) -> None:
    """Half the files of one unit get a line more."""
    for path in sorted((root / "unit-00").iterdir())[: _some(CHANGED_CONFIGS, scale)]:
        path.write_bytes(path.read_bytes() + b"interval = 17\n")


def _document(numbers: Iterable[int]) -> bytes:
    records = {}
    for number in numbers:
        chance = random.Random(number)
        records[f"{number:09}"] = {"value": chance.random(), "id": chance.randbytes(16).hex(), "unit": "kWh"}
    return json.dumps(records).encode()


def _json(root: Path, scale: float) -> None:
    root.mkdir()
    (root / "records.json").write_bytes(_document(range(0, 1000 * _some(RECORDS, scale), 1000)))


def _rewrite(root: Path, scale: float) -> None:
    """The whole document is written anew, with a few more records in between."""
    end = 1000 * _some(RECORDS, scale)
    new = random.Random(50).sample(range(1, end, 1000), _some(NEW_RECORDS, scale))
    (root / "records.json").write_bytes(_document(sorted([*range(0, end, 1000), *new])))


# Images


def _image(root: Path, scale: float) -> None:
    root.mkdir()
    (root / "firmware.img").write_bytes(noise(60, _some(IMAGE_BYTES, scale)))


def _grow(root: Path, scale: float) -> None:
    """Some bytes more at sixteen places."""
    chance, path = random.Random(61), root / "firmware.img"
    content = path.read_bytes()
    places = sorted(chance.randrange(len(content)) for _ in range(_some(16, scale)))
    with path.open("wb") as file:
        for start, end in zip([0, *places], [*places, len(content)], strict=True):
            file.write(content[start:end] + chance.randbytes(100))


def _disk(root: Path, scale: float) -> None:
    root.mkdir()
    content = bytearray(noise(70, _some(DISK_BYTES, scale)))
    content[510:512] = _MBR_MARK
    (root / "disk.img").write_bytes(content)


def _overwrite(root: Path, scale: float) -> None:
    """Fifty blocks of 4 KiB get another content."""
    chance = random.Random(71)
    with (root / "disk.img").open("r+b") as file:
        blocks = (root / "disk.img").stat().st_size // 4096
        for _ in range(_some(50, scale)):
            file.seek(4096 * chance.randrange(1, max(2, blocks)))
            file.write(chance.randbytes(4096))


WORKLOADS = (
    Workload("log grown by 3 %", _log, _append, 0.034),
    Workload("rotated logs", _rotated, _rotate, 0.25),
    Workload("SQLite ring, 1 % in and out", _ring, _turn_ring, 0.18),
    Workload("SQLite, 0.1 % random updates", _database, _update, 0.59),
    Workload("SQLite after VACUUM", _database, _vacuum, 0.97),
    Workload("2,000 configs, 10 changed", _configs, _edit, 0.0056),
    Workload("JSON rewritten with inserts", _json, _rewrite, 0.26),
    Workload("image with inserts", _image, _grow, 0.026),
    Workload("disk image changed in place", _disk, _overwrite, 0.06),
)
