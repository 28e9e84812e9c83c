"""The directory that the demo saves, damages and restores, and its comparison."""

import hashlib
import os
import random
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

LOG_LINES = 400_000


class Fact(NamedTuple):
    """The properties of a file, directory or link that a restore must bring back."""

    kind: str
    mode: int
    mtime_ns: int
    content: str
    """SHA-256 of a file, target of a link, empty for a directory."""


def make(root: Path) -> None:
    """Make nested directories, a program, a link, an empty directory, a name beyond ASCII, and a log file."""
    chance = random.Random(7)  # noqa: S311 (the same sample every time)
    (root / "config" / "network").mkdir(parents=True)
    (root / "empty").mkdir()
    (root / "logs").mkdir()
    (root / "config" / "app.json").write_text('{"interval": 30, "unit": "°C"}\n', "utf-8")
    (root / "config" / "network" / "wlan0.conf").write_text("ssid=plant-7\n", "utf-8")
    (root / "config" / "Grüße — 設定.txt").write_text("names need not be ASCII\n", "utf-8")
    (root / "config" / "current").symlink_to("app.json")
    program = root / "start.sh"
    program.write_text("#!/bin/sh\nexec ./app --config config/app.json\n", "utf-8")
    program.chmod(0o755)
    (root / "config" / "network" / "wlan0.conf").chmod(0o600)
    with (root / "logs" / "app.log").open("w", encoding="ascii") as log:
        log.writelines(_lines(chance, range(LOG_LINES)))
    os.utime(root / "logs" / "app.log", ns=(1_700_000_000_123_456_789,) * 2)


def _lines(chance: random.Random, numbers: range) -> Iterator[str]:
    for number in numbers:
        yield f"{number:08d} INFO sensor={chance.randrange(40)} value={chance.random():.6f}\n"


def grow(root: Path) -> None:
    """Let the log grow by a few lines."""
    chance = random.Random(8)  # noqa: S311 (the same sample every time)
    with (root / "logs" / "app.log").open("a", encoding="ascii") as log:
        log.writelines(_lines(chance, range(LOG_LINES, LOG_LINES + 200)))


def damage(root: Path) -> list[str]:
    """Damage the directory; return a line for each change."""
    (root / "config" / "app.json").write_text("{", "utf-8")
    (root / "config" / "Grüße — 設定.txt").unlink()
    (root / "start.sh").chmod(0o644)
    (root / "empty").rmdir()
    (root / "config" / "current").unlink()
    with (root / "logs" / "app.log").open("r+b") as log:
        log.truncate(1000)
    return [
        "config/app.json overwritten",
        "config/Grüße — 設定.txt deleted",
        "start.sh no longer executable",
        "empty/ and the link config/current removed",
        "logs/app.log truncated",
    ]


def facts(root: Path) -> dict[str, Fact]:
    """Return the facts of everything below `root`, by relative name."""
    return {str(path.relative_to(root)): _fact(path) for path in root.rglob("*")}


def _fact(path: Path) -> Fact:
    status = path.lstat()
    if stat.S_ISLNK(status.st_mode):
        return Fact("link", 0, status.st_mtime_ns, os.readlink(path))
    mode = stat.S_IMODE(status.st_mode)
    if stat.S_ISDIR(status.st_mode):
        return Fact("directory", mode, status.st_mtime_ns, "")
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return Fact("file", mode, status.st_mtime_ns, digest)


def differences(before: dict[str, Fact], after: dict[str, Fact]) -> list[str]:
    """Return one line for each entry that is missing, new or different."""
    lines = [f"{name} is missing" for name in sorted(before.keys() - after.keys())]
    lines += [f"{name} is new" for name in sorted(after.keys() - before.keys())]
    for name in sorted(before.keys() & after.keys()):
        for what, old, new in zip(Fact._fields, before[name], after[name], strict=True):
            if old != new:
                lines.append(f"{name} differs in {what}")
    return lines
