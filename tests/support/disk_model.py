"""A disk that keeps only what was synced, and of the rest whatever subset it likes.

Fed with recorded system calls. Every change is an effect: some bytes of a file, its length, its mode, a
name in a directory. An fsync makes the effects on one file or directory last, syncfs all of them; a
rename is one effect, in one directory or two. After a power cut the disk has what lasts and any choice of
the other effects: real file systems keep more order than that.
"""

import os
import re
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tests.support.strace_log import Recorded

_UMASK = 0o022
_TIME = re.compile(r"tv_sec=(-?\d+), tv_nsec=(\d+)\}")


@dataclass(eq=False)
class Inode:
    """A file, directory or link as it was made; what happened to it later is in effects."""

    kind: int
    mode: int
    target: str = ""


@dataclass(eq=False)
class Effect:
    on: tuple[Inode, ...]
    """Syncing any of these makes it last."""
    do: "Callable[[Image], None]"
    what: str
    is_data: bool = False
    data: bytes = b""
    """The bytes of a write."""
    is_name: bool = False
    lasts: bool = False


@dataclass
class Image:
    """The state of a disk: contents, names and attributes of inodes."""

    contents: dict[Inode, bytearray] = field(default_factory=dict)
    names: dict[Inode, dict[str, Inode]] = field(default_factory=dict)
    modes: dict[Inode, int] = field(default_factory=dict)
    times_ns: dict[Inode, int] = field(default_factory=dict)

    def write(self, inode: Inode, offset: int, data: bytes) -> None:
        content = self.contents.setdefault(inode, bytearray())
        content.extend(bytes(max(0, offset - len(content))))
        content[offset : offset + len(data)] = data

    def truncate(self, inode: Inode, size: int) -> None:
        content = self.contents.setdefault(inode, bytearray())
        del content[size:]
        content.extend(bytes(size - len(content)))

    def name(self, directory: Inode, name: str, inode: Inode | None) -> None:
        names = self.names.setdefault(directory, {})
        names.pop(name, None)
        if inode:
            names[name] = inode

    def find(self, root: Inode, path: str) -> Inode | None:
        here: Inode | None = root
        for part in path.split("/") if path else []:
            here = self.names.get(here, {}).get(part) if here else None
        return here


class Disk:
    """A model of everything below one directory. `feed` it with every call, in order."""

    def __init__(self, root: Path) -> None:
        """`root` as it is now, all of it synced."""
        self.root = root
        self.effects: list[Effect] = []
        self._top = Inode(stat.S_IFDIR, 0o755)
        self._live = Image()
        self._positions: dict[str, int] = {}
        self._load(self._top, root)
        self._first = [*self.effects]
        for effect in self._first:
            effect.lasts = True

    # What is there at the beginning

    def _load(self, inode: Inode, path: Path) -> None:
        status = path.lstat()
        self._attribute(inode, "modes", stat.S_IMODE(status.st_mode), str(path))
        self._attribute(inode, "times_ns", status.st_mtime_ns, str(path))
        if path.is_symlink():
            inode.target = os.readlink(path)
        elif path.is_dir():
            for child in sorted(path.iterdir()):
                new = Inode(stat.S_IFMT(child.lstat().st_mode), 0)
                self._load(new, child)
                self._names(f"{child}", (inode, child.name, new))
        else:
            self._data(inode, 0, path.read_bytes(), str(path))

    # Effects

    def _add(self, effect: Effect) -> None:
        effect.do(self._live)
        self.effects.append(effect)

    def _names(self, what: str, *changes: tuple[Inode, str, Inode | None]) -> None:
        def do(image: Image) -> None:
            for directory, name, inode in changes:
                image.name(directory, name, inode)

        self._add(Effect(tuple(directory for directory, _, _ in changes), do, what, is_name=True))

    def _data(self, inode: Inode, offset: int, data: bytes, what: str) -> None:
        self._add(Effect((inode,), lambda image: image.write(inode, offset, data), what, True, data))

    def _attribute(self, inode: Inode, table: str, value: int, what: str) -> None:
        self._add(Effect((inode,), lambda image: getattr(image, table).update({inode: value}), what))

    # Calls

    def feed(self, call: Recorded) -> None:
        handler = getattr(self, f"_on_{call.name}", None)
        assert handler or call.name in _HARMLESS, f"not modelled: {call.name}"
        if handler:
            handler(call)

    def _inside(self, path: str) -> str | None:
        """Relative to the root; None for what lies outside."""
        path = os.path.normpath(path)
        if path == str(self.root):
            return ""
        return path.removeprefix(f"{self.root}/") if path.startswith(f"{self.root}/") else None

    def _inode(self, path: str) -> Inode | None:
        inside = self._inside(path)
        return None if inside is None else self._live.find(self._top, inside)

    def _at(self, call: Recorded, file: int | None, path: int) -> str:
        """The absolute path that a call with a directory descriptor and a name means."""
        text = call.text(path)
        return text if file is None else os.path.join(call.file(file)[1], text)

    def _place(self, path: str) -> tuple[Inode, str] | None:
        directory = self._inode(os.path.dirname(os.path.normpath(path)))
        return (directory, os.path.basename(os.path.normpath(path))) if directory else None

    def _on_openat(self, call: Recorded) -> None:
        path, flags, descriptor = self._at(call, 0, 1), call.arguments[2].split("<")[0], str(call.result)
        self._positions[descriptor] = 0
        destination = self._place(path)
        if destination is None or "O_TMPFILE" in flags:
            return
        inode = self._inode(path)
        if inode is None and "O_CREAT" in flags:
            inode = Inode(stat.S_IFREG, int(call.arguments[3].split("<")[0], 8) & ~_UMASK)
            self._names(f"create {path}", (*destination, inode))
        if inode and "O_TRUNC" in flags:
            self._truncated(inode, 0, path)
        if inode and "O_APPEND" in flags:
            self._positions[descriptor] = len(self._live.contents.get(inode, b""))

    def _truncated(self, inode: Inode, size: int, what: str) -> None:
        self._add(Effect((inode,), lambda image: image.truncate(inode, size), f"truncate {what}", True))

    def _on_lseek(self, call: Recorded) -> None:
        self._positions[call.file(0)[0]] = call.result

    def _on_write(self, call: Recorded) -> None:
        descriptor, path = call.file(0)
        offset = self._positions.get(descriptor, 0)
        self._positions[descriptor] = offset + call.result
        if inode := self._inode(path):
            self._data(inode, offset, call.data(1)[: call.result], f"write {path}")

    def _on_pwrite64(self, call: Recorded) -> None:
        path = call.file(0)[1]
        if inode := self._inode(path):
            self._data(inode, int(call.arguments[3]), call.data(1)[: call.result], f"write {path}")

    def _on_ftruncate(self, call: Recorded) -> None:
        path = call.file(0)[1]
        if inode := self._inode(path):
            self._truncated(inode, int(call.arguments[1]), path)

    def _on_mkdirat(self, call: Recorded, file: int | None = 0, path: int = 1) -> None:
        full = self._at(call, file, path)
        if destination := self._place(full):
            mode = int(call.arguments[path + 1], 8) & ~_UMASK
            self._names(f"mkdir {full}", (*destination, Inode(stat.S_IFDIR, mode)))

    def _on_mkdir(self, call: Recorded) -> None:
        self._on_mkdirat(call, None, 0)

    def _on_symlinkat(self, call: Recorded) -> None:
        full = self._at(call, 1, 2)
        if destination := self._place(full):
            self._names(f"symlink {full}", (*destination, Inode(stat.S_IFLNK, 0o777, call.text(0))))

    def _on_linkat(self, call: Recorded) -> None:
        source, full = self._inode(self._at(call, 0, 1)), self._at(call, 2, 3)
        if source and (destination := self._place(full)):
            self._names(f"link {full}", (*destination, source))

    def _on_unlinkat(self, call: Recorded, file: int | None = 0, path: int = 1) -> None:
        full = self._at(call, file, path)
        if destination := self._place(full):
            self._names(f"remove {full}", (*destination, None))

    def _on_unlink(self, call: Recorded) -> None:
        self._on_unlinkat(call, None, 0)

    _on_rmdir = _on_unlink

    def _on_renameat(self, call: Recorded) -> None:
        self._renamed(self._at(call, 0, 1), self._at(call, 2, 3))

    _on_renameat2 = _on_renameat

    def _on_rename(self, call: Recorded) -> None:
        self._renamed(self._at(call, None, 0), self._at(call, None, 1))

    def _renamed(self, source: str, target: str) -> None:
        inode, before, after = self._inode(source), self._place(source), self._place(target)
        if inode and before and after and inode is not self._inode(target):
            self._names(f"rename {source} {target}", (*before, None), (*after, inode))

    def _on_fchmod(self, call: Recorded) -> None:
        self._moded(call.file(0)[1], call.arguments[1])

    def _on_chmod(self, call: Recorded) -> None:
        self._moded(call.text(0), call.arguments[1])

    def _moded(self, path: str, mode: str) -> None:
        if inode := self._inode(path):
            self._attribute(inode, "modes", int(mode, 8), f"chmod {path}")

    def _on_utimensat(self, call: Recorded) -> None:
        directory, name = call.file(0)[1], call.arguments[1]
        path = directory if name == "NULL" else os.path.join(directory, call.text(1))
        times = _TIME.findall(call.arguments[2])  # that of reading, and that of writing
        if times and (inode := self._inode(path)):
            seconds, nanoseconds = map(int, times[-1])
            self._attribute(inode, "times_ns", seconds * 10**9 + nanoseconds, f"utime {path}")

    def _on_fsync(self, call: Recorded, *, data_only: bool = False) -> None:
        inode = self._inode(call.file(0)[1])
        for effect in self.effects:
            if inode in effect.on and (effect.is_data or not data_only):
                effect.lasts = True

    def _on_fdatasync(self, call: Recorded) -> None:
        self._on_fsync(call, data_only=True)

    def _on_syncfs(self, _call: Recorded) -> None:
        for effect in self.effects:
            effect.lasts = True

    # What a power cut may leave

    @property
    def unsynced(self) -> list[Effect]:
        return [effect for effect in self.effects if not effect.lasts]

    def at_risk(self) -> list[str]:
        """Return the changes that a power cut may take, or bring back."""
        lasting = self.after_power_cut(lambda _effect: False)
        images = (self._live, lasting)
        found = {inode for image in images for _, inode in self._walk(image, self._top, self.root)}
        return [effect.what for effect in self.unsynced if found.intersection(effect.on)]

    def surely_has(self, data: bytes) -> bool:
        """Return True when a write that had this in it lasts."""
        return any(effect.lasts and data in effect.data for effect in self.effects)

    def after_power_cut(self, kept: Callable[[Effect], bool]) -> Image:
        """The disk with what lasts, and of the rest what `kept` chooses."""
        image = Image()
        for effect in self.effects:
            if effect.lasts or kept(effect):
                effect.do(image)
        return image

    def lay_out(self, image: Image) -> None:
        """Make the real directory what the image says. It has to be empty."""
        made: dict[Inode, Path] = {}
        for path, inode in self._walk(image, self._top, self.root):
            if inode in made and inode.kind != stat.S_IFDIR:
                os.link(made[inode], path, follow_symlinks=False)
            elif inode.kind == stat.S_IFDIR:
                path.mkdir(exist_ok=True)
            elif inode.kind == stat.S_IFLNK:
                path.symlink_to(inode.target)
            else:
                path.write_bytes(image.contents.get(inode, b""))
            made.setdefault(inode, path)
        for inode, path in reversed(made.items()):
            if inode.kind != stat.S_IFLNK:
                path.chmod(image.modes.get(inode, inode.mode))
            if inode in image.times_ns:
                time_ns = image.times_ns[inode]
                os.utime(path, ns=(time_ns, time_ns), follow_symlinks=False)

    def _walk(self, image: Image, inode: Inode, path: Path) -> Iterator[tuple[Path, Inode]]:
        yield path, inode
        if inode.kind == stat.S_IFDIR:
            for name, child in image.names.get(inode, {}).items():
                yield from self._walk(image, child, path / name)


_HARMLESS = {"chown", "fchown", "lchown", "fchownat", "sendto", "fallocate", "sync"}
"""Owners are all root here; the rest changes nothing that is modelled."""
