"""Directory trees for tests: described in a few words, made on the disk, put into an archive, compared."""

import os
import stat
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from agent.formats.zip.metadata import own_extra

NOON_NS = 1_700_000_000_123_456_789
"""A time with nanoseconds in it, long ago enough that nothing has it by accident."""


@dataclass(frozen=True)
class File:
    content: bytes = b""
    mode: int | None = 0o644
    mtime_ns: int = NOON_NS


@dataclass(frozen=True)
class Dir:
    mode: int | None = 0o755
    mtime_ns: int = NOON_NS


@dataclass(frozen=True)
class Link:
    to: str
    mtime_ns: int = NOON_NS


Spec = Mapping[str, File | Dir | Link]
"""Relative name -> what is there. Directories come before what is in them."""


def make_tree(root: Path, spec: Spec, root_mtime_ns: int = NOON_NS) -> Path:
    """Make `spec` below the new or empty directory `root`, with exact modes and times."""
    root.mkdir(parents=True, exist_ok=True)
    for name, node in spec.items():
        path = root / name
        if isinstance(node, Dir):
            path.mkdir()
        elif isinstance(node, Link):
            path.symlink_to(node.to)
        else:
            path.write_bytes(node.content)
    for name, node in reversed(list(spec.items())):
        if isinstance(node, File | Dir):
            (root / name).chmod(node.mode if node.mode is not None else 0o755)
        os.utime(root / name, ns=(node.mtime_ns, node.mtime_ns), follow_symlinks=False)
    os.utime(root, ns=(root_mtime_ns, root_mtime_ns))
    return root


def write_zip(
    path: Path,
    spec: Spec | Sequence[tuple[str, File | Dir | Link]],
    extra: Mapping[str, bytes] | None = None,
) -> Path:
    """An archive of `spec`, times with nanoseconds; mode None: made on a system without modes.

    A list may name things twice. `extra` has further extra fields by name.
    """
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, node in spec.items() if isinstance(spec, Mapping) else spec:
            archive.writestr(*_member(name, node, (extra or {}).get(name, b"")))
    return path


class _AnyName(zipfile.ZipInfo):
    """zipfile itself cannot write a name that is no UTF-8."""

    def _encodeFilenameFlags(self) -> tuple[bytes, int]:
        return os.fsencode(self.filename), self.flag_bits


def _member(name: str, node: File | Dir | Link, extra: bytes) -> tuple[zipfile.ZipInfo, bytes]:
    info = _AnyName(name + "/" if isinstance(node, Dir) else name)
    info.create_system = 3
    info.compress_type = zipfile.ZIP_STORED if isinstance(node, Dir) else zipfile.ZIP_DEFLATED
    info.extra = own_extra(node.mtime_ns, None, {}) + extra
    if isinstance(node, Link):
        info.external_attr = (stat.S_IFLNK | 0o777) << 16
        return info, os.fsencode(node.to)
    if node.mode is None:
        info.create_system, info.external_attr = 0, 0x20  # DOS, "archive"
    else:
        info.external_attr = (node.mode | (stat.S_IFDIR if isinstance(node, Dir) else stat.S_IFREG)) << 16
    return info, b"" if isinstance(node, Dir) else node.content


class Found(NamedTuple):
    """The facts at a name that a restore has to bring back."""

    kind: str
    mode: int
    mtime_ns: int
    owner: tuple[int, int]
    content: bytes


def snapshot(root: Path) -> dict[str, Found]:
    """Everything at and below `root` ("" is itself), links not followed."""
    found = {"": _found(root)}
    for directory, directories, files in os.walk(root):
        for name in directories + files:
            path = Path(directory, name)
            found[str(path.relative_to(root))] = _found(path)
    return found


def _found(path: Path) -> Found:
    status = path.lstat()
    kind, content = "other", b""
    if path.is_symlink():
        kind, content = "link", os.fsencode(os.readlink(path))
    elif path.is_dir():
        kind = "directory"
    elif path.is_file():
        kind, content = "file", path.read_bytes()
    return Found(
        kind, stat.S_IMODE(status.st_mode), status.st_mtime_ns, (status.st_uid, status.st_gid), content
    )


def differences(left: Mapping[str, Found], right: Mapping[str, Found]) -> list[str]:
    """Return the differences between two snapshots, in words."""
    found = []
    for name in sorted(left.keys() | right.keys()):
        here, there = left.get(name), right.get(name)
        if here is None or there is None:
            found.append(f"'{name}': {'only right' if here is None else 'only left'}")
        else:
            found += [
                f"'{name}': {key} {one!r:.80} != {other!r:.80}"
                for key, one, other in zip(Found._fields, here, there, strict=True)
                if one != other
            ]
    return found


def contents(root: Path) -> dict[str, Found]:
    """Return a snapshot of everything below `root`: archives do not name the time of `root` itself."""
    found = snapshot(root)
    del found[""]
    return found
