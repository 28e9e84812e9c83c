"""The archives in a store: which there are, and what is in one, without a restore.

A store of the settings is opened in the main thread, and read in another one: the far side may be slow.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from agent.base.errors import NoRepository
from agent.base.job import Kind
from agent.base.refusals import Reason, Refused
from agent.base.sources import Verdicts
from agent.base.text import readable
from agent.base.times import format_time
from agent.jobs.admission import Admission
from agent.jobs.device import Device
from agent.jobs.formats import read_format
from agent.jobs.prune import noted_dates, retention_dates
from agent.jobs.requests.options import Key
from agent.jobs.requests.storage import StorageOptions, archive_name_option, store_names, store_storage
from agent.jobs.verify import verdicts_of
from agent.journal import Journal
from agent.journal.jobs import job_record
from agent.settings import Settings
from agent.transfer.cancel import CancelToken
from agent.transfer.connections import Connections
from agent.transfer.context import Destination
from providers.api import Capability
from providers.errors import StorageError

if TYPE_CHECKING:
    from agent.formats.archive_names import OwnArchives
    from agent.formats.archive_order import DatedArchive
    from agent.formats.base import ReadFormat, SavedTree, Unlock
    from agent.formats.manifest import Manifest


@dataclass(frozen=True, slots=True)
class OpenedStore:
    """A store that one thread reads and closes. Its token ends what is going on, from any thread."""

    destination: Destination
    own: "OwnArchives"
    archives: "ReadFormat"
    connections: Connections
    facts: Callable[[], tuple[Verdicts, Mapping[str, str]]] = lambda: (Verdicts(), {})
    """Returns what the journal knows: results of verifications, and retention dates by archive."""

    @property
    def token(self) -> CancelToken:
        return self.connections.token

    def listed(self) -> list["DatedArchive"]:
        """Return the archives of the device, newest first; none where there is no repository yet.

        Raises `StorageError`, JobError and `Cancelled`.
        """
        from agent.formats.archive_order import in_order

        try:
            found = self.archives.listed(self.destination, self.own)
        except NoRepository:
            return []
        return in_order(found, self.own.known, datetime.now(UTC))

    def values(self, after: str, *, details: bool) -> Iterator[dict[str, Any]]:
        """Yield the archives of the device as values of an answer, newest first.

        With `after`, those that are older than the archive of this name. With `details`, manifests are read
        where the journal does not know enough. Raises `Refused` (NOT_FOUND) when there is no archive `after`,
        `StorageError`, JobError and OSError.
        """
        archives, (verdicts, dates) = self.listed(), self.facts()
        for archive in archives[_position(after, archives) :]:
            name, known = archive.name, archive.known
            is_known = known.source is not None and known.extent is not None
            manifest = self._manifest(name) if details and not is_known else None
            verified = verdicts.of(name, self.destination.place_of(name))
            yield _value(archive, manifest, verified=verified, date=dates.get(name))

    def _manifest(self, name: str) -> "Manifest | None":
        from agent.formats.archive_order import read_manifest
        from agent.formats.base import Unlock

        if Capability.READ_RANGE not in self.destination.storage.capabilities:
            return None
        self.token.check()
        return read_manifest(self.archives, self.destination, name, Unlock())

    def tree(self, unlock: "Unlock") -> "SavedTree":
        """Return the content of the archive. Raises `StorageError` and `JobError`."""
        assert self.destination.name
        return self.archives.open(self.destination, self.destination.name, unlock)

    def close(self) -> None:
        with suppress(StorageError):
            self.destination.storage.close()
        self.connections.close()


def _facts_of(journal: Journal) -> Callable[[], tuple[Verdicts, Mapping[str, str]]]:
    """Read rows of the journal, and return a function that makes facts of them in the thread that answers."""
    verifications, backups = (tuple(journal.jobs.rows_of(kind)) for kind in (Kind.VERIFY, Kind.BACKUP))
    noted = noted_dates(journal)
    return lambda: (
        verdicts_of(map(job_record, verifications)),
        retention_dates(noted, map(job_record, backups)),
    )


def _value(
    archive: "DatedArchive", manifest: "Manifest | None", *, verified: bool | None, date: str | None
) -> dict[str, Any]:
    """Return what is known of an archive; a member is None where nobody knows."""
    from agent.formats.archive_names import ENCRYPTED, PLAIN
    from agent.formats.archive_order import known_from

    read, known = known_from(manifest), archive.known
    source, name = known.source or read.source, archive.name
    extent = known.extent or read.extent
    return {
        "name": name,
        "label": archive.label,
        "made": format_time(archive.made),
        "isDated": archive.is_dated,
        "encrypted": name.endswith(ENCRYPTED) or not name.endswith(PLAIN),  # a snapshot always is
        "source": str(source) if source else None,
        "directory": source.directory or None if source else None,
        "dataSets": sorted(source.data_sets) if source else None,
        "files": extent.files if extent else None,
        "bytes": archive.size_bytes,
        "verified": verified,
        "retentionDate": date or (manifest and manifest.retention_date) or None,
    }


def _position(after: str, archives: list["DatedArchive"]) -> int:
    """Return where the archives begin that are older than `after`. Raises `Refused` (NOT_FOUND)."""
    if not after:
        return 0
    for number, archive in enumerate(archives, 1):
        if archive.name == after:
            return number
    message = f"'{readable(after)}' is no longer there: begin with the first page"
    raise Refused(Reason.NOT_FOUND, message)


class Archives:
    """Opens stores by their names: a target of the provider `local` counts as one, too.

    Belongs to the main thread.
    """

    def __init__(self, settings: Settings, journal: Journal, device: Device) -> None:
        self._settings, self._journal, self._device = settings, journal, device
        self._admission = Admission(settings)

    def listable(self, source: StorageOptions, device_id: str = "") -> OpenedStore:
        """Open a store to list the archives of a device; "" for this one. Raises `Refused`."""
        refusal = f"{_shown(source)} has no list of its archives: its provider knows single ones only"
        opened = self._opened(source, None, Capability.LIST, refusal, device_id)
        return replace(opened, facts=_facts_of(self._journal))

    def readable(self, store: str, name: str) -> OpenedStore:
        """Open a store to read parts of the archive `name`. Raises `Refused`."""
        chosen = self.store(store)
        key = None if chosen.repository else archive_name_option(chosen.provider, chosen.options)
        if key and (only := chosen.options.get(key, name)) != name:
            raise Refused(Reason.NOT_FOUND, f"store '{store}' has only the archive '{only}'")
        named = replace(chosen, options={**chosen.options, key: name}) if key else chosen
        if chosen.repository:
            named = replace(chosen, repository=replace(chosen.repository, snapshot=name))
        refusal = f"store '{store}' cannot read a part of an archive: restore it"
        return self._opened(named, name, Capability.READ_RANGE, refusal)

    def restore_options(self, store: str, name: str) -> Mapping[str, str]:
        """Return the options that name this archive in a request. Raises `Refused`."""
        chosen = self.store(store)
        if chosen.repository:
            return {Key.RESTORE_STORE.value: store, Key.ARCHIVE.value: name}
        key = archive_name_option(chosen.provider, chosen.options)
        named = {key: name} if key else {}
        if chosen.store:
            return {Key.RESTORE_STORE.value: store, **named}
        return {"storage.provider": chosen.provider, **chosen.options, **named}

    def store(self, name: str) -> StorageOptions:
        """Return the store, or the target, with this name. Raises `Refused` (NOT_FOUND)."""
        known = store_names(self._settings)
        if name in known:
            return store_storage(self._settings, name)
        raise Refused(
            Reason.NOT_FOUND, f"no store '{name[:80]}': the device has {', '.join(known) or 'none'}"
        )

    def _opened(
        self, chosen: StorageOptions, name: str | None, needed: Capability, refusal: str, device_id: str = ""
    ) -> OpenedStore:
        from agent.formats.archive_names import archives_of

        own = archives_of(device_id) if device_id else self._device.archives
        connections = Connections(self._settings.transfer.connect_timeout.total_seconds())
        destination = self._admission.source(chosen, connections, device_id or self._device.id, name)
        opened = OpenedStore(destination, own, read_format(chosen, self._settings), connections)
        if needed not in destination.storage.capabilities:
            opened.close()
            raise Refused(Reason.CANNOT, refusal)
        return opened


def _shown(source: StorageOptions) -> str:
    return f"store '{source.store}'" if source.store else f"the provider '{source.provider}'"
