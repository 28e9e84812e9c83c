"""Commands of the owner for tests: what they are, what they told, whether they are still there."""

from pathlib import Path
from typing import Protocol

from tests.support.waiting import wait_until


class Device(Protocol):
    """Where tests look for what a command did, and where the agent keeps its own."""

    work: Path
    storage: Path


def script(device: Device, name: str, body: str) -> str:
    """The path of a shell script that finds `$work`, where tests look for what it did."""
    path = device.work / name
    path.write_text(f"#!/bin/sh\nset -e\nwork='{device.work}'\n{body}\n")
    path.chmod(0o755)
    return str(path)


def lines(device: Device, name: str = "told") -> list[str]:
    """Return the text that hooks wrote to `$work/<name>`."""
    path = device.work / name
    return path.read_text().splitlines() if path.exists() else []


def work_directories(device: Device) -> list[str]:
    return [path.name for path in device.storage.glob("work-*")]


LOOK = 'echo "%s $(cat "$EDGE_BACKUP_DIRECTORY/config/app.json")" >> "$work/told"'
"""Tells what the data is while the hook runs."""

# A hook that goes on for ever, with a child; `$work/pids` names both. It lets nobody wait for nothing.
ENDLESS = 'sleep 600 & echo $$ $! > "$work/pids.new"; mv "$work/pids.new" "$work/pids"; wait'


def endless_pids(device: Device) -> list[int]:
    wait_until((device.work / "pids").exists, what="the endless hook to run")
    return [int(pid) for pid in (device.work / "pids").read_text().split()]


def is_alive(pid: int) -> bool:
    """One that is dead, and waits for init to reap it, is not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False
