"""The output file of a backup that somebody at the device asks for: where it may be, and nowhere else."""

import os
from pathlib import Path

import pytest

from agent.base.refusals import Reason, Refused
from agent.base.roots import Root
from agent.jobs.admission import Admission
from agent.settings import Settings
from agent.transfer.connections import Connections
from agent.transfer.context import Destination
from providers.errors import StorageError
from providers.testing.streams import BytesSource
from tests.support.special_files import SPECIAL, special


@pytest.fixture
def home(tmp_path: Path) -> Path:
    for name in ("data/sub", "storage/archives", "out"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "way").symlink_to("data/sub")
    (tmp_path / "real").symlink_to("storage")
    (tmp_path / "file").touch()
    return tmp_path


def output(home: Path, path: str, *names: str) -> Destination:
    settings = Settings(storage=home / "real")
    root = Root("", home / "data", frozenset(names) if names else None)
    return Admission(settings).output(path, [root], Connections(1))


def test_it_may_be_in_any_directory_where_the_agent_may_write(home: Path) -> None:
    assert output(home, f"{home}/out/x.zip").name == "x.zip"
    assert output(home, f"{home}/data/../out/x.zip").name == "x.zip"


def test_beside_what_is_saved_of_a_directory_it_may_be_too(home: Path) -> None:
    assert output(home, f"{home}/data/x.zip", "sub").name == "x.zip"
    with pytest.raises(Refused, match="must not be inside"):
        output(home, f"{home}/data/sub/x.zip", "sub")


@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("x.zip", "must be the absolute path of a file"),
        ("/", "must be the absolute path of a file"),
        ("{home}/out/..", "must be the absolute path of a file"),
        ("{home}/out/x\0.zip", "must be the absolute path of a file"),
        ("{home}/o\0ut/x.zip", "must be the absolute path of a file"),
        ("{home}/\ud800/x.zip", "must be the absolute path of a file"),
        ("{home}/out/\ud800.zip", "must be the absolute path of a file"),
        ("{home}/out/x\n.zip", "must be the absolute path of a file"),
        ("{home}/data/x.zip", "must not be inside '{home}/data'"),
        ("{home}/way/x.zip", "must not be inside '{home}/data'"),
        ("{home}/out/../data/sub/x.zip", "must not be inside '{home}/data'"),
        ("{home}/storage/archives/x.zip", "must not be inside '{home}/storage'"),
        ("{home}/real/x.zip", "must not be inside '{home}/storage'"),
        ("{home}/none/x.zip", "is not there"),
        ("{home}/file/x.zip", "is not there"),
        ("{home}/loop/x.zip", "a symbolic link is in the way"),
    ],
)
def test_what_cannot_be_written_or_would_hold_itself_is_refused(home: Path, path: str, says: str) -> None:
    with pytest.raises(Refused) as caught:
        output(home, path.format(home=home))
    assert caught.value.reason in (Reason.INVALID, Reason.CANNOT)
    assert says.format(home=home) in caught.value.message
    assert os.listdir(home / "out") == []


@pytest.mark.parametrize("kind", SPECIAL)
def test_what_is_there_and_is_no_regular_file_is_refused(home: Path, kind: str) -> None:
    """As root, `--output /dev/null` made a file of the null device."""
    with special(home / "out" / "x.zip", kind) as before:
        with pytest.raises(Refused, match="no regular file") as caught:
            output(home, f"{home}/out/x.zip")
        assert caught.value.reason is Reason.CANNOT
        assert os.lstat(home / "out" / "x.zip") == before


@pytest.mark.parametrize("swapped", ["out", "out/sub"])
def test_a_directory_on_the_way_that_becomes_a_link_leads_nowhere(home: Path, swapped: str) -> None:
    """A user who may write in one of them exchanges it between the check and the write."""
    (home / "out/sub").mkdir()
    (home / "elsewhere/sub").mkdir(parents=True)
    destination = output(home, f"{home}/out/sub/x.zip")
    (home / swapped).rename(home / "moved")
    (home / swapped).symlink_to(home / ("elsewhere" if swapped == "out" else "elsewhere/sub"))
    with pytest.raises(StorageError):
        destination.storage.put("x.zip", BytesSource(b"content"), {}, {})
    assert os.listdir(home / "elsewhere/sub") == []
