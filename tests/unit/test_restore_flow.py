"""Restore, step by step, against a place in memory that keeps the provider's contract."""

import shutil
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from agent.base.errors import ArchiveError, Cancelled, ProviderBug, WorkGone
from agent.base.job import COMMITTED, STOPPED
from agent.restore.flow import finalize, preview, restore
from agent.restore.target import Amount
from agent.transfer.cancel import CancelToken
from providers.errors import AccessDenied, NotFound, Unreachable
from tests.support.fakes import Fault, MemoryStorage
from tests.support.restoring import is_clean
from tests.support.steps import NAME, TAG, TREE, Work, cancelling, destination
from tests.support.trees import differences, make_tree, snapshot


@pytest.fixture
def work(tmp_path: Path) -> Work:
    make_tree(tmp_path / "data", TREE)
    (tmp_path / "staging").mkdir()
    return Work(tmp_path.resolve())


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
