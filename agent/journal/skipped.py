"""Names of the entries that the last backups skipped, with the reasons."""

import json
import zlib
from collections.abc import Sequence

from agent.journal.unit import Database

MOST_JOBS = 16
"""Names of this many backups are kept; a thousand names take some ten kilobytes. Their number is a fact of
every backup."""


class SkippedNames:
    def __init__(self, database: Database) -> None:
        self._database = database

    def keep(self, job_id: str, names: Sequence[tuple[str, str]]) -> None:
        """Keep names with reasons, as part of the unit that is open; forget those of older backups."""
        with self._database.unit():
            if names:
                self._database.write(
                    "REPLACE INTO left_out (job_id, names) VALUES (?, ?)",
                    (job_id, zlib.compress(json.dumps(names).encode())),
                )
            self._database.write(
                "DELETE FROM left_out WHERE job_id NOT IN (SELECT id FROM jobs)"
                " OR number NOT IN (SELECT number FROM left_out ORDER BY number DESC LIMIT ?)",
                (MOST_JOBS,),
            )

    def of(self, job_id: str) -> list[tuple[str, str]]:
        """Return names with reasons; empty when none are kept."""
        rows = self._database.read("SELECT names FROM left_out WHERE job_id = ?", (job_id,))
        found = json.loads(zlib.decompress(rows[0][0])) if rows else []
        return [(name, reason) for name, reason in found]
