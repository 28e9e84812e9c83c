"""The last archive at each destination, for `skipUnchanged`. Belongs to the main thread."""

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import astuple
from typing import TYPE_CHECKING

from agent.base.redaction import is_secret_name
from agent.base.roots import Root
from agent.jobs.requests.backup import BackupRequest
from agent.jobs.requests.options import Key
from agent.jobs.requests.storage import StorageOptions
from agent.journal import Journal
from agent.settings import Settings

if TYPE_CHECKING:
    from agent.save.change_detection import LastArchive

MOST_DESTINATIONS = 16
"""The number of destinations whose last archive is remembered; any other gets a new archive."""
_NOTE = "kept_archives"


def skip_key(request: BackupRequest, roots: Iterable[Root], settings: Settings) -> str | None:
    """Return the key of the last archive of `roots` at this destination; None when one is always made.

    One is always made without a destination, with `backupCmd`, and for a passcode, which cannot be compared.
    A repository gets a snapshot each time: of an unchanged tree it is one small object.
    """
    wanted = settings.skip_unchanged if request.skip_unchanged is None else request.skip_unchanged
    impossible = settings.backup_cmd or request.passcode is not None
    if not wanted or impossible or request.destination is None or request.destination.repository:
        return None
    return _key(request.destination, request.label.name, roots, settings.encryption.recipients)


def _key(destination: StorageOptions, name: str, roots: Iterable[Root], recipients: Sequence[str]) -> str:
    """Return a text that stands for these roots at this destination.

    It depends on the archive's name, as a new name asks for a new archive, and not on the credentials, which
    are renewed all the time.
    """
    chosen = {key: text for key, text in destination.options.items() if not is_secret_name(key)}
    chosen |= {"storage.provider": destination.provider} | ({Key.NAME: name} if name else {})
    about = json.dumps(
        [destination.provider, list(map(_described, roots)), sorted(chosen.items()), list(recipients)]
    )
    return hashlib.sha256(about.encode()).hexdigest()


def _described(root: Root) -> tuple[str, str, list[str] | None]:
    return root.prefix, str(root.directory), None if root.names is None else sorted(root.names)


class LastArchives:
    def __init__(self, journal: Journal) -> None:
        self._journal = journal

    def last(self, key: str) -> "LastArchive | None":
        from agent.save.change_detection import LastArchive

        fields = self._all().get(key)
        return LastArchive(*fields) if fields else None

    def remember(self, key: str, archive: "LastArchive") -> None:
        """Remember the last archive under `key`; forget the oldest when there are too many."""
        archives = self._all()
        archives.pop(key, None)
        archives[key] = astuple(archive)
        self._journal.notes.keep(_NOTE, json.dumps(dict(list(archives.items())[-MOST_DESTINATIONS:])))

    def _all(self) -> dict[str, tuple[str, str, int, str]]:
        return dict(json.loads(self._journal.notes.read(_NOTE) or "{}"))
