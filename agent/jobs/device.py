"""The id of this device, the ids that it had before, and options of a provider in which parts of it stand."""

import hashlib
import hmac
import json
from collections.abc import Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from urllib.parse import quote

from agent.base.device_ids import UNNAMED, DeviceIds, fill_in
from agent.formats.archive_names import OwnArchives, device_tag
from agent.journal import DEVICE, Journal
from agent.journal.notes import Notes
from providers.api import StorageFactory
from providers.errors import BadOptions
from providers.prefix import prefix_option

UNIDENTIFIED = (
    "nobody has said who this device is: start the broker's connector,"
    " or set 'deviceId' in the settings, as <namespace>:<name>"
)
MOST_FORMER = 16
"""So many former ids are kept, the newest."""
_FORMER, _KEY = "former_devices", "device_key"
MACHINE_ID = Path("/etc/machine-id")
_URL = "https.url"


def last_id(notes: Notes) -> str | None:
    """Return the id that the device went by last; None when it had none."""
    former: list[str] = json.loads(notes.read(_FORMER) or "[]")
    return notes.read(DEVICE) or next(iter(former), None)


class Device:
    """Goes by the id that it was told, else by the last one that it had, else by one of its own.

    Belongs to the main thread.
    """

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._told = journal.notes.read(DEVICE)
        self._former: list[str] = json.loads(journal.notes.read(_FORMER) or "[]")
        self.identified = False
        """True when somebody has said in this run who the device is."""
        self.problem = ""
        """Says what to do when nobody says who the device is; else empty."""

    @property
    def id(self) -> str:
        """Return the id. Raises `JournalError` when one of its own cannot be kept."""
        return self._told or self._own_id()

    @property
    def tag(self) -> str:
        """Return the part of an archive's name that tells this device. Raises `JournalError`."""
        return device_tag(self.id)

    @property
    def ids(self) -> DeviceIds:
        """Return the id and the former ones, the newest first. Raises `JournalError`."""
        current = self.id
        return DeviceIds(current, tuple(each for each in self._former if each != current))

    @property
    def archives(self) -> OwnArchives:
        """Return what tells the archives of this device from those of others. Raises `JournalError`."""
        return OwnArchives(self.tag, self._journal.archives.known())

    def identify(self, device_id: str) -> None:
        """Go by this id from now on; `keep` has to follow."""
        if self._told and self._told != device_id:
            self._add_former(self._told)
        self._told, self.identified, self.problem = device_id, True, ""

    def keep(self) -> None:
        """Keep the ids for the next run, and for programs that cannot ask. Raises `JournalError`."""
        notes, former = self._journal.notes, json.dumps(self._former)
        if self._told and (notes.read(DEVICE), notes.read(_FORMER)) != (self._told, former):
            self._journal.notes.keep(DEVICE, self._told)
            self._journal.notes.keep(_FORMER, former)

    def _own_id(self) -> str:
        """Return an id that no other device has, and count it as one that this device had.

        Cloned images share the machine's id, and a copied storage the key: the two together tell devices
        apart. The machine's id itself is not to be shown, see machine-id(5).
        """
        machine = b""
        with suppress(OSError):  # a container may have none
            machine = MACHINE_ID.read_bytes()
        key = self._journal.notes.random(_KEY).encode()
        own = f"{UNNAMED}{hmac.new(key, machine, hashlib.sha256).hexdigest()[:32]}"
        if own not in self._former:
            self._add_former(own)
            self._journal.notes.keep(_FORMER, json.dumps(self._former))
        return own

    def _add_former(self, device_id: str) -> None:
        self._former = list(dict.fromkeys([device_id, *self._former]))[:MOST_FORMER]


def options_for(options: Mapping[str, str], factory: StorageFactory, device_id: str) -> dict[str, str]:
    """Return the options with parts of the device's id filled into prefix and URL. Raises `BadOptions`."""
    filled = dict(options)
    for key in filter(None, (prefix_option(factory), _URL)):
        if text := options.get(key):
            filled[key] = filled_in(key, text, device_id)
    return filled


def filled_in(key: str, text: str, device_id: str) -> str:
    """Return the text of an option or setting with the parts of the id in it. Raises `BadOptions`."""
    try:
        return fill_in(text, device_id, partial(quote, safe="") if key == _URL else str)
    except ValueError as error:
        raise BadOptions({key: str(error)}) from error
