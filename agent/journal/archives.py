"""Archives that this device has made, and the names that the last backups skipped.

Restores and retention need source and order of the archives for longer than the history keeps jobs, and the
clock may have been wrong.
"""

import json
import zlib
from collections.abc import Mapping, Sequence
from functools import lru_cache

from agent.base.sources import ArchiveSource, Extent, KnownArchive
from agent.journal.unit import Table

MOST_ARCHIVES = 5000
"""The number of archives that are kept; the manifest of an older archive names its source."""
MOST_JOBS = 16
"""Names of this many backups are kept; a thousand names take some ten kilobytes. Their number is a fact of
every backup."""


class ArchiveRecords(Table):
    def made(self, name: str, source: ArchiveSource, extent: Extent) -> None:
        """Keep an archive that was made just now, as the newest of all."""
        with self._database.unit():
            self._keep(name, source, extent, seen=True)
            self._database.write(
                "DELETE FROM archives WHERE number NOT IN"
                " (SELECT number FROM archives ORDER BY number DESC LIMIT ?)",
                (self._database.room_for(MOST_ARCHIVES),),
            )

    def learned(self, found: Mapping[str, KnownArchive]) -> None:
        """Keep the sources of archives that the journal did not know, as their manifests name them."""
        with self._database.unit():
            for name, archive in found.items():
                if archive.source is not None:
                    self._keep(name, archive.source, archive.extent, seen=False)

    def _keep(self, name: str, source: ArchiveSource, extent: Extent | None, *, seen: bool) -> None:
        files, size_bytes = extent or (None, None)
        self._database.write(
            "REPLACE INTO archives (name, source, files, bytes, seen) VALUES (?, ?, ?, ?, ?)",
            (name, source.to_text(), files, size_bytes, seen),
        )

    def extents(self, source: ArchiveSource) -> list[Extent]:
        """Return how much each archive of the source held, in the order in which they were made."""
        rows = self._database.read(
            "SELECT files, bytes FROM archives WHERE source = ? AND seen AND files IS NOT NULL"
            " ORDER BY number",
            (source.to_text(),),
        )
        return [Extent(*row) for row in rows]

    def known(self) -> dict[str, KnownArchive]:
        """Return the archives by their names."""
        rows = self._database.read("SELECT name, source, files, bytes, number, seen FROM archives")
        return {
            name: KnownArchive(_source(text), _extent(files, size_bytes), number if seen else 0)
            for name, text, files, size_bytes, number, seen in rows
        }


def _extent(files: int | None, size_bytes: int | None) -> Extent | None:
    return None if files is None else Extent(files, size_bytes)


@lru_cache(maxsize=64)
def _source(text: str) -> ArchiveSource | None:
    return ArchiveSource.from_text(text) if text else None


class SkippedNames(Table):
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
