"""The archives in a store: which there are, and what is in one, without a restore.

A store of the settings is opened in the main thread, and read in another one: the far side may be slow.
"""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from agent.base.refusals import Reason, Refused
from agent.jobs.admission import Admission
from agent.jobs.device import Device
from agent.jobs.job_options import read_format
from agent.jobs.requests.options import Key
from agent.jobs.requests.storage import StorageOptions, name_option, store_storage
from agent.journal import Journal
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


@dataclass(frozen=True, slots=True)
class OpenedStore:
    """A store that one thread reads and closes. Its token ends what is going on, from any thread."""

    destination: Destination
    own: "OwnArchives"
    archives: "ReadFormat"
    connections: Connections

    @property
    def token(self) -> CancelToken:
        return self.connections.token

    def listed(self) -> list["DatedArchive"]:
        """Return the archives of this device, newest first. Raises `StorageError` and `Cancelled`."""
        from agent.formats.archive_order import in_order

        found = self.archives.listed(self.destination, self.own)
        return in_order(found, self.own.known, datetime.now(UTC))

    def tree(self, unlock: "Unlock") -> "SavedTree":
        """Return the content of the archive. Raises `StorageError` and `JobError`."""
        assert self.destination.name
        return self.archives.open(self.destination, self.destination.name, unlock)

    def close(self) -> None:
        with suppress(StorageError):
            self.destination.storage.close()
        self.connections.close()


class Archives:
    """Opens stores by their names: a target of the provider `local` counts as one, too.

    Belongs to the main thread.
    """

    def __init__(self, settings: Settings, journal: Journal, device: Device) -> None:
        self._settings, self._journal, self._device = settings, journal, device
        self._admission = Admission(settings)

    def stores(self) -> list[str]:
        """Return the names of all stores, those of the settings first."""
        return list(dict.fromkeys((*self._settings.stores, *self._settings.targets)))

    def listable(self, store: str) -> OpenedStore:
        """Open a store to list its archives. Raises `Refused`."""
        refusal = f"store '{store}' has no list of its archives: its provider knows single ones only"
        return self._opened(self._chosen(store), None, Capability.LIST, refusal)

    def readable(self, store: str, name: str) -> OpenedStore:
        """Open a store to read parts of the archive `name`. Raises `Refused`."""
        chosen = self._chosen(store)
        key = None if chosen.repository else name_option(chosen.provider)
        if key and (only := chosen.options.get(key, name)) != name:
            raise Refused(Reason.NOT_FOUND, f"store '{store}' has only the archive '{only}'")
        named = replace(chosen, options={**chosen.options, key: name}) if key else chosen
        if chosen.repository:
            named = replace(chosen, repository=replace(chosen.repository, snapshot=name))
        refusal = f"store '{store}' cannot read a part of an archive: restore it"
        return self._opened(named, name, Capability.READ_RANGE, refusal)

    def restore_options(self, store: str, name: str) -> Mapping[str, str]:
        """Return the options that name this archive in a request. Raises `Refused`."""
        chosen = self._chosen(store)
        if chosen.repository:
            return {Key.RESTORE_STORE.value: store, Key.ARCHIVE.value: name}
        key = name_option(chosen.provider)
        named = {key: name} if key else {}
        if chosen.store:
            return {Key.RESTORE_STORE.value: store, **named}
        return {"storage.provider": chosen.provider, **chosen.options, **named}

    def _chosen(self, store: str) -> StorageOptions:
        if store in self._settings.stores:
            return store_storage(self._settings, store)
        if store in self._settings.targets:
            return StorageOptions("local", {"local.target": store})
        known = ", ".join(self.stores())
        raise Refused(Reason.NOT_FOUND, f"no store '{store[:80]}': the device has {known or 'none'}")

    def _opened(
        self, chosen: StorageOptions, name: str | None, needed: Capability, refusal: str
    ) -> OpenedStore:
        from agent.formats.archive_names import OwnArchives

        own = OwnArchives(self._device.tag, self._journal.archives.known())
        connections = Connections(self._settings.transfer.connect_timeout.total_seconds())
        destination = self._admission.source(chosen, connections, self._device.id, name)
        opened = OpenedStore(destination, own, read_format(chosen, self._settings), connections)
        if needed not in destination.storage.capabilities:
            opened.close()
            raise Refused(Reason.CANNOT, refusal)
        return opened
