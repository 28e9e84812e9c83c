"""Backup and upload, step by step, against a place in memory that keeps the provider's contract."""

import errno
import hashlib
import os
import shutil
import threading
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from agent.base.durable import remove_tree
from agent.base.errors import Cancelled, IoError, JobError, NoSpace, ProviderBug, SourceChanged
from agent.save import pipeline
from agent.save.levels import FILE_FLAGS
from agent.save.pipeline import backup
from agent.transfer.archive_files import UploadOrder, upload
from agent.transfer.cancel import CancelToken
from agent.transfer.context import Destination
from providers.api import Checkpoint, Sink, Source, Storage, Stored
from providers.errors import AccessDenied, NotFound, StorageError, Unreachable
from providers.testing.streams import content
from tests.support.fakes import Fault, MemoryStorage
from tests.support.steps import ALL_NAMES, EVERY_PLACE, NAME, TREE, Work, cancelling, destination, names_in
from tests.support.trees import make_tree
from tests.support.waiting import wait_until


@pytest.fixture
def work(tmp_path: Path) -> Work:
    make_tree(tmp_path / "data", TREE)
    (tmp_path / "staging").mkdir()
    return Work(tmp_path.resolve())


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


@pytest.mark.parametrize("kind", [errno.EMFILE, errno.ENFILE, errno.ENOMEM])
def test_a_device_without_descriptors_or_memory_makes_no_empty_backup(
    work: Work, monkeypatch: pytest.MonkeyPatch, kind: int
) -> None:
    """Each file was skipped as unreadable, and the backup without any of them had succeeded."""
    real = os.open

    def exhausted(path: str | bytes, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
        if flags == FILE_FLAGS:
            raise OSError(kind, os.strerror(kind))
        return real(path, flags, mode, dir_fd=dir_fd)

    monkeypatch.setattr(os, "open", exhausted)
    storage = MemoryStorage()
    with pytest.raises(IoError, match=f"cannot read any more files: {os.strerror(kind)}"):
        work.save(destination(storage))
    assert storage.objects == {}
    work.assert_nothing_left()


def test_the_agent_s_own_storage_is_not_archived(work: Work) -> None:
    storage = MemoryStorage()
    (work.data / "own").mkdir()
    (work.data / "own" / "archive.zip").write_bytes(b"x")
    backup(replace(work.backup_order(destination(storage)), own=(work.data / "own",)), work.context)
    assert names_in(storage.objects[NAME]) == ALL_NAMES


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
    """It is removed at the earliest when the journal knows that it has arrived."""
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


@pytest.mark.parametrize("phase", ["comparing", "archiving", "uploading"])
def test_a_backup_that_is_cancelled_as_a_phase_begins_stores_nothing(work: Work, phase: str) -> None:
    work.cancelled_in, storage = phase, MemoryStorage()
    with pytest.raises(Cancelled, match="enough"):
        work.save(destination(storage, needs_size=True), skip_unchanged=True)
    assert work.phases[-1] == phase
    assert storage.objects == {}
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
