"""`skipUnchanged`: nothing is made while nothing has changed; in every doubt, an archive is made."""

import os
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from agent.base.patterns import excluding
from agent.base.refusals import Refused
from agent.base.roots import Root
from agent.formats.zip.format import Zip
from agent.formats.zip.writer import ArchiveOptions
from agent.jobs.last_archives import MOST_DESTINATIONS, LastArchives, skip_key
from agent.jobs.requests.backup import BackupRequest
from agent.journal import Journal
from agent.save.change_detection import LastArchive
from agent.save.pipeline import BackupOrder, backup
from agent.save.result import BackupResult, about
from agent.save.walk import WalkRoot
from agent.settings import Settings
from agent.transfer.cancel import CancelToken
from agent.transfer.context import Context, Destination
from agent.transfer.guarded_storage import GuardedStorage
from agent.transfer.retry import RetryLimits
from providers.api import Limits, Target
from providers.local import Local
from tests.support.archives import WIDE
from tests.support.requests import read
from tests.support.waiting import wait_until

NAME = "a.zip"


def order_for(root: Path) -> BackupOrder:
    for directory in ("data/sub", "archives"):
        (root / directory).mkdir(parents=True, exist_ok=True)
    limits = Limits(targets={"device": Target(root / "archives")})
    return BackupOrder(
        roots=(WalkRoot(Root("", root / "data")),),
        own=(root / "storage",),
        staged=root / "staged",
        destination=Destination(GuardedStorage(Local({}, limits), RetryLimits(), CancelToken()), False, NAME),
        format=Zip(ArchiveOptions("fast")),
        strict=False,
        checksum=False,
        skip_unchanged=True,
    )


def data_of(order: BackupOrder) -> Path:
    return order.roots[0].root.directory


def run(order: BackupOrder) -> BackupResult:
    return backup(order, Context("job", CancelToken(), {}))


@pytest.fixture
def saved(tmp_path: Path) -> BackupOrder:
    """An order whose last archive is there, of a tree that has not been touched for a while."""
    order = order_for(tmp_path)
    (data_of(order) / "sub/file").write_bytes(b"content")
    (data_of(order) / "link").symlink_to("sub")
    os.mkfifo(data_of(order) / "fifo")

    def kept() -> bool:
        nonlocal order
        order = replace(order, last=run(order).last)
        return order.last is not None

    wait_until(kept, what="time stamps that are old enough")
    return order


def test_nothing_is_made_while_nothing_has_changed(saved: BackupOrder, tmp_path: Path) -> None:
    before = (tmp_path / "archives" / NAME).stat()
    result = run(saved)
    assert result.unchanged
    assert result.last == saved.last
    assert about(result, WIDE) == (
        "nothing has changed since 'a.zip' was stored: no archive was made; 1 entry skipped: 1 FIFO"
    )
    after = (tmp_path / "archives" / NAME).stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def test_what_the_format_skips_is_no_reason_for_an_archive(tmp_path: Path) -> None:
    """In Kanto's dialect a link in the tree led to an archive every time."""
    order = replace(order_for(tmp_path), format=Zip(ArchiveOptions("fast", "kanto")))
    (data_of(order) / "link").symlink_to("sub")

    def unchanged() -> bool:
        nonlocal order
        result = run(order)
        order = replace(order, last=result.last)
        return result.unchanged and "1 link, which Kanto cannot restore" in about(result, WIDE)

    wait_until(unchanged, what="a backup that finds nothing changed")


CHANGES: dict[str, Callable[[Path], object]] = {
    "content of the same length and time": lambda data: _rewrite(data / "sub/file"),
    "mode": lambda data: (data / "sub/file").chmod(0o600),
    "new file": lambda data: (data / "new").write_bytes(b""),
    "name": lambda data: (data / "sub/file").rename(data / "sub/elif"),
    "link": lambda data: _link_elsewhere(data / "link"),
    "what is left out": lambda data: os.mkfifo(data / "fifo2"),
    "no archive": lambda data: (data.parent / "archives" / NAME).unlink(),
    "another archive of this name": lambda data: (data.parent / "archives" / NAME).write_bytes(b"other"),
}


def _link_elsewhere(link: Path) -> None:
    link.unlink()
    link.symlink_to("bus")


def _rewrite(file: Path) -> None:
    before = file.stat()
    file.write_bytes(b"CONTENT")
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))


@pytest.mark.parametrize("change", CHANGES)
def test_any_change_leads_to_an_archive(saved: BackupOrder, change: str) -> None:
    CHANGES[change](data_of(saved))
    assert not run(saved).unchanged


def test_other_settings_lead_to_an_archive(saved: BackupOrder) -> None:
    assert not run(replace(saved, format=Zip(ArchiveOptions("small")))).unchanged
    assert not run(replace(saved, roots=(WalkRoot(saved.roots[0].root, excluding(["file"])),))).unchanged
    assert not run(replace(saved, skip_unchanged=False)).unchanged


@pytest.mark.parametrize("ahead_s", [0, 3600])
def test_a_tree_that_was_changed_a_moment_ago_is_not_remembered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ahead_s: int
) -> None:
    """The next change might come within the same tick of the file system's clock, and go unseen."""
    monkeypatch.setattr("agent.formats.entries.TICK_NS", 3600 * 10**9)  # however busy the machine is
    order = order_for(tmp_path)
    (data_of(order) / "file").write_bytes(b"")
    os.utime(data_of(order) / "file", (time.time() + ahead_s, time.time() + ahead_s))
    assert run(order).last is None


def test_the_last_archive_is_remembered_for_each_place_and_for_a_few(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal.db")
    archives = LastArchives(journal)
    assert archives.last("a") is None
    kept = [LastArchive("look", f"{number}.zip", 1, "etag") for number in range(MOST_DESTINATIONS + 2)]
    for number, one in enumerate(kept):
        archives.remember(str(number), one)
    assert archives.last("1") is None
    assert archives.last(str(MOST_DESTINATIONS + 1)) == kept[-1]
    assert len([key for key in map(str, range(len(kept))) if archives.last(key)]) == MOST_DESTINATIONS
    journal.close()


def key(settings: Settings, directory: str = "/d", **changes: str) -> str | None:
    options = {"storage.provider": "aws", "aws.s3.bucket": "b", "aws.secret.access.key": "x"} | changes
    request = read(BackupRequest, {"options": options}, settings)
    return skip_key(request, [Root("", Path(directory))], settings)


def test_a_place_is_the_same_with_other_credentials_but_not_with_another_target() -> None:
    wanted = Settings(skip_unchanged=True)
    assert key(wanted) == key(wanted, **{"aws.secret.access.key": "y", "options.a": "1"})
    keys = {key(wanted), key(wanted, "/e"), key(wanted, **{"aws.s3.bucket": "c"})}
    assert len(keys) == 3
    assert None not in keys


def test_journals_of_earlier_agents_still_know_their_last_archives() -> None:
    """Another key for the same place would make one archive more after an update of the agent."""
    known = key(Settings(skip_unchanged=True), **{"backup.name": "n", "backup.dir": "/d", "options.a": "1"})
    assert known == "3d4b09568eecbb11e4e329e80fb50e2e2aa1e59f5ddc778302ce1a1335c06a65"


def test_who_gives_another_name_wants_another_archive() -> None:
    wanted = Settings(skip_unchanged=True)
    assert key(wanted, **{"backup.name": "n"}) not in (None, key(wanted))
    assert key(wanted, **{"backup.description": "d"}) == key(wanted)


def test_an_archive_is_always_made_unless_skipping_is_wanted_and_means_something() -> None:
    wanted, unwanted = Settings(skip_unchanged=True), Settings()
    assert key(unwanted) is None
    assert key(unwanted, **{"backup.skipUnchanged": "true"}) == key(wanted)
    assert key(wanted, **{"backup.skipUnchanged": "false"}) is None
    assert key(wanted, **{"backup.passcode": "correct horse"}) is None
    assert key(wanted, **{"storage.provider": ""}) is None
    assert key(Settings(skip_unchanged=True, backup_cmd="collect")) is None
    with pytest.raises(Refused, match="skipUnchanged"):
        key(wanted, **{"backup.skipUnchanged": "perhaps"})
