"""A device whose restore waits for its confirmation."""

import os
from pathlib import Path
from typing import Any

from tests.support.fakes import Device
from tests.support.trees import Dir, File, Spec, make_tree, snapshot, write_zip

OLD: Spec = {
    "config": Dir(),
    "config/app.json": File(b"old"),
    "config/sub": Dir(0o750),
    "config/sub/file": File(b"deep"),
    "mine": File(b"mine"),
}
NEW: Spec = {
    "config": Dir(),
    "config/app.json": File(b"new"),
    "config/sub": Dir(0o700),
    "config/sub/file": File(b"other"),
    "added": Dir(),
    "added/file": File(b"added"),
}
PLACE = {"storage.provider": "local", "local.name": "it.zip"}
WITHIN = PLACE | {"restore.confirmWithin": "10m"}


def home(tmp_path: Path, **settings: str) -> Device:
    device = Device(tmp_path, {name.replace("__", "."): value for name, value in settings.items()})
    make_tree(device.data, OLD)
    write_zip(device.settings.storage / "archives" / "it.zip", NEW)
    return device


def ask(device: Device, operation: str, value: Any = None) -> dict[str, Any]:
    said = device.command(operation, value, request_id=operation, header=os.urandom(4).hex())
    return dict(said[0][1])


def on_trial(device: Device, options: dict[str, str] | None = None) -> None:
    assert ask(device, "restore", {"correlationId": "T", "options": options or WITHIN})["status"] == 204
    until_trial(device)


def until_trial(device: Device) -> None:
    while not device.service.engine.confirmations.waiting:
        device.take()


def states(device: Device) -> list[tuple[str, str]]:
    return [(value["state"], value["statusCode"]) for value in device.values()]


def data(device: Device) -> dict[str, Any]:
    found = snapshot(device.data)
    return {name: one for name, one in found.items() if name and not name.startswith(".edge-backup-")}


def is_new(device: Device) -> bool:
    return (device.data / "config/app.json").read_bytes() == b"new"


STARTED, FINISHED = ("RESTORE_STARTED", ""), ("RESTORE_FINISHED", "")
