"""Targets, and a disk that is soon full, for the tests of the local provider."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from providers.api import Limits, Target
from providers.local import Local
from providers.testing.streams import BytesSource, content
from tests.support.require import require

DATA = content(3_000_000)


def local(path: Path, *, mount: bool = False) -> Local:
    return Local({}, Limits(targets={"device": Target(path, mount)}))


def put(path: Path, name: str = "a.zip", data: bytes = DATA) -> None:
    local(path).put(name, BytesSource(data), {}, {})


@contextmanager
def small_disk(path: Path) -> Iterator[Path]:
    """A file system of 1 MiB."""
    path.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", path], check=False, capture_output=True
    )
    require(mounted.returncode == 0, "the right to mount a tmpfs (root)")
    try:
        yield path
    finally:
        subprocess.run(["umount", path], check=True)
