"""The rules that keep a repository right: each test makes the failure happen that its rule prevents."""

import shutil
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from agent import RELEASED
from agent.base.errors import (
    ClockWrong,
    RepositoryBroken,
    RepositoryForeign,
    RepositoryLost,
    WrongKey,
)
from agent.base.job import Label
from agent.formats.manifest import Origin
from agent.formats.repository.crypto import Keys
from agent.formats.repository.keys import new_key_file, open_key_file
from agent.formats.repository.objects import Kind
from providers.errors import Unreachable
from tests.support.doc_blocks import blocks
from tests.support.repositories import CONTENT, HOST, Device, is_as_it_was, restic, small_device, source


@pytest.fixture
def device(tmp_path: Path) -> Device:
    return small_device(tmp_path)


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
    assert again.changes.added_bytes > len(CONTENT)
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
    assert device.save(when=begun + timedelta(days=13)).changes.added_bytes < 10_000
    late = device.save(when=begun + timedelta(days=28))
    assert late.changes.added_bytes > len(CONTENT)
    assert "sent again" in " ".join(late.changes.notes)
    device.check()


def test_a_snapshot_with_new_tags_is_still_the_last_one(device: Device) -> None:
    """`restic tag` writes the snapshot anew under another id; its content need not be sent again."""
    first = device.save()
    device.restic("tag", "--add", "kept", first.id)
    assert device.save().changes.added_bytes < 10_000
    device.check()


def test_a_snapshot_is_later_than_the_one_before_whatever_the_clock_says(device: Device) -> None:
    """`restic forget --keep-last` would keep the older ones and drop the true one."""
    now = datetime.now(UTC)
    device.save(when=now)
    saved = device.save(when=now - timedelta(hours=5))
    first, second = device.snapshots()
    assert second["id"] == saved.id
    assert datetime.fromisoformat(second["time"][:19]) > datetime.fromisoformat(first["time"][:19])
    assert "clock is behind" in " ".join(saved.changes.notes)


@pytest.mark.parametrize("number", [1, 2])
def test_a_time_of_the_future_is_over_when_its_snapshots_are_forgotten(device: Device, number: int) -> None:
    """A clock was once ten years ahead: all later snapshots had that year, whatever the operator did."""
    now = datetime.now(UTC)
    names = [device.save(when=now + timedelta(days=days)).id for days in (0, 3652)]
    for name in names[-number:]:
        device.objects.delete(Kind.SNAPSHOT, name)
    saved = device.save(when=now + timedelta(days=1))
    assert not any("clock" in note for note in saved.changes.notes)


def test_a_snapshot_of_the_last_second_of_all_years_does_not_stop_backups(device: Device) -> None:
    """The one after it has no time that can be written; every backup ended with an internal error."""
    device.save()
    device.restic("backup", "--host", HOST, "--time", "9999-12-31 23:59:59", str(source(device)))
    shutil.rmtree(device.state)
    assert "clock is behind" in " ".join(device.save().changes.notes)


def test_a_clock_before_the_release_of_the_agent_waits(device: Device) -> None:
    """A device without a battery starts in 1970; a snapshot of then would be forgotten first."""
    with pytest.raises(ClockWrong, match="released later"):
        device.save(when=RELEASED - timedelta(days=1))
    assert not device.objects.path.exists()


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


@pytest.mark.parametrize("kinds", [{Kind.KEY, Kind.SNAPSHOT}, {Kind.KEY}, {Kind.SNAPSHOT}])
@pytest.mark.parametrize("is_new", [True, False])
def test_a_repository_that_lost_its_config_gets_no_other_one(
    device: Device, tmp_path: Path, kinds: set[Kind], *, is_new: bool
) -> None:
    """restic 4832, 4848, 4862: neither the old content nor the new one could be read after that."""
    device.save()
    config = device.objects.path / "config"
    config.rename(tmp_path / "config")
    for kind in {Kind.KEY, Kind.SNAPSHOT} - kinds:
        (device.objects.path / kind).rename(tmp_path / kind)
    if is_new:
        device.state.rename(tmp_path / "lost")
    with pytest.raises(RepositoryBroken, match="lost its config"):
        device.save()
    assert not config.exists()
    for path in (config, *(device.objects.path / kind for kind in {Kind.KEY, Kind.SNAPSHOT} - kinds)):
        (tmp_path / path.name).rename(path)
    device.save()
    is_as_it_was(device, tmp_path / "restored")


def test_the_device_s_copies_of_config_and_key_open_the_repository_again(
    device: Device, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """restic 1700, 3404: content without them is lost for ever. The documentation has the lines."""
    device.save()
    (key,) = (device.objects.path / "keys").iterdir()
    (device.objects.path / "config").unlink()
    key.unlink()
    (found,) = [block for block in blocks("repository.md") if block.mark == "copies of config and key"]
    monkeypatch.chdir(device.state)
    subprocess.run([sys.executable, "-c", found.text], check=True)
    Path("config").rename(device.objects.path / "config")
    Path(key.name).rename(key)
    is_as_it_was(device, tmp_path / "restored")
    device.save()


def test_a_damaged_snapshot_does_not_take_the_others_away(device: Device, tmp_path: Path) -> None:
    """k8up 835, rustic 1154: a device that lost its state goes on from the newest that is whole."""
    device.save()
    (source(device) / "new").write_bytes(b"new")
    newest = device.save()
    (device.objects.path / "snapshots" / newest.id).write_bytes(b"")
    (device.objects.path / "snapshots" / ("0" * 64)).write_bytes(bytes(2 << 20))
    device.state.rename(tmp_path / "lost")
    assert device.save().changes.files_unmodified == device.report.files - 1


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
    assert device.save().changes.added_bytes < 10_000
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


@pytest.mark.parametrize("password", ["word\n", " word", "w\0rd", "w\udcffrd"])
def test_a_password_that_restic_could_not_be_given_makes_no_repository(device: Device, password: str) -> None:
    """restic takes white space off the ends of what its password file has: only the device could read it."""
    device.options = {"password": password}
    with pytest.raises(WrongKey, match="white space"):
        device.save()
    assert not device.objects.path.exists()


def test_a_repository_that_has_such_a_password_is_opened() -> None:
    """restic takes one with white space from its environment as it is."""
    master = Keys.random()
    _, key_file = new_key_file(master, " word\n", datetime.now(UTC), HOST)
    assert open_key_file(key_file, " word\n") == master
    with pytest.raises(WrongKey, match="does not open"):
        open_key_file(key_file, "w\udcffrd")


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
    device.save()  # by that copy
    device.options["password"] = "new password"
    assert device.save().changes.added_bytes < 10_000
    device.options["password"] = "wrong"
    with pytest.raises(WrongKey):
        device.save()


def named(device: Device, host: str) -> Device:
    """Give the device another id."""
    device.options["origin"] = Origin(
        host, "edge-backup/test", datetime.now(UTC), "request-1", Label(), device.roots
    )
    return device


def test_a_second_device_with_one_prefix_is_refused(device: Device, tmp_path: Path) -> None:
    """Its prefix has no `{device}`: each would take the other's snapshots and locks for its own."""
    other = named(Device.at(tmp_path / "other", *device.roots), "org.example:second")
    other.objects = device.objects
    device.save()
    before = sorted(device.objects.path.rglob("*"))
    for _ in range(2):
        with pytest.raises(RepositoryForeign, match=r"org\.example:device.*another prefix"):
            other.save()
    assert sorted(device.objects.path.rglob("*")) == before
    assert device.save().changes.added_bytes < 10_000
    device.check()


def test_a_second_device_is_refused_before_the_first_snapshot_is_there(
    device: Device, tmp_path: Path
) -> None:
    """The first backup may take days; the key file says who makes it."""
    other = named(Device.at(tmp_path / "other", *device.roots), "org.example:second")
    other.objects = device.objects

    def before(call: str, kind: Kind) -> None:
        if (call, kind) == ("put", Kind.PACK):
            device.objects.before = lambda _call, _kind: None
            with pytest.raises(RepositoryForeign):
                other.save()

    device.objects.before = before
    device.save()
    device.check()


def test_a_device_that_is_named_anew_goes_on(device: Device) -> None:
    """It knows the repository from before, and sends only what is new."""
    device.save()
    assert named(device, "org.example:renamed").save().changes.added_bytes < 20_000
    assert [each["hostname"] for each in device.snapshots()] == [HOST, "org.example:renamed"]
    device.check()


def test_a_repository_of_the_operator_is_taken(device: Device, tmp_path: Path) -> None:
    """`restic init` made it, and a workstation saves there, too."""
    restic(device.objects.path, "init", "--repository-version", "2")
    (tmp_path / "theirs").write_text("theirs")
    restic(device.objects.path, "backup", "--host", "workstation", str(tmp_path / "theirs"))
    device.save()
    device.check()
