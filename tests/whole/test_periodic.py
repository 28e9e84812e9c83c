"""Backups that nobody asks for, as the wire shows them."""

import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.support.backend import FEATURE
from tests.support.local_agent import LocalAgent, LocalBackend

from .conftest import Started

LOCAL = {"storage.provider": "local", "local.name": "golden.zip"}
AUTO_UPLOAD = f"{FEATURE}/properties/autoUpload"
START, END = "2100-01-01T00:00:00.000000Z", "2100-01-02T00:00:00.000000Z"
"""A frame that lies ahead: nothing is due while a test runs."""


def begun(backend: LocalBackend) -> list[str]:
    """The ids of all jobs so far, in order."""
    return list(dict.fromkeys(value["correlationId"] for value in backend.values()))


def finished(backend: LocalBackend, count: int) -> None:
    def enough(_: object) -> bool:
        return [value["state"] for value in backend.values()].count("BACKUP_FINISHED") >= count

    backend.wait(enough, f"{count} backups")


def announcements(backend: LocalBackend) -> list[dict[str, Any]]:
    """The values of `autoUpload` in all announcements so far."""
    return [
        m[1]["value"]["properties"]["autoUpload"] for m in list(backend.messages) if m[1]["path"] == FEATURE
    ]


def announced_again(device: LocalAgent, backend: LocalBackend) -> dict[str, Any]:
    """Start the agent again; `autoUpload` as it is announced then."""
    before = len(announcements(backend))
    device.start()
    backend.wait(lambda _: len(announcements(backend)) > before, "another announcement")
    return announcements(backend)[-1]


def frame(active: bool, start: str | None = None, end: str | None = None) -> dict[str, Any]:
    return {"active": active, "startTime": start, "endTime": end}


def test_backups_are_made_in_each_period_and_handed_over(
    started: Started, device: LocalAgent, backend: LocalBackend
) -> None:
    """Each under an id of its own, and offered like one that was asked for."""
    started(active=True, period="1s", storage_maxStaged=100)
    assert announcements(backend) == [frame(True)]
    finished(backend, 3)
    ids = begun(backend)[:3]
    assert len(set(ids)) == 3
    for correlation_id in ids:
        assert Path(backend.requested(f"{correlation_id}#1")["options"]["file.path"]).is_file()


def test_activate_without_a_frame_backs_up_at_once_and_deactivate_ends_it(
    started: Started, backend: LocalBackend
) -> None:
    """Kanto panics on `activate {}`."""
    started(period="1s", storage_maxStaged=100)
    assert announcements(backend) == [frame(False)]
    assert backend.values() == []
    assert backend.ask("activate", {})["status"] == 204
    finished(backend, 2)
    assert backend.ask("deactivate")["status"] == 204
    backend.wait(lambda _: len(backend.values(AUTO_UPLOAD)) > 1, "the twin to know that it has ended")
    assert backend.values(AUTO_UPLOAD) == [frame(True), frame(False)]
    for correlation_id in (last := begun(backend)):
        backend.ended(correlation_id)
    # Two periods in which nothing happens but what is asked for, and that is never refused.
    over_s, ours = time.monotonic() + 2, 0
    while time.monotonic() < over_s:
        ours += 1
        assert backend.run("backup", f"ours-{ours}", LOCAL)["state"] == "BACKUP_FINISHED"
    assert begun(backend)[len(last) :] == [f"ours-{number + 1}" for number in range(ours)]


def test_a_beginning_in_the_settings_activates_as_in_kanto(started: Started, backend: LocalBackend) -> None:
    started(activeFrom=START)
    assert announcements(backend) == [frame(True, START)]


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ({"from": END, "to": START}, "before the start"),
        ({"from": "tomorrow"}, "RFC 3339"),
        ({"to": True}, "RFC 3339"),
        ({"from": {}}, "from must be a text"),
        ({"from": 4102444800000}, "seconds since 1970"),
    ],
)
def test_activate_with_a_bad_frame_is_400_and_changes_nothing(
    started: Started, backend: LocalBackend, value: dict[str, Any], says: str
) -> None:
    started(active=True, activeFrom=START)
    answer = backend.ask("activate", value)
    assert (answer["status"], answer["value"]["error"]) == (400, "messages:parameter.invalid")
    assert says in answer["value"]["message"]
    backend.ask("nothing")
    assert backend.values(AUTO_UPLOAD) == []
    assert backend.values() == []


def test_edited_settings_win_over_an_earlier_command(
    started: Started, device: LocalAgent, backend: LocalBackend
) -> None:
    """The later change wins: unedited, the command's frame stays; edited, the settings'."""
    started(active=True, activeFrom=START)
    assert announcements(backend) == [frame(True, START)]
    backend.ask("activate", {"from": END})
    device.stop()
    assert announced_again(device, backend) == frame(True, END)
    device.stop()
    device.settings |= {"activeFrom": START, "activeTill": END}
    assert announced_again(device, backend) == frame(True, START, END)
    device.stop()
    device.settings |= {"active": False, "activeFrom": "", "activeTill": ""}
    assert announced_again(device, backend) == frame(False)
    backend.ask("activate", {"from": END})
    device.stop()
    assert announced_again(device, backend) == frame(True, END), "and a command after that wins again"


def test_a_frame_that_edited_settings_begin_runs_at_once_when_its_start_has_passed(
    started: Started, device: LocalAgent, backend: LocalBackend
) -> None:
    """The backups of the frame before say nothing about the new one."""
    started()
    backend.ask("activate", {})
    finished(backend, 1)
    device.stop()
    an_hour_ago = datetime.now(UTC) - timedelta(hours=1)
    device.settings["activeFrom"] = an_hour_ago.isoformat()
    device.start()
    finished(backend, 2)
