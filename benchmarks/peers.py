"""Public tools that do what a backup or a restore does, and what no tool can be faster than."""

import os
import shutil
import statistics
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from benchmarks.measure import Command

Tool = Literal["zip", "pigz", "zstd", "7z", "restic"]
_FLOOR = Path(__file__).with_name("floor.py")


@dataclass(frozen=True, slots=True)
class Peer:
    """One tool. Unless it is `judged` no bar depends on it, and it runs only once."""

    name: str
    tool: Tool
    version: Sequence[str]
    needs: Sequence[str]
    judged: bool = False
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)

    @property
    def missing(self) -> str | None:
        """The first program that is not installed."""
        return next((program for program in self.needs if shutil.which(program) is None), None)

    def prepare(self, archive: Path) -> None:
        """Paths that belong to no backup: restic's repository."""
        if self.tool == "restic":
            command = ["restic", "init", "-q", "-r", str(archive)]
            subprocess.run(command, check=True, capture_output=True, env={**os.environ, **self.environment})

    def backup(self, archive: Path) -> Command:
        """Run in the directory that is saved; everything is on the disk at the end."""
        to = str(archive)
        argv = {
            "zip": ("zip", "-6", "-r", "-q", to, "."),
            "pigz": ("tar", "-I", "pigz -6", "-cf", to, "."),
            "zstd": ("tar", "-I", "zstd -q -T2 -3", "-cf", to, "."),
            "7z": ("7z", "a", "-tzip", "-mx=3", "-bd", "-bso0", to, "."),
            "restic": ("restic", "backup", "-q", "--no-cache", "-r", to, "."),
        }[self.tool]
        command = Command(argv, self.environment)
        return command.tree_synced(archive) if self.tool == "restic" else command.synced(archive)

    def restore(self, archive: Path, target: Path) -> Command | None:
        """Into `target`, over what is there; None for a tool whose restore is not measured."""
        if self.tool == "zip":
            return Command(("unzip", "-qo", str(archive), "-d", str(target))).tree_synced(target.parent)
        if self.tool == "restic":
            argv = ("restic", "restore", "-q", "--no-cache", "-r", str(archive), "latest")
            return Command((*argv, "--target", str(target)), self.environment).tree_synced(target.parent)
        return None


ZIP = Peer("zip -6, unzip", "zip", ("zip", "-v"), ("zip", "unzip"), judged=True)
PIGZ = Peer("tar, pigz -6", "pigz", ("pigz", "--version"), ("tar", "pigz"), judged=True)
ZSTD = Peer("tar, zstd -T2 -3", "zstd", ("zstd", "--version"), ("tar", "zstd"), judged=True)
SEVEN_ZIP = Peer("7z -tzip -mx=3", "7z", ("7z", "i"), ("7z",))
RESTIC = Peer(
    "restic",
    "restic",
    ("restic", "version"),
    ("restic",),
    environment={"RESTIC_PASSWORD": "the corpora are no secret"},
)
PEERS = (ZIP, PIGZ, ZSTD, SEVEN_ZIP, RESTIC)


def size_bytes(archive: Path) -> int:
    """Of a file, or of all files in a repository."""
    if archive.is_file():
        return archive.stat().st_size
    return sum(path.stat().st_size for path in archive.rglob("*") if path.is_file())


@dataclass(frozen=True, slots=True)
class Floor:
    """Seconds for the bytes of a corpus: to read the files, and to compress what is in memory."""

    cat_s: float
    isal_s: float


def floor(corpus: Path) -> Floor:
    """One measurement. Raises CalledProcessError where ISA-L has no wheel."""
    command = [sys.executable, str(_FLOOR), str(corpus)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    cat_s, isal_s = map(float, done.stdout.split())
    return Floor(cat_s, isal_s)


def typical_floor(floors: Sequence[Floor]) -> Floor:
    return Floor(
        statistics.median(one.cat_s for one in floors), statistics.median(one.isal_s for one in floors)
    )
