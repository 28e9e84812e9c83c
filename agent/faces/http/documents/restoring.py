"""The backups that this device can restore by itself, and the options of that restore."""

import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from agent.base.job import State
from agent.base.refusals import Reason, Refused
from agent.base.sources import ArchiveSource
from agent.faces.http.documents.destinations import WireOptions, location_of
from agent.formats.archive_names import ENCRYPTED
from agent.journal.jobs import JobRecord
from agent.settings import Settings


@dataclass(frozen=True, slots=True)
class Fetchable:
    """A backup whose archive is in a store or a target of the device."""

    record: JobRecord
    store: str
    options: WireOptions

    @property
    def archive(self) -> str:
        return str(self.record.facts["archive"])


def fetchable(newest_first: Iterable[JobRecord], settings: Settings) -> Iterator[Fetchable]:
    """Yield the good backups whose archives are still there.

    A store without names keeps one archive, the last: only the newest backup there counts.
    """
    taken: set[str] = set()
    for record in newest_first:
        location = location_of(record, settings) if record.state == State.FINISHED else None
        if location is None:
            continue
        store, options = location
        if options.keys() == {"restore.store"}:
            if store in taken:
                continue
            taken.add(store)
        yield Fetchable(record, store, options)


def options_to_restore(
    found: Fetchable, source: ArchiveSource | None, settings: Settings
) -> Mapping[str, Any]:
    """Return the options that put a backup back to where it came from.

    Raises `Refused` for an encrypted archive, as no document but 002 knows of passcodes.
    """
    if found.archive.endswith(ENCRYPTED):
        message = "this backup is encrypted: restore it with 'edge-backup restore' and its passcode"
        raise Refused(Reason.CANNOT, message)
    options = {**found.options, **_where(source, settings)}
    return {**options, "restore.mode": "replace"} if _is_complete(found.record, source, settings) else options


def _where(source: ArchiveSource | None, settings: Settings) -> WireOptions:
    if source is None:
        return {}
    if source.data_sets:
        return {"restore.dataTypes": sorted(source.data_sets)}
    is_default = not source.directory or (
        settings.dir is not None and os.path.realpath(settings.dir) == source.directory
    )
    return {} if is_default else {"backup.dir": source.directory}


def _is_complete(record: JobRecord, source: ArchiveSource | None, settings: Settings) -> bool:
    """Return True for a backup of all that its source has: what it lacks is then not wanted any more."""
    if source is None or record.facts.get("unexportable"):
        return False
    if source.directory:
        return source.paths is None
    known = {name: settings.data_sets[name].paths for name in source.data_sets & settings.data_sets.keys()}
    whole = {f"{name}{path}" for name, paths in known.items() for path in paths}
    return source.paths is not None and source.paths == frozenset(whole)
