"""How things are measured: a command as a child process, cases in turn, medians."""

import os
import shlex
import statistics
import subprocess
import sys
from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")

_CHILD = Path(__file__).with_name("child.py")


@dataclass(frozen=True, slots=True)
class Usage:
    """The cost of a piece of work. `cpu_s` is user and system time of all its threads."""

    wall_s: float
    cpu_s: float
    peak_bytes: int
    """Peak resident memory of the process (of the largest one, for a command that starts others)."""


@dataclass(frozen=True, slots=True)
class Command:
    """A public tool with its arguments. What is secret goes into `environment`, which is never shown."""

    argv: Sequence[str]
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)

    def then(self, *argv: str) -> "Command":
        """The same, followed by another command if it ends well; both count."""
        line = f"{shlex.join(self.argv)} && {shlex.join(argv)}"
        return Command(("sh", "-c", line), self.environment)

    def synced(self, file: Path) -> "Command":
        """The same, until its one output `file`, and the name of it, are on the disk."""
        return self.then("sync", str(file), str(file.parent))

    def tree_synced(self, directory: Path) -> "Command":
        """The same, until the file system that holds `directory` has everything on the disk."""
        return self.then("sync", "-f", str(directory))


class CommandFailed(Exception):
    """A tool that was to be measured ended with an error."""


def run(command: Command, directory: Path | None = None) -> Usage:
    """Measure `command`, run in `directory`. Raises `CommandFailed`.

    What earlier work has still to write is written first, outside the measured time.
    """
    os.sync()
    environment = {key: value for key, value in os.environ.items() if "PROXY" not in key.upper()}
    done = subprocess.run(
        [sys.executable, "-I", "-S", str(_CHILD), *command.argv],
        cwd=directory,
        env=environment | dict(command.environment),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise CommandFailed(f"cannot be started: {shlex.join(command.argv)}\n{done.stderr}")
    *seconds, peak_kib, status = done.stdout.split()
    if int(status):
        raise CommandFailed(f"exit status {status}: {shlex.join(command.argv)}\n{done.stderr}")
    wall_s, user_s, system_s = map(float, seconds)
    return Usage(wall_s, user_s + system_s, int(peak_kib) << 10)


def warm(directory: Path) -> None:
    """Read all files in `directory`, so that whoever is measured next finds them in the page cache.

    Kernels differ in how soon they give up what nobody reads, down to a few seconds: then the one of two
    whose file lay longer would be measured with the disk, and the other without.
    """
    buffer = bytearray(1 << 20)
    for path in filter(Path.is_file, directory.rglob("*")):
        with path.open("rb", buffering=0) as file:
            while file.readinto(buffer):
                pass


def interleaved(
    cases: Mapping[str, Callable[[], T]], repeat: int, title: str = "", once: Container[str] = ()
) -> dict[str, list[T]]:
    """Run every case `repeat` times, in rounds, so that a slow minute of the machine meets all of them.

    Each round begins with another case; those in `once` are in the first only. Says on stderr what runs.
    """
    results: dict[str, list[T]] = {name: [] for name in cases}
    names = list(cases)
    for number in range(repeat):
        first = number % len(names)
        for name in names[first:] + names[:first]:
            if number and name in once:
                continue
            print(f"{title}: {name}, round {number + 1} of {repeat}", file=sys.stderr, flush=True)
            results[name].append(cases[name]())
    return results


def typical(usages: Sequence[Usage]) -> Usage:
    """Median times, and the highest peak. Raises ValueError (statistics.StatisticsError) for none."""
    return Usage(
        statistics.median(usage.wall_s for usage in usages),
        statistics.median(usage.cpu_s for usage in usages),
        max(usage.peak_bytes for usage in usages),
    )
