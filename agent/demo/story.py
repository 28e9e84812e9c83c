"""What the demo tells: a backup here, a encrypted one far away, and everything back, twice."""

import json
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from agent.demo import sample
from agent.send.backend import Backend, Heard

_ARCHIVE = "device-backup.zip.age"
_PASSCODE = "kept-by-the-backend"
_LOOK_AGAIN_S = 0.3
_ENCRYPTED = b"age-encryption.org/"
"""How an archive begins that `age` opens, too."""


def say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


class Story:
    """`work` holds the device's `data` and `storage`, and `far-away`, what is behind HTTP."""

    def __init__(self, backend: Backend, work: Path) -> None:
        self._backend, self._data, self._work = backend, work / "data", work
        self._before = sample.facts(self._data)

    def tell(self, url: str) -> bool:
        """Whether everything came back as it was."""
        say(f"A device keeps {len(self._before)} files, directories and links in {self._data}")
        say("\nThe agent starts, asks who it is, and announces itself to the twin")
        self._backend.wait_for_announcement()
        good = self._kept_here() and self._encrypted_far_away(f"{url}/{_ARCHIVE}?signature=not-shown")
        self._history()
        return good

    def _kept_here(self) -> bool:
        options = {"storage.provider": "local"}
        say("\nBackup to a local directory")
        self._run("backup", "demo-local", options)
        _show_archives(self._work / "storage" / "archives")
        self._damage()
        say("\nRestore from there")
        self._run("restore", "demo-local-back", options)
        return self._compare()

    def _encrypted_far_away(self, url: str) -> bool:
        options = {"https.url": url}
        say("\nBackup to a place behind HTTP, encrypted with a passcode")
        self._run("backup", "demo-encrypted", {**options, "backup.passcode": _PASSCODE})
        _show_archives(self._work / "far-away")
        self._damage()
        say("\nRestore from there, as a preview first")
        chosen = {**options, "restore.passcode": _PASSCODE, "restore.preview": "true"}
        self._backend.ask("restore", "demo-encrypted-back", chosen)
        if not self._previewed():
            return False
        say("\nThat is what we want: finalize it")
        self._run("finalize", "demo-encrypted-back")
        return self._compare()

    def _previewed(self) -> bool:
        """Wait until the preview is there; whether it is one."""
        preview = None
        while preview is None:
            time.sleep(_LOOK_AGAIN_S)
            preview = self._backend.ask("status").message["value"].get("preview")
        if preview["state"] != "waiting":
            say(f"  {preview['state']}: {preview['code']}, {preview['message']}")
            return False
        say(
            "  nothing is touched yet: {added} to add, {changed} to change, {removed} to remove".format(
                **preview
            )
        )
        return True

    def _history(self) -> None:
        say("\nWhat the device remembers, the newest first")
        for entry in self._backend.ask("history").message["value"]["entries"]:
            size = f"{entry['archiveBytes']:>9,} bytes" if "archiveBytes" in entry else ""
            when = entry["endTime"][11:19]
            say(f"  {when}  {entry['kind']:8} {entry['state']:9} {entry['correlationId']:17} {size}")

    def _run(self, operation: str, correlation_id: str, options: Mapping[str, str] | None = None) -> None:
        say(f"  {_took(self._backend.run(operation, correlation_id, options))}")

    def _damage(self) -> None:
        say("\nSomething goes wrong on the device")
        for line in sample.damage(self._data):
            say(f"  ✗ {line}")

    def _compare(self) -> bool:
        differences = sample.differences(self._before, sample.facts(self._data))
        for line in differences:
            say(f"  ✗ {line}")
        if not differences:
            say(f"  ✓ all {len(self._before)} are as they were: content, mode, time")
        return not differences


def show(heard: Heard) -> None:
    """One line for a message of the agent."""
    message, operation = heard.message, heard.last_operation
    if operation is not None:
        what = (
            f"lastOperation = {operation['state']} {operation['progress']} %  ({operation['correlationId']})"
        )
    elif "status" in message:
        what = f"answer {message['status']}  {json.dumps(message.get('value', ''))}"
    else:
        what = f"{message['path']}  {json.dumps(message['value'])}"
    say(f"  ← {heard.topic:34} {what[:120]}{'…' if len(what) > 120 else ''}")


def _show_archives(directory: Path) -> None:
    for path in sorted(directory.iterdir()):
        with path.open("rb") as file:
            encrypted = file.read(len(_ENCRYPTED)) == _ENCRYPTED
        begin = ", and all that can be read of it is how it was encrypted" if encrypted else ""
        say(f"  {path.name}: {path.stat().st_size:,} bytes{begin}")


def _took(operation: Mapping[str, Any]) -> str:
    if "state" not in operation:
        return f"refused: {operation['message']}"
    if operation["statusCode"]:
        return f"{operation['state']}: {operation['statusCode']}, {operation['message']}"
    return f"{operation['state']}, {operation['startTime'][11:23]} to {operation['endTime'][11:23]} UTC"
