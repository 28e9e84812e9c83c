"""What newer backups left out, by name: kept in the journal, for `describe` and the command line.

Belongs to the main thread.
"""

import json
import zlib
from collections.abc import Sequence

from agent.journal import Journal

MOST_JOBS = 16
"""Of so many backups the names are kept; of older ones only how many they were. A thousand names of one
take some ten kilobytes here."""


class LeftOut:
    def __init__(self, journal: Journal) -> None:
        self._journal = journal

    def remember(self, job_id: str, names: Sequence[tuple[str, str]]) -> None:
        """Keep names with reasons, as part of the journal's transaction; lists of older backups go."""
        with self._journal.transaction() as db:
            if names:
                db.execute(
                    "REPLACE INTO left_out (job_id, names) VALUES (?, ?)",
                    (job_id, zlib.compress(json.dumps(names).encode())),
                )
            db.execute(
                "DELETE FROM left_out WHERE job_id NOT IN (SELECT id FROM jobs)"
                " OR number NOT IN (SELECT number FROM left_out ORDER BY number DESC LIMIT ?)",
                (MOST_JOBS,),
            )

    def names(self, job_id: str) -> list[dict[str, str]]:
        """What was left out and why, as far as it is known; empty when nothing is."""
        query = "SELECT names FROM left_out WHERE job_id = :id"
        row = self._journal.read(query, {"id": job_id}).fetchone()
        found = json.loads(zlib.decompress(row[0])) if row else []
        return [{"name": name, "reason": reason} for name, reason in found]
