"""The story of the demo: a local backup, an encrypted remote one, two restores, and two snapshots."""

import json
import sys
import time
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from agent.demo import sample
from agent.send.backend import Backend, Heard

DEVICE_ID = "demo:device"
STORE = "snapshots"
_LARGEST_SHARE = 0.02
_ARCHIVE = "device-backup.zip.age"
_PASSCODE = "kept-by-the-backend"
_LOOK_AGAIN_S = 0.3
_ENCRYPTED = b"age-encryption.org/"
"""The first bytes of an archive that the tool `age` opens, too."""


def say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


class Story:
    """The steps of the demo. `work` holds the device's `data` and `storage`, and the server's `remote`."""

    def __init__(self, backend: Backend, work: Path) -> None:
        self._backend, self._data, self._work = backend, work / "data", work
        self._before = sample.facts(self._data)

    def tell(self, url: str) -> bool:
        """Run all steps; return True if every restore brought everything back unchanged."""
        say(f"The device has {len(self._before)} files, directories and links in {self._data}")
        say("→ is a message to the agent, ← one from it, each with its MQTT topic")
        say("\nThe agent starts, asks for its identity, and announces its feature to the twin")
        self._backend.wait_for_announcement()
        good = self._local() and self._remote_and_encrypted(f"{url}/{_ARCHIVE}?signature=not-shown")
        good = good and self._snapshots()
        self._history()
        return good

    def _local(self) -> bool:
        options = {"storage.provider": "local"}
        say("\nBackup into a local directory")
        self._run("backup", "demo-local", options)
        _show_archives(self._work / "storage" / "archives")
        self._damage()
        say("\nRestore from the local directory")
        self._run("restore", "demo-local-back", options)
        return self._compare()

    def _remote_and_encrypted(self, url: str) -> bool:
        options = {"https.url": url}
        say("\nBackup to an HTTP server, encrypted with a passcode")
        self._run("backup", "demo-encrypted", {**options, "backup.passcode": _PASSCODE})
        _show_archives(self._work / "remote")
        self._damage()
        say("\nPreview of a restore from the HTTP server")
        chosen = {**options, "restore.passcode": _PASSCODE, "restore.preview": "true"}
        self._ask("restore", "demo-encrypted-back", chosen)
        if not self._previewed():
            return False
        say("\nThe preview is right: finalize carries out the restore")
        self._run("finalize", "demo-encrypted-back")
        return self._compare()

    def _snapshots(self) -> bool:
        """Return True if the second snapshot sends a small part of the first, or none can be made here."""
        if find_spec("cryptography") is None:
            say("\nNo snapshots: install the extra 'repository'")
            return True
        say("\nSnapshot in a repository, which restic reads: the first one sends everything")
        first = self._snapshot("demo-snapshot")
        sample.grow(self._data)
        say("\nThe log has grown by some lines: the second one sends only what changed")
        second = self._snapshot("demo-snapshot-again")
        if not first or not second:
            return False
        share = second / first
        say(f"  {second:,} bytes after {first:,}: {share:.1%}")
        return share < _LARGEST_SHARE

    def _snapshot(self, correlation_id: str) -> int:
        """Return the bytes that a snapshot sent; 0 for one that failed."""
        self._run("backup", correlation_id, {"backup.store": STORE})
        told = self._ask("describe", correlation_id).message["value"]
        return int(told.get("addedBytes", 0))

    def _previewed(self) -> bool:
        """Wait for the end of the preview; return True if it waits to be finalized."""
        preview = None
        while preview is None:
            time.sleep(_LOOK_AGAIN_S)
            preview = self._ask("status").message["value"].get("preview")
        if preview["state"] != "waiting":
            say(f"  {preview['state']}: {preview['code']}, {preview['message']}")
            return False
        say(
            "  nothing changed yet; finalize would add {added}, change {changed}, remove {removed}".format(
                **preview
            )
        )
        return True

    def _history(self) -> None:
        say("\nHistory of the device, newest first")
        for entry in self._ask("history").message["value"]["entries"]:
            size_bytes = entry.get("archiveBytes", entry.get("addedBytes"))
            size = "" if size_bytes is None else f"{size_bytes:>9,} bytes"
            when = entry["endTime"][11:19]
            say(f"  {when}  {entry['kind']:8} {entry['state']:9} {entry['correlationId']:20} {size}".rstrip())

    def _run(self, operation: str, correlation_id: str, options: Mapping[str, str] | None = None) -> None:
        _show_command(operation, correlation_id, options or {})
        say(f"  {_took(self._backend.run(operation, correlation_id, options))}")

    def _ask(
        self, operation: str, correlation_id: str = "", options: Mapping[str, str] | None = None
    ) -> Heard:
        _show_command(operation, correlation_id, options or {})
        return self._backend.ask(operation, correlation_id, options)

    def _damage(self) -> None:
        say("\nDamage on the device")
        for line in sample.damage(self._data):
            say(f"  ✗ {line}")

    def _compare(self) -> bool:
        differences = sample.differences(self._before, sample.facts(self._data))
        for line in differences:
            say(f"  ✗ {line}")
        if not differences:
            say(f"  ✓ all {len(self._before)} came back unchanged: content, mode, time")
        return not differences


def show(heard: Heard) -> None:
    """Print one line for a message of the agent."""
    message, operation = heard.message, heard.last_operation
    if operation is not None:
        what = (
            f"lastOperation = {operation['state']} {operation['progress']} %  ({operation['correlationId']})"
        )
    elif "status" in message:
        value = json.dumps(message["value"]) if "value" in message else "accepted"
        what = f"answer {message['status']}  {value}"
    else:
        what = f"{message['path']}  {json.dumps(message['value'])}"
    say(f"  ← {heard.topic:34} {what[:120]}{'…' if len(what) > 120 else ''}")


def _show_command(operation: str, correlation_id: str, options: Mapping[str, str]) -> None:
    """Print one line for a command: its options by name alone, because some are secret."""
    topic = f"command//{DEVICE_ID}/req//{operation}"
    chosen = f"  with options {', '.join(options)}" if options else ""
    say(f"  → {topic:34} {correlation_id}{chosen}".rstrip())


def _show_archives(directory: Path) -> None:
    for path in sorted(directory.iterdir()):
        with path.open("rb") as file:
            encrypted = file.read(len(_ENCRYPTED)) == _ENCRYPTED
        note = ", encrypted" if encrypted else ""
        say(f"  stored {path.name}: {path.stat().st_size:,} bytes{note}")


def _took(operation: Mapping[str, Any]) -> str:
    if "state" not in operation:
        return f"refused: {operation['message']}"
    if operation["statusCode"]:
        return f"{operation['state']}: {operation['statusCode']}, {operation['message']}"
    note = f"\n  {operation['message']}" if operation["message"] else ""
    return f"{operation['state']}, {operation['startTime'][11:23]} to {operation['endTime'][11:23]} UTC{note}"
