"""Small file systems that are really mounted: soon full, soon without inodes, read-only on demand."""

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import NamedTemporaryFile

from tests.support.require import possible, require
from tests.support.unmounting import unmount

KINDS = ("tmpfs", "ext4")
SIZE_BYTES, INODES = 4 << 20, 64
LARGE_KINDS = ("btrfs", "xfs")
LARGE_BYTES = 320 << 20
"""Their tools make no smaller file system; the image is sparse."""


@dataclass(frozen=True)
class Disk:
    path: Path

    @property
    def free_bytes(self) -> int:
        status = os.statvfs(self.path)
        return status.f_bavail * status.f_frsize

    @contextmanager
    def ballast(self, size_bytes: int) -> Iterator[None]:
        """While inside, somebody else uses so much of it."""
        ballast = self.path / "ballast"
        ballast.write_bytes(bytes(size_bytes))
        yield
        ballast.unlink()

    @contextmanager
    def full(self) -> Iterator[None]:
        """While inside, somebody else uses the disk to the last byte."""
        ballast = self.path / "ballast"
        with ballast.open("wb", buffering=0) as file:
            try:
                _repeat(lambda: file.write(bytes(1 << 16)))
                _repeat(lambda: file.write(bytes(512)))
                yield
            finally:
                ballast.unlink()

    @contextmanager
    def without_inodes(self) -> Iterator[None]:
        """While inside, no further file can be made."""
        many = self.path / "many"
        many.mkdir()
        names = (many / str(number) for number in range(INODES * 2))
        _repeat(lambda: next(names).touch())
        yield
        shutil.rmtree(many)

    @contextmanager
    def read_only(self) -> Iterator[None]:
        """While inside, as a kernel leaves a file system that it found damaged."""
        self.remount("ro")
        yield
        self.remount("rw")

    def remount(self, option: str) -> None:
        """With `ro` nobody may have a file of it open for writing."""
        subprocess.run(["mount", "-o", f"remount,{option}", self.path], check=True)


@contextmanager
def overlay(path: Path, lower: Path) -> Iterator[Path]:
    """An overlay file system over `lower`, mounted at the new directory `path`, as containers have it."""
    require(os.geteuid() == 0 and shutil.which("mount") is not None, "root, to mount")
    path.mkdir(parents=True)
    with tmpfs(path.with_name(f"{path.name}-upper")) as upper:
        for name in ("upper", "work"):
            (upper / name).mkdir()
        options = f"redirect_dir=off,lowerdir={lower},upperdir={upper}/upper,workdir={upper}/work"
        mount = ["mount", "-t", "overlay", "-o", options, "overlay", str(path)]
        mounted = subprocess.run(mount, check=False, capture_output=True)
        possible(mounted.returncode == 0, "mount an overlay file system")
        try:
            yield path
        finally:
            unmount(path)


@contextmanager
def tmpfs(path: Path, size: str = "50%") -> Iterator[Path]:
    """A file system in memory of this size, mounted at the new directory `path`."""
    require(os.geteuid() == 0 and shutil.which("mount") is not None, "root, to mount")
    path.mkdir(parents=True)
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}", "none", path], check=False, capture_output=True
    )
    possible(mounted.returncode == 0, "mount a tmpfs")
    try:
        yield path
    finally:
        unmount(path)


def _repeat(step: Callable[[], object]) -> None:
    """Until the disk refuses."""
    with suppress(OSError):
        while True:
            step()


@contextmanager
def real_disk(kind: str, path: Path) -> Iterator[Disk]:
    """A file system of `SIZE_BYTES` and about `INODES` files, mounted at the new directory `path`.

    That of kind `small inodes` is ext4 as older tools made it: its time stamps are whole seconds.
    One of the `LARGE_KINDS` has `LARGE_BYTES`, and as many files as there is room for.
    """
    make = {"btrfs": "mkfs.btrfs", "xfs": "mkfs.xfs"}.get(kind, "mkfs.ext4")
    tools = [*map(shutil.which, ("mount", make, "losetup"))]
    require(os.geteuid() == 0 and all(tools), f"root, to mount, and {make}")
    path.mkdir(parents=True)
    with NamedTemporaryFile(dir=path.parent) as image:
        options = ["-t", "tmpfs", "-o", f"size={SIZE_BYTES},nr_inodes={INODES}", "none"]
        if kind != "tmpfs":
            image.truncate(LARGE_BYTES if kind in LARGE_KINDS else SIZE_BYTES)
            few = ["-m", "0", "-N", str(INODES)] if make == "mkfs.ext4" else []
            small = ["-I", "128"] if kind == "small inodes" else []
            subprocess.run([make, "-q", *few, *small, image.name], check=True)
            options = ["-o", "loop", image.name]  # the mount keeps the file after its name has gone
        mounted = subprocess.run(["mount", *options, path], check=False, capture_output=True)
    possible(mounted.returncode == 0, f"mount a file system of kind {kind}")
    try:
        yield Disk(path)
    finally:
        unmount(path)
