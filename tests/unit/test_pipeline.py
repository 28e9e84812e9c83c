"""Backup, upload and restore, step by step, against a place in memory that keeps the provider's contract."""

import errno
import hashlib
import io
import os
import shutil
import threading
import zipfile
from collections.abc import Callable, Iterable, MutableMapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import pytest

from agent.base.durable import remove_tree
from agent.base.errors import ArchiveError, Cancelled, JobError, NoSpace, ProviderBug, SourceChanged, WorkGone
from agent.base.job import COMMITTED, STOPPED
from agent.base.roots import Root
from agent.formats.archive_names import OwnArchives
from agent.formats.base import Unlock
from agent.formats.survey import ArchiveLimits
from agent.formats.zip.format import Zip
from agent.formats.zip.writer import ArchiveOptions
from agent.restore.choice import Choice
from agent.restore.directories import missing
from agent.restore.find import Search
from agent.restore.flow import RestoreOrder, finalize, preview, restore
from agent.restore.root import RestoreOptions
from agent.restore.target import Amount, RestoreTarget
from agent.save import pipeline
from agent.save.pipeline import BackupOrder, BackupResult, backup
from agent.save.walk import WalkRoot
from agent.transfer.cancel import CancelToken
from agent.transfer.context import Context, Destination
from agent.transfer.guarded_storage import GuardedStorage
from agent.transfer.put import UploadOrder, upload
from agent.transfer.retry import RetryLimits
from providers.api import Checkpoint, Sink, Source, Storage, Stored
from providers.errors import AccessDenied, Corrupted, NotFound, StorageError, Unreachable
from providers.testing.streams import BytesSource, FailingSource, MemorySink, StreamedSource, content
from tests.support.fakes import Fault, MemoryStorage
from tests.support.restoring import is_clean
from tests.support.trees import Dir, File, Link, Spec, differences, make_tree, snapshot
from tests.support.waiting import wait_until

QUICK = RetryLimits(attempts=4, total_s=60, longest_pause_s=0.001)
NAME, TAG = "backup-2026-11-21-22.28.08.388-0a1b2c3d.zip", "0a1b2c3d"
TREE: Spec = {
    "config": Dir(0o750),
    "config/app.json": File(b'{"interval": 30}\n', 0o600),
    "config/current": Link("app.json"),
    "random": File(content(300_000)),
}
EVERY_PLACE = pytest.mark.parametrize("needs_size", [False, True], ids=["streamed", "by file"])


@dataclass
class Work:
    """A job's surroundings: its directories, and what it said."""

    root: Path
    token: CancelToken = field(default_factory=CancelToken)
    checkpoint: MutableMapping[str, str] = field(default_factory=dict)
    phases: list[str] = field(default_factory=list)
    skipped: list[tuple[str, str]] = field(default_factory=list)
    done: list[int] = field(default_factory=list)
    expected: list[int] = field(default_factory=list)
    cancelled_in: str = ""
    """A phase that is cancelled as it begins."""

    @property
    def data(self) -> Path:
        return self.root / "data"

    @property
    def staging(self) -> Path:
        return self.root / "staging"

    @property
    def context(self) -> Context:
        return Context(
            "job-1",
            self.token,
            self.checkpoint,
            progress=self.done.append,
            phase=self._entered,
            expect=self.expected.append,
            skipped=self._skipped,
        )

    def guarded(self, destination: Destination) -> Destination:
        """The destination, for this job's token."""
        return replace(destination, storage=GuardedStorage(destination.storage, QUICK, self.token))

    def _entered(self, phase: str) -> None:
        self.phases.append(phase)
        if phase == self.cancelled_in:
            self.token.cancel("enough")

    def _skipped(self, name: str, reason: str) -> None:
        self.skipped.append((name, reason))

    def backup_order(self, destination: Destination | None = None, **changes: Any) -> BackupOrder:
        settings: dict[str, Any] = {"strict": False, "checksum": False, "format": Zip(ArchiveOptions("fast"))}
        return BackupOrder(
            roots=(WalkRoot(Root("", self.data)),),
            own=(self.root / "storage",),
            staged=self.staging / NAME,
            destination=destination and self.guarded(destination),
            **(settings | changes),
        )

    def restore_order(self, destination: Destination) -> RestoreOrder:
        limits = ArchiveLimits(max_files=1000, max_bytes=1 << 30, max_ratio=1000)
        download = self.staging / "job-1.part"
        options = RestoreOptions(limits=limits)
        return RestoreOrder(
            RestoreTarget({0: Root("", self.data)}, missing(self.data), options),
            download,
            self.guarded(destination),
            Search(OwnArchives(TAG, {}), lambda: datetime.now(UTC)),
            self.whole,
            Zip(ArchiveOptions()),
            Unlock(),
        )

    @property
    def whole(self) -> Choice:
        return Choice((Root("", self.data),))

    def save(self, destination: Destination | None = None, **changes: Any) -> BackupResult:
        return backup(self.backup_order(destination, **changes), self.context)

    def assert_nothing_left(self) -> None:
        assert list(self.staging.iterdir()) == []


@pytest.fixture
def work(tmp_path: Path) -> Work:
    make_tree(tmp_path / "data", TREE)
    (tmp_path / "staging").mkdir()
    return Work(tmp_path.resolve())


def destination(storage: Storage, *, needs_size: bool = False, name: str | None = NAME) -> Destination:
    """Where a job of `Work` may go: it guards the storage."""
    return Destination(cast(GuardedStorage, storage), needs_size, name, {"device": "edge:device"})


def names_in(archive: bytes) -> set[str]:
    with zipfile.ZipFile(io.BytesIO(archive)) as opened:
        assert opened.testzip() is None
        return set(opened.namelist())


ALL_NAMES = {"config/", "config/app.json", "config/current", "random"}


# The place in memory keeps the contract, or what follows would prove nothing


def test_the_fake_stores_what_a_source_has_and_fetches_it() -> None:
    storage, sink = MemoryStorage(), MemorySink()
    source = BytesSource(b"abc", md5=hashlib.md5(b"abc").digest())
    assert storage.put(NAME, source, {"k": "v"}, {}) == Stored(NAME, 3)
    storage.get(NAME, sink, {})
    assert (bytes(sink.data), storage.metadata[NAME], source.closed) == (b"abc", {"k": "v"}, False)
    assert list(storage.list("backup-")) == [Stored(NAME, 3)]


@pytest.mark.parametrize(
    ("source", "error"),
    [
        (BytesSource(b"abc", size=4), Corrupted),
        (BytesSource(b"abc", md5=b"0" * 16), Corrupted),
        (FailingSource(b"abc", 2, KeyError("stop")), KeyError),
        (FailingSource(b"abc", 2, KeyError("stop"), streamed=True), KeyError),
    ],
)
def test_the_fake_stores_all_or_nothing(source: Source, error: type[Exception]) -> None:
    storage = MemoryStorage({NAME: b"old"})
    with pytest.raises(error):
        storage.put(NAME, source, {}, {})
    assert storage.objects == {NAME: b"old"}


def test_the_fake_goes_on_with_a_stream_where_it_was() -> None:
    """As the places that take parts do: a stream cannot be read again."""
    storage = MemoryStorage(faults=[Fault(Unreachable("x"), 1 << 16)])
    source = StreamedSource(content(200_000))
    with pytest.raises(Unreachable):
        storage.put(NAME, source, {}, {})
    storage.put(NAME, source, {}, {})
    assert storage.objects[NAME] == content(200_000)


def test_the_fake_says_that_something_is_missing_before_it_writes() -> None:
    sink = MemorySink()
    with pytest.raises(NotFound):
        MemoryStorage().get(NAME, sink, {})
    assert sink.writes == 0


def test_the_fake_continues_a_download() -> None:
    storage, sink = MemoryStorage({NAME: b"abcdef"}), MemorySink(b"abc")
    storage.get(NAME, sink, {})
    assert bytes(sink.data) == b"abcdef"


# Backup


@EVERY_PLACE
def test_a_backup_is_stored_with_its_facts(work: Work, needs_size: bool) -> None:
    storage = MemoryStorage()
    result = work.save(destination(storage, needs_size=needs_size))
    stored = storage.objects[NAME]
    assert names_in(stored) == ALL_NAMES
    assert (result.size_bytes, result.sha256) == (len(stored), hashlib.sha256(stored).hexdigest())
    assert result.stored == Stored(NAME, len(stored))
    assert (result.report.files, result.report.skipped) == (2, 0)
    assert storage.metadata[NAME] == {"device": "edge:device"}
    work.assert_nothing_left()


@pytest.mark.parametrize("chosen", [None, destination(MemoryStorage())])
def test_progress_counts_the_content_up_to_what_was_expected(work: Work, chosen: Destination | None) -> None:
    """Not the archive, whose size nobody knows before it is made."""
    content_bytes = 100 << 20
    with (work.data / "log").open("wb") as file:
        file.truncate(content_bytes)
    result = work.save(chosen, expected_bytes=content_bytes)
    assert work.expected == [content_bytes]
    assert work.done == sorted(work.done)
    assert 0 < work.done[0] < work.done[-1] == result.report.size_bytes
    assert result.report.size_bytes > content_bytes


def test_a_stream_leaves_no_copy_on_the_device(work: Work) -> None:
    """DESIGN section 8: no temporary copy when the provider takes a stream."""
    seen: list[list[Path]] = []
    storage = MemoryStorage(faults=[Fault(act=lambda: seen.append(list(work.staging.iterdir())))])
    work.save(destination(storage))
    assert storage.sizes == [None]
    assert seen == [[]]


def test_a_place_that_must_know_the_length_is_told_it(work: Work) -> None:
    storage = MemoryStorage()
    work.save(destination(storage, needs_size=True))
    assert storage.sizes == work.expected == [len(storage.objects[NAME])]
    assert work.done[-1] == len(storage.objects[NAME])
    assert work.phases == ["archiving", "uploading"]


def test_without_a_place_the_archive_is_staged_under_its_name(work: Work) -> None:
    """Complete and durable; nobody else may read it."""
    result = work.save()
    staged = work.staging / NAME
    assert list(work.staging.iterdir()) == [staged]
    assert names_in(staged.read_bytes()) == ALL_NAMES
    assert (result.size_bytes, result.stored) == (staged.stat().st_size, None)
    assert result.sha256 == hashlib.sha256(staged.read_bytes()).hexdigest()
    assert staged.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("checksum", [True, False])
def test_an_md5_goes_along_only_when_it_is_asked_for(work: Work, checksum: bool) -> None:
    storage = MemoryStorage()
    work.save(destination(storage, needs_size=True), checksum=checksum)
    md5 = hashlib.md5(storage.objects[NAME]).digest() if checksum else None
    assert storage.md5s == [md5]


@EVERY_PLACE
def test_what_fails_and_may_pass_is_tried_again(work: Work, needs_size: bool) -> None:
    """A file is read again from its start; a stream goes on where it was."""
    faults = [Fault(Unreachable("a")), Fault(Unreachable("b"), 100_000), Fault()]
    storage = MemoryStorage(faults=faults)
    result = work.save(destination(storage, needs_size=needs_size))
    assert storage.calls == 3
    assert names_in(storage.objects[NAME]) == ALL_NAMES
    assert result.sha256 == hashlib.sha256(storage.objects[NAME]).hexdigest()


@EVERY_PLACE
def test_what_will_not_pass_is_not_tried_again(work: Work, needs_size: bool) -> None:
    storage = MemoryStorage(faults=[Fault(AccessDenied("bucket b: HTTP 403"))])
    with pytest.raises(AccessDenied):
        work.save(destination(storage, needs_size=needs_size))
    assert (storage.calls, storage.objects) == (1, {})
    work.assert_nothing_left()


@EVERY_PLACE
def test_a_bug_of_a_provider_is_called_so_and_its_text_is_not_told(work: Work, needs_size: bool) -> None:
    """The text of a foreign exception may hold a URL with its signature."""
    error = ValueError("https://host/x?X-Amz-Signature=hunter2")
    storage = MemoryStorage(faults=[Fault(error, 1000)])
    with pytest.raises(ProviderBug) as caught:
        work.save(destination(storage, needs_size=needs_size))
    assert caught.value.code == "provider.bug"
    assert "hunter2" not in str(caught.value)
    assert caught.value.__cause__ is error
    work.assert_nothing_left()


@EVERY_PLACE
def test_a_strict_backup_that_left_something_out_stores_nothing(work: Work, needs_size: bool) -> None:
    os.mkfifo(work.data / "pipe")
    storage = MemoryStorage()
    with pytest.raises(SourceChanged, match="1 entry skipped: 1 FIFO") as caught:
        work.save(destination(storage, needs_size=needs_size), strict=True)
    assert caught.value.code == "incomplete"
    assert storage.objects == {}
    work.assert_nothing_left()


def test_a_strict_backup_that_left_something_out_stages_nothing(work: Work) -> None:
    os.mkfifo(work.data / "pipe")
    with pytest.raises(SourceChanged):
        work.save(strict=True)
    work.assert_nothing_left()


def test_what_is_skipped_is_counted_and_named(work: Work) -> None:
    os.mkfifo(work.data / "pipe")
    result = work.save(destination(MemoryStorage()))
    assert (result.report.skipped, work.skipped) == (1, [("pipe", "FIFO")])


def test_the_agent_s_own_storage_is_not_archived(work: Work) -> None:
    storage = MemoryStorage()
    (work.data / "own").mkdir()
    (work.data / "own" / "archive.zip").write_bytes(b"x")
    backup(replace(work.backup_order(destination(storage)), own=(work.data / "own",)), work.context)
    assert names_in(storage.objects[NAME]) == ALL_NAMES


def cancelling(work: Work, error: Exception | None = None, after_bytes: int = 0) -> Fault:
    return Fault(error, after_bytes, act=lambda: work.token.cancel("enough"))


@EVERY_PLACE
def test_a_cancel_during_the_transfer_ends_it_and_leaves_nothing(work: Work, needs_size: bool) -> None:
    storage = MemoryStorage(faults=[cancelling(work)])
    with pytest.raises(Cancelled, match="enough"):
        work.save(destination(storage, needs_size=needs_size))
    assert storage.objects == {}
    work.assert_nothing_left()


@EVERY_PLACE
@pytest.mark.parametrize("error", [Unreachable("x"), AccessDenied("x"), OSError(errno.EBADF, "closed")])
def test_a_provider_that_turns_a_cancel_into_something_else_is_not_believed(
    work: Work, needs_size: bool, error: Exception
) -> None:
    storage = MemoryStorage(faults=[cancelling(work, error)])
    with pytest.raises(Cancelled, match="enough"):
        work.save(destination(storage, needs_size=needs_size))


class Swallowing(MemoryStorage):
    """Is cancelled on the way and returns as if all were well: what a cloud SDK's threads did."""

    def __init__(self, token: CancelToken) -> None:
        super().__init__()
        self._token = token

    def put(self, name: str, source: Source, metadata: Any, checkpoint: Checkpoint, /) -> Stored:
        source.read(10)
        self._token.cancel("enough")
        with suppress(Exception):
            source.read()
        return Stored(name, 10)


@EVERY_PLACE
def test_a_cancel_that_a_provider_swallows_is_a_cancel_all_the_same(work: Work, needs_size: bool) -> None:
    with pytest.raises(Cancelled, match="enough"):
        work.save(destination(Swallowing(work.token), needs_size=needs_size))
    work.assert_nothing_left()


def test_a_cancel_during_a_pause_returns_at_once(work: Work) -> None:
    """The far side asked for an hour; the person at the keyboard does not wait for that."""
    storage = MemoryStorage(faults=[Fault(Unreachable("busy", retry_after_s=50))])
    ended: list[Exception] = []

    def run() -> None:
        try:
            work.save(destination(storage))
        except Cancelled as error:
            ended.append(error)

    worker = threading.Thread(target=run)
    worker.start()
    wait_until(lambda: storage.calls, what="the first attempt")
    work.token.cancel("enough")
    worker.join(20)
    assert not worker.is_alive()
    assert [str(error) for error in ended] == ["enough"]


class Careless(MemoryStorage):
    """Returns before the source has ended."""

    def put(self, name: str, source: Source, metadata: Any, checkpoint: Checkpoint, /) -> Stored:
        body = source.read(100)
        self.objects[name] = body
        return Stored(name, len(body))


@EVERY_PLACE
def test_a_provider_that_stored_only_a_part_is_not_believed(work: Work, needs_size: bool) -> None:
    """A backup that says FINISHED can be restored: the agent counts what passed through its own stream."""
    with pytest.raises((JobError, StorageError)):
        work.save(destination(Careless(), needs_size=needs_size))


class Forgetful(MemoryStorage):
    """Says that it can go on with a stream, and stores what is left of it: the first part is missing."""

    def put(self, name: str, source: Source, metadata: Any, checkpoint: Checkpoint, /) -> Stored:
        self.calls += 1
        if self.calls == 1:
            source.read(100)
            raise Unreachable("x")
        body = source.read()
        self.objects[name] = body
        return Stored(name, len(body))


class OnceOnly(Storage):
    """A storage that cannot go on with a stream: what it has read of one is gone."""

    def __init__(self) -> None:
        self.calls = 0

    def put(self, name: str, source: Source, metadata: Any, checkpoint: Checkpoint, /) -> Stored:
        self.calls += 1
        source.read(100)
        raise Unreachable("x")

    def get(self, name: str, sink: Sink, checkpoint: Checkpoint, /) -> Stored:
        raise NotFound("x")

    def close(self) -> None:
        pass


def test_a_stream_is_not_tried_again_where_its_start_would_be_missing(work: Work) -> None:
    storage = OnceOnly()
    with pytest.raises(Unreachable):
        work.save(destination(storage))
    assert storage.calls == 1


def test_a_provider_that_forgot_the_start_of_a_stream_is_not_believed(work: Work) -> None:
    with pytest.raises((JobError, StorageError)):
        work.save(destination(Forgetful()))


def test_a_directory_that_is_gone_is_an_error_that_says_so(work: Work) -> None:
    """Between the command's acceptance and the walk, somebody may remove it."""
    shutil.rmtree(work.data)
    for order in (work.backup_order(destination(MemoryStorage())), work.backup_order()):
        with pytest.raises(JobError, match="data"):
            backup(order, work.context)
    work.assert_nothing_left()


def test_a_full_disk_during_staging_leaves_nothing(work: Work, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        with pytest.raises(NoSpace):
            work.save()
    work.assert_nothing_left()


# Upload of a staged archive


def upload_order(work: Work, storage: MemoryStorage, *, checksum: bool = False) -> UploadOrder:
    archive = work.staging / NAME
    archive.write_bytes(content(200_000))
    return UploadOrder(archive, work.guarded(destination(storage, needs_size=True)), checksum)


@pytest.mark.parametrize("checksum", [True, False])
def test_a_staged_archive_is_uploaded_and_stays(work: Work, checksum: bool) -> None:
    """Whether it is removed is decided when the journal knows that it has arrived."""
    storage = MemoryStorage(faults=[Fault(Unreachable("x"), 70_000)])
    order = upload_order(work, storage, checksum=checksum)
    assert upload(order, work.context) == Stored(NAME, 200_000)
    md5 = hashlib.md5(content(200_000)).digest() if checksum else None
    assert (storage.objects[NAME], set(storage.md5s)) == (content(200_000), {md5})
    assert order.archive.exists()


def test_an_upload_hands_the_checkpoint_to_the_provider(work: Work) -> None:
    """There it finds how far an earlier try has come."""
    seen: list[Checkpoint] = []

    class Remembering(MemoryStorage):
        def put(self, name: str, source: Source, metadata: Any, checkpoint: Checkpoint, /) -> Stored:
            seen.append(checkpoint)
            return super().put(name, source, metadata, checkpoint)

    upload(upload_order(work, Remembering()), work.context)
    assert seen == [work.checkpoint]


def test_a_staged_archive_that_vanished_is_an_error_of_the_device(work: Work) -> None:
    order = upload_order(work, MemoryStorage())
    order.archive.unlink()
    with pytest.raises(JobError, match="cannot read the staged archive"):
        upload(order, work.context)


# Restore


def saved(work: Work) -> MemoryStorage:
    storage = MemoryStorage()
    work.save(destination(storage))
    return MemoryStorage(storage.objects)


def damage(work: Work) -> None:
    (work.data / "config" / "app.json").write_text("damaged")
    (work.data / "random").unlink()


def put_back(work: Work, storage: MemoryStorage, name: str | None = NAME) -> None:
    restore(work.restore_order(destination(storage, name=name)), work.context)


def test_a_restore_puts_everything_back(work: Work) -> None:
    before = snapshot(work.data)
    storage = saved(work)
    damage(work)
    put_back(work, storage)
    assert differences(before, snapshot(work.data)) in ([], differences_of_the_root_only(before, work))
    assert work.checkpoint[COMMITTED] == "yes"
    assert work.phases[1:] == ["fetching", "unpacking", "committing"]
    work.assert_nothing_left()


def test_a_deadline_that_passes_after_the_commit_has_begun_changes_nothing(work: Work) -> None:
    """Going back would take longer than coming to the end. One that passes before stops it."""
    before = snapshot(work.data / "config")
    storage = saved(work)
    damage(work)
    told: list[str] = []

    def tell(name: str) -> Callable[[Path, CancelToken], None]:
        def run(_directory: Path, token: CancelToken) -> None:
            told.append(name)
            if name == late:
                token.time_out("too long", "deadline-exceeded")
            token.check()

        return run

    order = work.restore_order(destination(storage))
    order = replace(order, target=replace(order.target, before=tell("before"), after=tell("after")))
    late = "before"
    with pytest.raises(Cancelled, match="too long"):
        restore(order, work.context)
    assert differences(before, snapshot(work.data / "config")) != []
    assert STOPPED not in work.checkpoint
    work.token, late = CancelToken(), "after"
    restore(replace(order, destination=work.guarded(destination(storage))), work.context)
    assert differences(before, snapshot(work.data / "config")) == []
    assert told == ["before", "after", "before", "after"]
    assert STOPPED not in work.checkpoint


def test_a_restore_tidies_up_when_the_journal_was_lost_meanwhile(work: Work) -> None:
    """A fresh journal knows nothing of the restore: then there is nothing to take out of it."""
    before = snapshot(work.data / "config")
    storage = saved(work)
    damage(work)
    order = work.restore_order(destination(storage))
    lost = replace(order.target, after=lambda _directory, _token: work.checkpoint.clear())
    restore(replace(order, target=lost), work.context)
    assert differences(before, snapshot(work.data / "config")) == []
    assert is_clean(work.data)


def test_a_preview_that_the_journal_has_lost_is_refused_and_changes_nothing(work: Work) -> None:
    storage = saved(work)
    damage(work)
    order = work.restore_order(destination(storage))
    preview(order, work.context)
    before = snapshot(work.data)
    work.checkpoint.clear()
    with pytest.raises(WorkGone, match="journal was lost"):
        finalize(order.target, Amount(0, 0), work.context)
    assert differences(before, snapshot(work.data)) == []


def differences_of_the_root_only(before: Any, work: Work) -> list[str]:
    """The time of the directory itself is nobody's data."""
    return [line for line in differences(before, snapshot(work.data)) if line.startswith("'': mtime_ns")]


def test_a_download_goes_on_where_it_broke_off(work: Work) -> None:
    before = snapshot(work.data / "config")
    storage = saved(work)
    broken = MemoryStorage(
        storage.objects, [Fault(Unreachable("x"), 50_000), Fault(Unreachable("x"), 120_000)]
    )
    damage(work)
    put_back(work, broken)
    assert broken.calls == 3
    assert differences(before, snapshot(work.data / "config")) == []


def test_without_a_name_the_newest_archive_of_this_device_is_taken(work: Work) -> None:
    storage = saved(work)
    older = NAME.replace("2026", "2025")
    other_device = NAME.replace("2026", "2027").replace(TAG, "ffffffff")
    # The time decides, and not what it is called.
    storage.objects |= {older.replace("backup", "zoo"): b"older", other_device: b"other", "zzz.txt": b""}
    damage(work)
    put_back(work, storage, None)
    assert (work.data / "random").exists()


def test_a_place_without_an_archive_of_this_device_has_none(work: Work) -> None:
    with pytest.raises(NotFound, match="no archive of this device"):
        put_back(work, MemoryStorage({"backup-x-ffffffff.zip": b""}), None)
    with pytest.raises(NotFound):
        put_back(work, MemoryStorage(), None)
    work.assert_nothing_left()


FAULTY: Iterable[tuple[str, Fault, type[Exception]]] = [
    ("denied", Fault(AccessDenied("x")), AccessDenied),
    ("bug", Fault(KeyError("bug"), 100), ProviderBug),
]


@pytest.mark.parametrize(("fault", "error"), [case[1:] for case in FAULTY], ids=[case[0] for case in FAULTY])
def test_a_restore_that_cannot_fetch_leaves_the_target_alone(
    work: Work, fault: Fault, error: type[Exception]
) -> None:
    storage = MemoryStorage(saved(work).objects, [fault])
    damage(work)
    before = snapshot(work.data)
    with pytest.raises(error):
        put_back(work, storage)
    assert differences(before, snapshot(work.data)) == []
    work.assert_nothing_left()


def test_a_bug_of_a_provider_while_listing_is_called_so(work: Work) -> None:
    """Rule 8 holds for every method; `internal-error` would blame the agent."""
    with pytest.raises(ProviderBug):
        put_back(work, MemoryStorage(faults=[Fault(KeyError("bug"))]), None)


@pytest.mark.parametrize("content_of_archive", [b"", b"no archive", b"PK\x05\x06" + b"\0" * 17])
def test_what_is_no_archive_leaves_the_target_alone(work: Work, content_of_archive: bytes) -> None:
    before = snapshot(work.data)
    with pytest.raises(ArchiveError):
        put_back(work, MemoryStorage({NAME: content_of_archive}))
    assert differences(before, snapshot(work.data)) == []
    work.assert_nothing_left()


def test_a_truncated_archive_leaves_the_target_alone(work: Work) -> None:
    storage = saved(work)
    storage.objects[NAME] = storage.objects[NAME][:-1000]
    before = snapshot(work.data)
    with pytest.raises(ArchiveError):
        put_back(work, storage)
    assert differences(before, snapshot(work.data)) == []
    work.assert_nothing_left()


def test_a_restore_into_a_new_directory_that_fails_makes_none(work: Work) -> None:
    """Directories that were made for it are removed again."""
    shutil.rmtree(work.data)
    with pytest.raises(ArchiveError):
        put_back(work, MemoryStorage({NAME: b"no archive"}))
    assert not work.data.exists()


def test_a_cancel_while_fetching_leaves_the_target_alone(work: Work) -> None:
    storage = MemoryStorage(saved(work).objects, [cancelling(work)])
    before = snapshot(work.data)
    with pytest.raises(Cancelled, match="enough"):
        put_back(work, storage)
    assert differences(before, snapshot(work.data)) == []
    work.assert_nothing_left()


@pytest.mark.parametrize("phase", ["comparing", "archiving", "uploading"])
def test_a_backup_that_is_cancelled_as_a_phase_begins_stores_nothing(work: Work, phase: str) -> None:
    work.cancelled_in, storage = phase, MemoryStorage()
    with pytest.raises(Cancelled, match="enough"):
        work.save(destination(storage, needs_size=True), skip_unchanged=True)
    assert work.phases[-1] == phase
    assert storage.objects == {}
    work.assert_nothing_left()


@pytest.mark.parametrize("phase", ["fetching", "unpacking", "committing"])
def test_a_restore_that_is_cancelled_as_a_phase_begins_changes_nothing(work: Work, phase: str) -> None:
    storage = saved(work)
    (work.data / "config" / "app.json").write_bytes(b"newer")
    before = snapshot(work.data)
    work.cancelled_in = phase
    with pytest.raises(Cancelled, match="enough"):
        put_back(work, storage)
    assert work.phases[-1] == phase
    assert differences(before, snapshot(work.data)) == []
    work.assert_nothing_left()


def test_a_cancelled_job_does_not_wait_until_all_that_was_collected_is_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Removing 400,000 files takes seconds; the next start removes what is left."""
    go_on, token = threading.Event(), CancelToken()

    def slowly(path: Path) -> None:
        assert go_on.wait(60)
        remove_tree(path)

    monkeypatch.setattr(pipeline, "remove_tree", slowly)
    with suppress(Cancelled), pipeline.work_directory(tmp_path / "work", token):
        token.cancel("enough")
        token.check()
    assert (tmp_path / "work").exists()
    go_on.set()
    wait_until(lambda: not (tmp_path / "work").exists(), what="the removal")
