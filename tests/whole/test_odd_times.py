"""Files whose times no calendar of today has: a clock that was wrong left them, or a tool."""

import json
import os
from pathlib import Path

import pytest

from tests.support.local_agent import LocalBackend
from tests.support.repositories import PASSWORD
from tests.support.settings_files import private_file

from .conftest import Started

_S = 10**9
YEAR_2150_NS, YEAR_2300_NS = 5_680_281_600 * _S + 1, 10_413_792_000 * _S + 1
FIRST_NS = -2_147_483_648 * _S
"""1901, the first second of ext4."""


@pytest.mark.parametrize("kind", ["zip", "repository"])
def test_files_of_far_years_are_saved_and_come_back(
    started: Started, backend: LocalBackend, tmp_path: Path, kind: str
) -> None:
    """One file of the year 2300 failed every snapshot, and a directory of 2150 every archive."""
    credentials = tmp_path / "credentials.json"
    private_file(credentials, json.dumps({"password": PASSWORD} if kind == "repository" else {}))
    (tmp_path / "usb").mkdir()
    store = {"provider": "local", "options": {"local.target": "usb"}, "format": kind}
    device = started(
        targets={"usb": {"path": str(tmp_path / "usb")}},
        stores={"stick": store | {"credentials": str(credentials)}},
    )
    inside = {"far": YEAR_2300_NS, "near": YEAR_2150_NS, "old": FIRST_NS}
    for name, time_ns in inside.items():
        (device.data / name).write_text(name)
        os.utime(device.data / name, ns=(time_ns, time_ns))
    os.utime(device.data, ns=(YEAR_2150_NS, YEAR_2150_NS))
    for correlation_id in ("first", "second"):  # the second one compares
        ended = backend.run("backup", correlation_id, {"backup.store": "stick"})
        assert ended["state"] == "BACKUP_FINISHED"
    for name in inside:
        (device.data / name).unlink()
    assert backend.run("restore", "back", {"restore.store": "stick"})["state"] == "RESTORE_FINISHED"
    times = {name: (device.data / name).stat().st_mtime_ns for name in inside}
    assert times == (inside if kind == "zip" else inside | {"far": (1 << 63) - 1})  # as much as Go can say
    assert device.data.stat().st_mtime_ns == YEAR_2150_NS
