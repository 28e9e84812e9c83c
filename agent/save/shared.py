"""An archive that several stores get: made once, and kept on the device until none of them waits for it.

Both outlast a crash: the archive is complete before its record is written. The record has the tick of the
archive, so that no store gets the archive of an earlier tick.
"""

import json
import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from agent.base.durable import make_directories, remove_tree, replace_file, sync_directory
from agent.base.errors import disk_errors
from agent.formats.walk_report import Report
from agent.save.result import BackupResult

_RECORD = "archive.json"
_COUNTS = ("files", "directories", "links", "size_bytes", "excluded", "skipped", "reasons", "mounts")


@dataclass(frozen=True, slots=True)
class Slot:
    """The directory for the archive of one tick of a schedule."""

    directory: Path
    tick: str

    def clear(self) -> None:
        """Make the slot an empty private directory. Raises IoError and NoSpace."""
        with disk_errors(f"cannot make the directory '{self.directory}'"):
            remove_tree(self.directory)
            make_directories(self.directory, 0o700)
            sync_directory(self.directory.parent)

    def keep(self, archive: Path, made: BackupResult) -> None:
        """Write the record of the archive that was made. Raises IoError and NoSpace."""
        report = {name: getattr(made.report, name) for name in _COUNTS}
        about = {
            "tick": self.tick,
            "name": archive.name,
            "size": made.size_bytes,
            "sha256": made.sha256,
            "fingerprint": made.fingerprint,
            "report": report,
        }
        with disk_errors(f"cannot write to '{self.directory}'"):
            replace_file(self.directory / _RECORD, json.dumps(about), 0o600)

    def archive(self) -> tuple[Path, BackupResult] | None:
        """Return the archive of the tick, and the result of making it; None when there is none."""
        with suppress(OSError, ValueError, KeyError, TypeError):
            about = json.loads((self.directory / _RECORD).read_text(encoding="utf-8"))
            path = self.directory / about["name"]
            if about["tick"] == self.tick and os.stat(path).st_size == about["size"]:
                return path, BackupResult(
                    Report(**about["report"]),
                    about["size"],
                    about["sha256"],
                    None,
                    fingerprint=about["fingerprint"],
                )
        return None
