"""Which id the device goes by, and which ids it had before."""

import json
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from agent.base.device_ids import DeviceIds
from agent.base.text import valid_device_id
from agent.jobs.device import MOST_FORMER, Device
from agent.journal import DEVICE, Journal


@pytest.fixture(autouse=True)
def machine_id(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    file = tmp_path / "machine-id"
    file.write_text("0123456789abcdef0123456789abcdef\n")
    monkeypatch.setattr("agent.jobs.device.MACHINE_ID", file)
    return file


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    with closing(Journal(tmp_path / "journal.db")) as journal:
        yield journal


def test_without_an_identity_the_device_has_an_id_of_its_own(journal: Journal) -> None:
    device = Device(journal)
    assert valid_device_id(device.id)
    assert not device.identified
    assert Device(journal).id == device.id
    assert device.ids == DeviceIds(device.id)


def test_cloned_devices_have_different_ids_and_none_shows_the_machine_s(
    journal: Journal, tmp_path: Path, machine_id: Path
) -> None:
    """Cloned images share the machine's id, and a copied storage shares its key."""
    ours = Device(journal).id
    with closing(Journal(tmp_path / "other.db")) as other:
        assert Device(other).id != ours
    known = machine_id.read_text().strip()
    machine_id.write_text("f" * 32)
    assert Device(journal).id != ours
    machine_id.unlink()
    assert valid_device_id(Device(journal).id)
    assert known not in ours


def test_the_last_identity_counts_until_somebody_says_another(journal: Journal) -> None:
    first = Device(journal)
    first.identify("edge:device")
    first.keep()
    second = Device(journal)
    assert (second.id, second.identified) == ("edge:device", False)


def test_former_ids_stay_known_over_a_restart(journal: Journal) -> None:
    device = Device(journal)
    own = device.id
    for device_id in ("edge:first", "edge:second", "edge:first"):
        device.identify(device_id)
        device.keep()
    assert device.ids == Device(journal).ids == DeviceIds("edge:first", ("edge:second", own))


def test_an_own_id_that_was_never_used_is_no_former_one(journal: Journal) -> None:
    device = Device(journal)
    device.identify("edge:device")
    device.keep()
    assert device.ids == DeviceIds("edge:device")
    assert journal.notes.read(DEVICE) == "edge:device"


def test_the_number_of_former_ids_is_bounded(journal: Journal) -> None:
    """A connector may name the device anew at every start."""
    device = Device(journal)
    for number in range(3 * MOST_FORMER):
        device.identify(f"edge:{number}")
        device.keep()
    assert len(device.ids.former) == MOST_FORMER
    assert len(json.loads(journal.notes.read("former_devices") or "")) == MOST_FORMER


def test_an_identity_is_gone_by_before_it_is_kept(journal: Journal) -> None:
    """On a full disk the device still knows who it is."""
    device = Device(journal)
    device.problem = "nobody has said"
    device.identify("edge:device")
    assert (device.id, device.identified, device.problem) == ("edge:device", True, "")
    assert journal.notes.read(DEVICE) is None


@pytest.mark.parametrize(
    ("ids", "other", "included"),
    [
        (DeviceIds("edge:a", ("edge:b", "unnamed:1")), "edge:b", True),
        (DeviceIds("edge:a", ("edge:b", "unnamed:1")), "unnamed:1", True),
        (DeviceIds("edge:a", ("edge:b", "unnamed:1")), "unnamed:2", False),
        (DeviceIds("unnamed:1"), "unnamed:2", True),
        (DeviceIds("unnamed:1"), "edge:a", False),
    ],
)
def test_a_former_id_is_the_device_s_and_between_unnamed_devices_any(
    ids: DeviceIds, other: str, included: bool
) -> None:
    """Whoever lost the storage of an unnamed device must get its archives back."""
    assert ids.include(other) is included
