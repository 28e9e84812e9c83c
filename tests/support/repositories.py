"""Repositories for tests: objects in a directory, a snapshot in one call, and restic as the judge."""

import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from agent.base.clock import BootClock
from agent.base.errors import RepositoryBroken
from agent.base.job import Label
from agent.base.roots import Root
from agent.formats.base import Freed, Removal
from agent.formats.entries import TICK_NS
from agent.formats.manifest import Origin
from agent.formats.repository.crypto import Cryptor
from agent.formats.repository.keys import open_repository
from agent.formats.repository.objects import Kind, Listed
from agent.formats.repository.prune import PruneJob
from agent.formats.repository.reader import snapshots as snapshots_in
from agent.formats.repository.session import SnapshotOrder
from agent.formats.repository.snapshot import SavedSnapshot, save_snapshot
from agent.formats.repository.unpacked import put_unpacked
from agent.formats.walk_report import Report
from agent.save.walk import WalkRoot, walk
from agent.transfer.cancel import CancelToken
from agent.transfer.context import Context, Destination
from agent.transfer.guarded_storage import GuardedStorage
from agent.transfer.retry import RetryLimits
from providers.errors import AccessDenied, AlreadyThere, NotFound
from tests.support.fakes import MemoryStorage
from tests.support.require import possible, require
from tests.support.settings_files import private_file
from tests.support.trees import Dir, File, make_tree, snapshot
from tests.support.waiting import wait_until

PASSWORD = "correct horse"
HOST = "org.example:device"


@dataclass
class DirectoryObjects:
    """The objects of a repository in a directory; notes every call, and may refuse some."""

    path: Path
    calls: list[tuple[str, Kind]] = field(default_factory=list)
    denied: set[tuple[str, Kind]] = field(default_factory=set)

    before: Callable[[str, Kind], None] = lambda _call, _kind: None
    """Runs before each call, and may raise: a crash, a cancel, or somebody else at work."""

    after: Callable[[str, Kind], None] = lambda _call, _kind: None
    """Runs after each call that changes something: the answer may be lost."""

    def _enter(self, call: str, kind: Kind) -> None:
        self.before(call, kind)
        self.calls.append((call, kind))
        if (call, kind) in self.denied:
            raise AccessDenied(f"{call} of {kind} is not allowed")

    def _path(self, kind: Kind, name: str) -> Path:
        if kind is Kind.CONFIG:
            return self.path / kind
        return self.path / kind / name[:2] / name if kind is Kind.PACK else self.path / kind / name

    def put(self, kind: Kind, name: str, content: bytes | bytearray, /) -> None:
        self._enter("put", kind)
        path = self._path(kind, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with path.open("xb") as file:
                file.write(content)
        except FileExistsError as error:
            raise AlreadyThere(f"{kind} {name} exists") from error
        self.after("put", kind)

    def get(self, kind: Kind, name: str, most_bytes: int, /) -> bytes:
        self._enter("get", kind)
        try:
            content = self._path(kind, name).read_bytes()
        except FileNotFoundError as error:
            raise NotFound(f"{kind} {name}") from error
        if len(content) > most_bytes:
            raise RepositoryBroken(f"{kind} {name} is too long")
        return content

    def get_range(self, kind: Kind, name: str, offset: int, size_bytes: int, /) -> bytes:
        self._enter("get_range", kind)
        try:
            with self._path(kind, name).open("rb") as file:
                return os.pread(file.fileno(), size_bytes, offset)
        except FileNotFoundError as error:
            raise NotFound(f"{kind} {name}") from error

    def exists(self, kind: Kind, name: str, /) -> bool:
        self._enter("exists", kind)
        return self._path(kind, name).exists()

    def delete(self, kind: Kind, name: str, /) -> None:
        self._enter("delete", kind)
        self._path(kind, name).unlink(missing_ok=True)
        self.after("delete", kind)

    def list(self, kind: Kind, /) -> Iterator[Listed]:
        self._enter("list", kind)
        for path in [*(self.path / kind).rglob("*")]:
            if path.is_file():
                yield Listed(path.name, path.stat().st_size)

    def count(self, kind: Kind) -> int:
        return sum(1 for path in (self.path / kind).rglob("*") if path.is_file())


@dataclass
class Device:
    """A device with a repository: `objects` is the store's side, `state` its own."""

    objects: DirectoryObjects
    state: Path
    roots: tuple[Root, ...]
    report: Report = field(default_factory=Report)
    options: dict[str, Any] = field(default_factory=dict)
    """Further fields of the orders."""

    @classmethod
    def at(cls, path: Path, *roots: Root) -> "Device":
        return cls(DirectoryObjects(path / "repository"), path / "state", roots)

    def save(self, *, token: CancelToken | None = None, when: datetime | None = None) -> SavedSnapshot:
        """Write a snapshot of the roots; `when` is the device's clock."""
        token = token or CancelToken()
        self.report = Report()
        self.let_settle()
        origin = self.origin(when=when)
        fields: dict[str, Any] = {"origin": origin, "password": PASSWORD, "state": self.state} | self.options
        entries = (
            entry for root in self.roots for entry in walk(WalkRoot(root), self.report, (), token.check)
        )
        order = SnapshotOrder(**fields)
        return save_snapshot(self.objects, entries, self.report, order, Context("job", token, {}))

    def let_settle(self) -> None:
        """Wait the moment in which a file that was just written counts as one that is still changing."""
        paths = (path for root in self.roots for path in root.directory.rglob("*"))
        newest_ns = max((path.lstat().st_ctime_ns for path in paths), default=0)
        # Some tests turn the monotonic clock, with which `wait_until` counts.
        while 0 <= time.time_ns() - newest_ns < TICK_NS:
            time.sleep(0.001)

    def origin(self, *, when: datetime | None = None, sources: tuple[Root, ...] | None = None) -> Origin:
        roots = self.roots if sources is None else sources
        return Origin(HOST, "edge-backup/test", when or datetime.now(UTC), "request-1", Label(), roots)

    def restic(self, *arguments: str, ok: bool = True) -> str:
        """Run restic on the repository; return what it prints."""
        return restic(self.objects.path, *arguments, ok=ok)

    def check(self, *, locked: bool = False) -> None:
        """Let restic read and check everything; `locked` when a job that was cut off has left its lock."""
        self.restic("check", "--read-data", *(["--no-lock"] if locked else []))

    def prune(self) -> None:
        """Let the operator's restic remove what no snapshot needs."""
        self.restic("prune", "--max-unused", "0")

    def forget(self, *names: str) -> None:
        """Let the operator's restic forget snapshots, and remove what only they needed."""
        self.restic("forget", *names, "--prune", "--max-unused", "0")

    def remove(
        self,
        *names: str,
        kept: Iterable[str] = (),
        dry_run: bool = False,
        max_unused: int = 0,
        token: CancelToken | None = None,
    ) -> Freed:
        """Let the device itself forget snapshots, as others are kept, and remove what only they needed."""
        told: list[str] = []
        storage = GuardedStorage(MemoryStorage(), RetryLimits(attempts=1), CancelToken())
        context = Context("prune", token or CancelToken(), {})
        removal = Removal(
            Destination(storage, False, None), dict.fromkeys(names, 0), frozenset(kept), dry_run, told.append,
            context,
        )  # fmt: skip
        opened = open_repository(self.objects, PASSWORD)
        done = PruneJob(self.objects, opened, self.state, HOST, max_unused, 0, context.token.check).run(
            removal
        )
        assert done.problem or told == list(names)
        return done

    def names(self) -> list[str]:
        """Return the snapshots as the agent reads them, the oldest first; none where nothing is yet."""
        if not self.objects.count(Kind.SNAPSHOT):
            return []
        cryptor = Cryptor(open_repository(self.objects, PASSWORD).keys)
        found = snapshots_in(self.objects, cryptor, lambda: None)
        return [each.id for each in sorted(found, key=lambda each: each.time)]

    @property
    def size_bytes(self) -> int:
        """Return the bytes of all packs."""
        return sum(each.size_bytes for each in self.objects.list(Kind.PACK))

    def restored(self, where: Path, name: str = "latest") -> Path:
        """Let restic restore a snapshot; return the directory with what was the first root."""
        self.restic("restore", name, "--target", str(where))
        return where / self.roots[0].directory.relative_to("/")

    def snapshots(self) -> list[dict[str, Any]]:
        """Return what restic lists, the oldest first."""
        found: list[dict[str, Any]] = json.loads(self.restic("snapshots", "--json"))
        return found


def restic(
    repository: Path | str, *arguments: str, ok: bool = True, environment: Mapping[str, str] | None = None
) -> str:
    """Run restic on a repository, a directory or anything else that restic knows; return what it prints."""
    require(shutil.which("restic") is not None, "restic")
    done = subprocess.run(
        ["restic", "--no-cache", *arguments],
        env={
            **os.environ,
            "RESTIC_PASSWORD": PASSWORD,
            "RESTIC_REPOSITORY": str(repository),
            **(environment or {}),
        },
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert not ok or done.returncode == 0, f"restic {arguments}: {done.stdout}{done.stderr}"
    return done.stdout if ok else done.stdout + done.stderr


@contextmanager
def mounted(repository: Path, where: Path) -> Iterator[Path]:
    """A repository as restic shows it in a directory; the kernel, or the container, may have no FUSE."""
    require(shutil.which("restic") is not None, "restic")
    possible(os.access("/dev/fuse", os.R_OK | os.W_OK) and bool(shutil.which("fusermount")), "mount by FUSE")
    where.mkdir()
    environment = {**os.environ, "RESTIC_PASSWORD": PASSWORD, "RESTIC_REPOSITORY": str(repository)}
    with tempfile.TemporaryFile("w+") as said:
        command = ["restic", "--no-cache", "mount", str(where)]
        running = subprocess.Popen(command, env=environment, stdout=said, stderr=subprocess.STDOUT)
        try:
            wait_until(lambda: running.poll() is not None or (where / "snapshots").exists(), what="the mount")
            said.seek(0)
            possible(running.poll() is None, f"mount by FUSE ({said.read()})")
            yield where
        finally:
            running.send_signal(signal.SIGINT)
            running.wait(60)


def foreign_lock(objects: DirectoryObjects, *, exclusive: bool, host: str = "ops") -> str:
    """Put the lock of a restic on another machine; return its name."""
    opened = open_repository(objects, PASSWORD)
    lock = {
        "time": datetime.now(UTC).isoformat(),
        "exclusive": exclusive,
        "hostname": host,
        "username": "x",
        "pid": 1,
    }
    name, _ = put_unpacked(objects, Cryptor(opened.keys), Kind.LOCK, json.dumps(lock).encode())
    return name


class Uptime:
    """A boot clock that a test moves."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.s = 1000.0
        patch.setattr(BootClock, "now", lambda _self: ("this boot", self.s))
        patch.setattr(
            BootClock, "age_s", lambda _self, boot, s: self.s - s if boot == "this boot" else float("inf")
        )

    def passing(self, seconds: float, kind: Kind) -> Callable[[str, Kind], None]:
        """Return a hook that lets time pass before an object of this kind is stored."""

        def before(call: str, stored: Kind) -> None:
            if (call, stored) == ("put", kind):
                self.s += seconds

        return before


CONTENT = os.urandom(300_000)


def small_device(path: Path) -> Device:
    """Return a device with a file `a` and a file `d/b`, which has the `CONTENT`."""
    make_tree(path / "source", {"a": File(b"a" * 1000), "d": Dir(), "d/b": File(CONTENT)})
    return Device.at(path, Root("", path / "source"))


def source(device: Device) -> Path:
    """Return the first directory that the device saves."""
    return device.roots[0].directory


def is_as_it_was(device: Device, where: Path) -> None:
    """Check the repository, and that its last snapshot restores the source."""
    device.check()
    assert snapshot(device.restored(where)) == snapshot(source(device))


def stores_on_a_stick(directory: Path) -> dict[str, Any]:
    """Settings with the stores `zips` and `snapshots`, both on the target `usb` in `directory`."""
    credentials = directory / "credentials.json"
    private_file(credentials, json.dumps({"password": PASSWORD}))
    (directory / "usb").mkdir()
    stick = {"provider": "local", "options": {"local.target": "usb"}}
    repository = {"format": "repository", "prefix": "snapshots", "credentials": str(credentials)}
    return {
        "targets": {"usb": {"path": str(directory / "usb")}},
        "stores": {"zips": stick, "snapshots": stick | repository},
    }
