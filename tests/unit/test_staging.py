"""The device's own disk space: private, used by one agent, and clean after a crash."""

import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.formats.archive_names import ENCRYPTED, MAX_NAME_LETTERS, PLAIN
from agent.jobs.staging import Staging, StorageUnusable
from tests.support.waiting import wait_until

TAG = "0a1b2c3d"
EMPTY_ZIP = b"PK\5\6" + bytes(18)


@pytest.fixture
def staging(tmp_path: Path) -> Iterator[Staging]:
    staging = Staging(tmp_path / "deep" / "storage")
    yield staging
    staging.close()


def test_its_directories_are_made_and_private(staging: Staging) -> None:
    """Archives hold what the device's owner thought worth keeping."""
    for name in ("", "backups", "downloads", "archives"):
        directory = staging.storage / name
        assert stat.S_IMODE(directory.stat().st_mode) == 0o700


def test_a_second_agent_is_kept_out(staging: Staging) -> None:
    """Two agents in one storage would remove each other's incomplete files."""
    with pytest.raises(StorageUnusable, match="in use by another agent") as caught:
        Staging(staging.storage)
    assert str(staging.storage) in str(caught.value)


def test_the_lock_goes_with_its_process(tmp_path: Path) -> None:
    """After a kill the next agent can start at once."""
    script = (
        "import os, sys; from pathlib import Path; from agent.jobs.staging import Staging;"
        " staging = Staging(Path(sys.argv[1])); os.kill(os.getpid(), 9)"
    )
    subprocess.run([sys.executable, "-c", script, str(tmp_path)], check=False, timeout=60)
    Staging(tmp_path).close()


def test_a_lock_that_was_let_go_can_be_taken_again(tmp_path: Path) -> None:
    Staging(tmp_path).close()
    Staging(tmp_path).close()


def test_no_two_archives_get_the_same_name(staging: Staging) -> None:
    """Names carry milliseconds, but clocks jump back."""
    paths = []
    for _ in range(5):
        paths.append(staging.free_path(TAG))
        paths[-1].touch()
    assert len(set(paths)) == 5
    assert all(path.name.endswith(f"-{TAG}.zip") for path in paths)
    assert {path.parent.name for path in paths} == {"backups"}


def test_a_name_that_an_earlier_archive_had_is_not_given_again(staging: Staging) -> None:
    """The clock of a device without a battery begins at the same time with every start."""
    asked: list[str] = []

    def taken(name: str) -> bool:
        asked.append(name)
        return len(asked) < 3

    path = staging.free_path(TAG, ENCRYPTED, "nightly", taken)
    assert len(set(asked)) == 3
    assert path.name == asked[-1]
    assert path.name.startswith("nightly-")


def test_no_path_is_longer_than_the_longest(staging: Staging) -> None:
    assert len(str(staging.free_path(TAG, ENCRYPTED, "n" * MAX_NAME_LETTERS))) == len(
        str(staging.longest_path)
    )


def test_archives_are_found_in_the_order_in_which_they_were_made(staging: Staging) -> None:
    """Their names no longer begin with the time."""
    paths = [staging.free_path(TAG, name=name) for name in ("zebra", "", "ape")]
    for second, path in enumerate(paths):
        path.write_bytes(EMPTY_ZIP)
        os.utime(path, (second, second))
    assert staging.complete_archives() == paths


@pytest.mark.parametrize("suffix", [PLAIN, ENCRYPTED])
def test_what_a_crash_left_incomplete_is_removed_and_archives_stay(staging: Staging, suffix: str) -> None:
    archive = staging.free_path(TAG, suffix)
    archive.write_bytes(b"complete")
    incomplete = [
        archive.with_name(f"{archive.name}.part"),
        archive.with_suffix(".direct"),
        staging.download("job-1"),
    ]
    for path in incomplete:
        path.write_bytes(b"x")
    staging.remove_incomplete()
    assert [path.exists() for path in incomplete] == [False] * 3
    assert archive.read_bytes() == b"complete"


def test_a_temporary_file_of_a_repository_that_a_crash_left_is_removed(staging: Staging) -> None:
    """It has a name for a moment only; the state of the repository stays."""
    states = staging.storage / "repositories"
    state = states / "a" / "b.state"
    state.parent.mkdir(parents=True)
    left = [states / "1.part", state.with_name("2.part")]
    for path in (*left, state):
        path.write_bytes(b"x")
    staging.remove_incomplete()
    assert [path.exists() for path in (*left, state)] == [False, False, True]


def test_a_removed_archive_has_no_name_any_more_and_soon_takes_no_room(staging: Staging) -> None:
    """Giving back the space takes a while, and whoever removes it has to answer commands."""
    path = staging.free_path(TAG)
    path.write_bytes(b"archive")
    staging.remove(path)
    assert not path.exists()
    wait_until(lambda: not list(path.parent.iterdir()), what="the archive to be gone")
    staging.remove(path)  # nothing is there, and nothing happens


def test_archives_of_several_stores_go_with_their_schedule(staging: Staging) -> None:
    """Nobody would send them any more, and the main thread does not wait for their space."""
    for schedule in ("nightly", "gone"):
        staging.shared(schedule).mkdir(parents=True)
        (staging.shared(schedule) / "archive.json").write_bytes(b"{}")
    directory = staging.shared("nightly").parent
    staging.keep_shared({"nightly"})
    wait_until(lambda: [each.name for each in directory.iterdir()] == ["nightly"], what="one left")
    staging.remove_shared("gone")  # nothing is there, and nothing happens


def test_what_a_crash_left_of_an_archive_of_several_stores_is_removed(staging: Staging) -> None:
    """The thread that gave back its space ended with the agent."""
    left = staging.shared("4a5b.part")
    left.mkdir(parents=True)
    (left / "archive.json").write_bytes(b"{}")
    staging.remove_incomplete()
    assert not left.exists()


def test_a_storage_of_another_user_is_refused(tmp_path: Path) -> None:
    """Its journal would tell the agent what to do: whoever put it there would be obeyed."""
    storage = tmp_path / "storage"
    storage.mkdir()
    os.chown(storage, 4711, 4711)
    with pytest.raises(StorageUnusable, match="belongs to user 4711: give it to the agent's user"):
        Staging(storage)
