"""The rules that keep a repository right: each test makes the failure happen that its rule prevents."""

import errno
import json
import os
import sqlite3
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from agent import RELEASED
from agent.base.clock import BootClock
from agent.base.errors import (
    ClockWrong,
    RepositoryBroken,
    RepositoryBusy,
    RepositoryLost,
    SourceChanged,
    WrongKey,
)
from agent.base.roots import Root
from agent.formats.repository.access import open_repository
from agent.formats.repository.crypto import Cryptor
from agent.formats.repository.objects import Kind
from agent.formats.repository.state import State
from agent.formats.repository.unpacked import put_unpacked
from agent.transfer.cancel import CancelToken
from providers.errors import Unreachable
from tests.support.repositories import PASSWORD, Device, restic
from tests.support.trees import Dir, File, make_tree, snapshot

CONTENT = os.urandom(300_000)
MINUTE_S = 60


@pytest.fixture
def device(tmp_path: Path) -> Device:
    make_tree(tmp_path / "source", {"a": File(b"a" * 1000), "d": Dir(), "d/b": File(CONTENT)})
    return Device.at(tmp_path, Root("", tmp_path / "source"))


def source(device: Device) -> Path:
    return device.roots[0].directory


def is_as_it_was(device: Device, where: Path) -> None:
    """Check the repository, and that its last snapshot restores the source."""
    device.check()
    assert snapshot(device.restored(where)) == snapshot(source(device))


# --- trust


def test_a_blob_that_only_a_forgotten_snapshot_had_is_sent_again(device: Device, tmp_path: Path) -> None:
    """Deduplicating against it gave a successful backup and a broken repository."""
    first = device.save()
    (source(device) / "d/b").unlink()
    device.save()
    device.forget(first.id)
    (source(device) / "d/b").write_bytes(CONTENT)
    device.save()
    is_as_it_was(device, tmp_path / "restored")


def test_nothing_is_trusted_when_the_last_snapshot_was_forgotten(device: Device, tmp_path: Path) -> None:
    """Its blobs are gone with the next prune."""
    device.forget(device.save().id)
    again = device.save()
    assert again.added_bytes > len(CONTENT)
    is_as_it_was(device, tmp_path / "restored")


def test_a_forgotten_snapshot_is_noticed_by_a_device_that_gets_403_for_what_is_missing(
    device: Device, tmp_path: Path
) -> None:
    """S3 answers so without the right to list; the device could see its snapshots before."""
    first = device.save()
    device.forget(first.id)
    device.objects.denied = {("exists", Kind.SNAPSHOT), ("list", Kind.SNAPSHOT)}
    device.save()
    device.objects.denied = set()
    is_as_it_was(device, tmp_path / "restored")


def test_a_snapshot_that_nobody_can_see_is_trusted_for_some_days_only(device: Device) -> None:
    """The operator's rules remove old snapshots: a device that was off for weeks sends everything again."""
    device.objects.denied = {("exists", Kind.SNAPSHOT), ("list", Kind.SNAPSHOT)}
    begun = datetime.now(UTC)
    device.save(when=begun)
    assert device.save(when=begun + timedelta(days=13)).added_bytes < 10_000
    late = device.save(when=begun + timedelta(days=28))
    assert late.added_bytes > len(CONTENT)
    assert "sent again" in " ".join(late.notes)
    device.check()


def test_a_snapshot_with_new_tags_is_still_the_last_one(device: Device) -> None:
    """`restic tag` writes the snapshot anew under another id; its content need not be sent again."""
    first = device.save()
    device.restic("tag", "--add", "kept", first.id)
    assert device.save().added_bytes < 10_000
    device.check()


# --- locks


def test_restic_does_not_prune_while_a_snapshot_is_written(device: Device) -> None:
    """The new packs have no snapshot yet: prune would remove them."""
    outputs: list[str] = []

    def before(call: str, kind: Kind) -> None:
        if (call, kind) == ("put", Kind.SNAPSHOT):
            outputs.append(device.restic("prune", ok=False))

    device.objects.before = before
    device.save()
    assert "already locked" in outputs[0]
    device.objects.before = lambda _call, _kind: None
    device.check()
    assert not device.objects.count(Kind.LOCK)


def exclusive_lock(device: Device) -> str:
    """Put the lock of a restic that prunes; return its name."""
    opened = open_repository(device.objects, PASSWORD)
    lock = {
        "time": datetime.now(UTC).isoformat(),
        "exclusive": True,
        "hostname": "ops",
        "username": "x",
        "pid": 1,
    }
    name, _ = put_unpacked(device.objects, Cryptor(opened.keys), Kind.LOCK, json.dumps(lock).encode())
    return name


def test_a_device_waits_while_somebody_prunes(device: Device) -> None:
    """A prune decides first and removes later: what is written in between may be removed."""
    device.save()
    name = exclusive_lock(device)
    with pytest.raises(RepositoryBusy, match="ops"):
        device.save()
    assert device.objects.count(Kind.LOCK) == 1
    device.objects.delete(Kind.LOCK, name)
    device.save()


def test_a_prune_that_begins_at_the_same_moment_is_noticed(device: Device) -> None:
    """Each side looks after it has put its own lock: one of them sees the other."""
    device.save()

    def before(call: str, kind: Kind) -> None:
        if (call, kind) == ("put", Kind.LOCK):
            device.objects.before = lambda _call, _kind: None
            exclusive_lock(device)

    device.objects.before = before
    with pytest.raises(RepositoryBusy):
        device.save()
    assert device.objects.count(Kind.LOCK) == 1  # not ours


def test_a_damaged_lock_is_told(device: Device) -> None:
    """Nobody knows what it locks."""
    device.save()
    path = device.objects.path / "locks" / ("0" * 64)
    path.write_bytes(b"x" * 100)
    with pytest.raises(RepositoryBroken):
        device.save()


class Uptime:
    """A boot clock that a test moves."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.s = 1000.0
        patch.setattr(BootClock, "now", lambda _self: ("this boot", self.s))
        patch.setattr(
            BootClock, "age_s", lambda _self, boot, s: self.s - s if boot == "this boot" else float("inf")
        )


def test_a_lock_is_refreshed_before_anybody_takes_it_for_stale(
    device: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A first backup may take days; restic calls a lock stale after 30 minutes."""
    uptime = Uptime(monkeypatch)

    def before(call: str, kind: Kind) -> None:
        if (call, kind) == ("put", Kind.PACK):
            uptime.s += 6 * MINUTE_S

    device.objects.before = before
    device.save()
    assert device.objects.calls.count(("put", Kind.LOCK)) > 1
    assert device.objects.calls.count(("put", Kind.LOCK)) == device.objects.calls.count(("delete", Kind.LOCK))


def test_a_lock_is_refreshed_while_nothing_is_stored(device: Device, monkeypatch: pytest.MonkeyPatch) -> None:
    """To look at ten million unchanged files takes longer than a lock is good for."""
    device.save()
    uptime = Uptime(monkeypatch)
    check = CancelToken.check

    def slow(token: CancelToken) -> None:
        uptime.s += 6 * MINUTE_S
        check(token)

    device.objects.calls.clear()
    with monkeypatch.context() as patch:
        patch.setattr(CancelToken, "check", slow)
        device.save()
    assert device.objects.calls.count(("put", Kind.PACK)) == 0
    assert device.objects.calls.count(("put", Kind.LOCK)) > 1


def test_a_job_whose_lock_may_have_been_removed_does_not_finish(
    device: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its packs may be gone: the snapshot would be a broken one."""
    uptime = Uptime(monkeypatch)

    def before(call: str, kind: Kind) -> None:
        if (call, kind) == ("put", Kind.INDEX):
            uptime.s += 40 * MINUTE_S
            device.objects.before = lambda _call, _kind: None
            device.restic("unlock", "--remove-all")
            device.prune()

    device.objects.before = before
    with pytest.raises(RepositoryBusy, match="25 minutes"):
        device.save()
    device.save()
    device.check()


def test_a_device_that_slept_goes_on_while_its_lock_exists(
    device: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody has pruned: who does removes the lock before."""
    uptime = Uptime(monkeypatch)

    def before(call: str, kind: Kind) -> None:
        if (call, kind) == ("put", Kind.INDEX):
            uptime.s += 40 * MINUTE_S

    device.objects.before = before
    device.save()
    device.check()


def interrupted(device: Device) -> None:
    """Let a job end after its packs are stored."""

    def before(call: str, kind: Kind) -> None:
        if (call, kind) == ("put", Kind.SNAPSHOT):
            raise Unreachable("the network is gone")

    device.objects.before = before
    with pytest.raises(Unreachable):
        device.save()
    device.objects.before = lambda _call, _kind: None


def test_the_packs_of_an_interrupted_job_are_not_sent_again(device: Device) -> None:
    """A large first backup over a bad link has to come to an end."""
    interrupted(device)
    assert device.save().added_bytes < 10_000
    device.check()


def test_the_packs_of_an_interrupted_job_keep_their_lock(device: Device) -> None:
    """A prune between the two jobs would remove them."""
    interrupted(device)
    assert "already locked" in device.restic("prune", ok=False)


@pytest.mark.parametrize("may_look", [True, False])
def test_packs_that_may_have_been_pruned_are_sent_again(
    device: Device, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, *, may_look: bool
) -> None:
    """Without their lock, unreferenced packs may be gone."""
    uptime = Uptime(monkeypatch)
    if not may_look:
        device.objects.denied = {(call, Kind.LOCK) for call in ("list", "get", "exists", "delete")}
    device.save()
    (source(device) / "new").write_bytes(os.urandom(200_000))
    interrupted(device)
    device.restic("unlock", "--remove-all")
    device.prune()
    uptime.s += 26 * MINUTE_S if not may_look else 1
    device.save()
    device.restic("unlock", "--remove-all")
    is_as_it_was(device, tmp_path / "restored")


def test_the_lock_of_a_job_that_was_cut_off_is_removed_by_the_next(device: Device) -> None:
    """restic would refuse to prune for ever."""
    device.save()

    def before(call: str, kind: Kind) -> None:
        if (call, kind) == ("delete", Kind.LOCK):
            raise Unreachable("power cut")

    device.objects.before = before
    device.save()
    device.objects.before = lambda _call, _kind: None
    assert device.objects.count(Kind.LOCK) == 1
    device.save()
    assert not device.objects.count(Kind.LOCK)


def test_the_lock_of_hardware_that_was_replaced_is_removed(device: Device, tmp_path: Path) -> None:
    """It died in the middle of a backup, and nobody else knows whose lock that is."""
    interrupted(device)
    device.state.rename(tmp_path / "old hardware")
    device.save()
    assert not device.objects.count(Kind.LOCK)
    device.check()


# --- time


def test_a_snapshot_is_later_than_the_one_before_whatever_the_clock_says(device: Device) -> None:
    """`restic forget --keep-last` would keep the older ones and drop the true one."""
    now = datetime.now(UTC)
    device.save(when=now)
    saved = device.save(when=now - timedelta(hours=5))
    first, second = device.snapshots()
    assert second["id"] == saved.id
    assert datetime.fromisoformat(second["time"][:19]) > datetime.fromisoformat(first["time"][:19])
    assert "clock is behind" in " ".join(saved.notes)


def test_a_clock_before_the_release_of_the_agent_waits(device: Device) -> None:
    """A device without a battery starts in 1970; a snapshot of then would be forgotten first."""
    with pytest.raises(ClockWrong, match="released later"):
        device.save(when=RELEASED - timedelta(days=1))
    assert not device.objects.path.exists()


# --- which repository


def test_a_repository_that_was_replaced_gets_everything(device: Device, tmp_path: Path) -> None:
    """The device's memory belongs to the old one."""
    device.save()
    device.objects.path.rename(tmp_path / "old")
    restic(device.objects.path, "init", "--repository-version", "2")
    device.save()
    is_as_it_was(device, tmp_path / "restored")


def test_a_repository_that_was_removed_is_made_anew(device: Device, tmp_path: Path) -> None:
    device.save()
    device.objects.path.rename(tmp_path / "old")
    device.save()
    is_as_it_was(device, tmp_path / "restored")


def test_lost_state_without_read_rights_is_refused_in_words(device: Device, tmp_path: Path) -> None:
    """The device cannot know the key of what is there."""
    device.save()
    device.state.rename(tmp_path / "lost")
    device.objects.denied = {(call, kind) for call in ("get", "exists", "list") for kind in Kind}
    with pytest.raises(RepositoryLost, match="another prefix"):
        device.save()
    device.check()


def test_a_device_that_may_only_write_makes_a_repository_and_goes_on(device: Device) -> None:
    """A store that only takes new objects is the least that an attacker can use."""
    device.objects.denied = {(call, kind) for call in ("get", "exists", "list", "delete") for kind in Kind}
    device.save()
    assert device.save().added_bytes < 10_000
    device.check(locked=True)


def test_a_device_never_reads_data_or_indexes_while_it_saves(device: Device) -> None:
    """The recommended rights do not have it: a thief with the credentials cannot read the history."""
    device.save()
    device.save()
    calls = device.objects.calls
    assert {call for call, kind in calls if kind in (Kind.PACK, Kind.INDEX)} == {"put"}


def test_a_crash_while_the_repository_is_made_leaves_one_that_can_be_opened(device: Device) -> None:
    """With a second key of another master, restic would open that one and not the config."""
    for failing in (Kind.CONFIG, Kind.KEY):

        def before(call: str, kind: Kind, failing: Kind = failing) -> None:
            if (call, kind) == ("put", failing):
                raise Unreachable("power cut")

        device.objects.before = before
        with pytest.raises(Unreachable):
            device.save()
    device.objects.before = lambda _call, _kind: None
    device.save()
    assert device.objects.count(Kind.KEY) == 1
    device.check()


def test_the_repository_of_somebody_else_gets_no_second_key(device: Device, tmp_path: Path) -> None:
    """Two devices with one prefix: the key would open, and fit nothing."""
    other = Device.at(tmp_path / "other", *device.roots)
    other.objects = device.objects
    device.objects.denied = {("get", Kind.CONFIG)}
    device.save()
    with pytest.raises(RepositoryLost):
        other.save()
    assert device.objects.count(Kind.KEY) == 1
    device.check()


def test_a_password_that_was_changed_at_the_repository_opens_it(device: Device, tmp_path: Path) -> None:
    """The copy of the key on the device opens with the old password only."""
    device.save()
    (tmp_path / "new").write_text("new password")
    device.restic("key", "passwd", "--new-password-file", str(tmp_path / "new"))
    device.options["password"] = "new password"
    assert device.save().added_bytes < 10_000
    device.options["password"] = "wrong"
    with pytest.raises(WrongKey):
        device.save()


# --- the state


@pytest.mark.parametrize("damage", [b"", b"no database", b"SQLite format 3\0" + b"x" * 5000])
def test_a_damaged_state_is_made_again(device: Device, damage: bytes) -> None:
    """It is a cache."""
    device.save()
    for path in [*device.state.glob("*.state"), *device.state.glob("*.pending")]:
        path.write_bytes(damage)
    assert device.save().added_bytes < 10_000
    device.check()


def test_unchanged_files_are_not_read(device: Device, monkeypatch: pytest.MonkeyPatch) -> None:
    """Reading everything every night wears out a cheap disk, and takes hours."""
    device.save()

    def refuse(_fd: int, _buffers: object) -> int:
        raise AssertionError("a file was read")

    monkeypatch.setattr(os, "readv", refuse)
    assert device.save().files_unmodified == 2


def test_a_database_with_a_log_is_read_though_its_file_stands_still(tmp_path: Path) -> None:
    """SQLite writes to the log beside the database: size and time of the main file tell nothing."""
    directory = make_tree(tmp_path / "source", {})
    database = sqlite3.connect(directory / "db")
    database.execute("PRAGMA journal_mode=WAL")
    database.execute("CREATE TABLE t (x)")
    database.commit()
    device = Device.at(tmp_path, Root("", directory))
    device.save()
    again = device.save()
    assert again.files_changed == 1
    database.close()
    device.save()
    assert device.save().files_changed == 0


def test_strict_jobs_leave_no_snapshot_when_something_was_skipped(device: Device) -> None:
    os.mkfifo(source(device) / "pipe")
    device.options["strict"] = True
    with pytest.raises(SourceChanged):
        device.save()
    assert not device.objects.count(Kind.SNAPSHOT)


def test_each_choice_of_roots_has_a_last_snapshot_of_its_own(device: Device, tmp_path: Path) -> None:
    """A backup of one data set between two of everything must not make the device forget the rest."""
    every = device.roots
    device.save()
    make_tree(tmp_path / "other", {"x": File(b"x")})
    device.roots = (Root("set", tmp_path / "other"),)
    device.save()
    device.roots = every
    assert device.save().added_bytes < 10_000
    device.check()


def test_a_snapshot_that_stands_is_a_success_though_the_disk_is_full(
    device: Device, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The state is older then: the next backup sends more, and is right."""
    device.save()
    (source(device) / "new").write_bytes(os.urandom(100_000))

    def full(_state: State) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(State, "commit", full)
        saved = device.save()
    assert "did not keep" in " ".join(saved.notes)
    (source(device) / "new").rename(source(device) / "newer")
    device.save()
    is_as_it_was(device, tmp_path / "restored")


def test_a_renamed_file_is_not_sent_again(device: Device) -> None:
    device.save()
    (source(device) / "d").rename(source(device) / "e")
    (source(device) / "e/b").rename(source(device) / "c")
    assert device.save().added_bytes < 10_000
    device.check()


Change = Callable[[Path], None]


@pytest.mark.parametrize(
    "change",
    [
        lambda top: (top / "d/b").rename(top / "b"),
        lambda top: ((top / "a").unlink(), (top / "a").mkdir()),
        lambda top: ((top / "d/b").unlink(), (top / "d").rmdir(), (top / "d").write_bytes(b"file")),
        lambda top: ((top / "d/b").unlink(), (top / "d").rmdir()),
        lambda top: (top / "a").chmod(0o600),
        lambda top: (top / "a").write_bytes(b""),
        lambda top: ((top / "a").unlink(), (top / "a").symlink_to("d")),
    ],
)
def test_any_change_is_in_the_next_snapshot(device: Device, change: Change, tmp_path: Path) -> None:
    device.save()
    change(source(device))
    device.save()
    is_as_it_was(device, tmp_path / "restored")
    assert device.save().added_bytes < 5000  # the directory above has changed, too


def test_a_file_that_changed_at_the_moment_of_the_backup_is_read_again(
    device: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernel's clock stands still for some milliseconds: a second change leaves no trace."""
    with monkeypatch.context() as patch:
        patch.setattr("agent.formats.repository.writer._TICK_NS", 10**18)
        device.save()
    assert device.save().files_changed == 2
    assert device.save().files_unmodified == 2


def test_a_file_that_grows_while_it_is_read_is_told_and_read_again(
    device: Device, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """It is saved as far as it went when it was opened."""
    log, readv = source(device) / "log", os.readv
    log.write_bytes(CONTENT)

    def growing(fd: int, buffers: list[memoryview]) -> int:
        if os.path.samestat(os.fstat(fd), log.stat()) and log.stat().st_size == len(CONTENT):
            with log.open("ab") as file:
                file.write(b"more")
        return readv(fd, buffers)

    with monkeypatch.context() as patch:
        patch.setattr(os, "readv", growing)
        device.save()
    assert device.report.reasons == {"changed while read": 1}
    assert (device.restored(tmp_path / "first") / "log").read_bytes() == CONTENT
    device.save()
    is_as_it_was(device, tmp_path / "restored")


def test_a_file_that_cannot_be_read_is_told_and_comes_back(
    device: Device, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A bad sector must not keep the rest from being saved, nor the file from being saved later."""
    device.save()
    (source(device) / "d/b").write_bytes(CONTENT + b"more")

    def broken(_fd: int, _buffers: object) -> int:
        raise OSError(errno.EIO, "bad sector")

    with monkeypatch.context() as patch:
        patch.setattr(os, "readv", broken)
        device.save()
    assert device.report.reasons == {"unreadable": 1}
    assert not (device.restored(tmp_path / "first") / "d/b").exists()
    assert device.save().files_new == 1
    is_as_it_was(device, tmp_path / "restored")
