"""`verify`: fetches an archive and reads all of it, in a worker's thread."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from agent.base.errors import ArchiveError, Encrypted, EncryptionBroken, JobError, ManifestBroken, disk_errors
from agent.formats.base import FetchedArchive, ReadFormat, Unlock
from agent.formats.entry_checks import ArchiveLimits, Survey, take_survey
from agent.restore.find import Search, find
from agent.transfer.archive_files import Fetch
from agent.transfer.context import Context
from providers.api import Stored
from providers.errors import Corrupted, StorageError

ANYWHERE = "*"


@dataclass(frozen=True, slots=True)
class VerifyOrder:
    """Verify the archive that `fetch` names, within `limits`."""

    fetch: Fetch
    search: Search
    """Finds the archive where `fetch` names none."""
    format: ReadFormat
    unlock: Unlock
    limits: ArchiveLimits
    known: Mapping[tuple[str, str], str]
    """SHA-256 of archives that this device has made, by location and name; `ANYWHERE` for unique names."""


@dataclass(frozen=True, slots=True)
class Verified:
    """The result; `damage` is None for a sound archive."""

    stored: Stored
    sha256: str
    survey: Survey | None = None
    """None when only the hash was compared, because nothing opens the encrypted archive."""
    looked_at_bytes: int = 0
    """Bytes of the archive that were read; fewer than it has for a sample."""
    damage: JobError | StorageError | None = None


def verify(order: VerifyOrder, context: Context) -> Verified:
    """Read every byte of the archive, or of a sample of a snapshot, and remove what was fetched.

    Damage is in the result; an error means that the archive could not be read. Raises `Encrypted` when no key
    was given and the hash is not known either.
    """
    destination = order.fetch.destination
    found = find(destination, order.search, order.format, order.unlock)
    fetch = replace(order.fetch, destination=replace(destination, name=found.name))
    with order.format.fetched(fetch, context) as archive:
        context.phase("checking")
        with disk_errors(f"cannot read the download in '{order.fetch.to.parent}'"):
            return _looked_at(order, archive, context)


def _looked_at(order: VerifyOrder, archive: FetchedArchive, context: Context) -> Verified:
    stored, digest = archive.stored, archive.sha256(context.token)
    expected = order.known.get((stored.place, stored.name)) or order.known.get((ANYWHERE, stored.name))
    if expected and expected != digest:
        damage = Corrupted("the archive is not the one that this device stored there: its SHA-256 differs")
        return Verified(stored, digest, damage=damage)
    try:
        survey, looked_at_bytes = _read(archive, order, context)
        return Verified(stored, digest, survey, looked_at_bytes)
    except Encrypted:
        if not expected:
            raise
        return Verified(stored, digest)
    except (ArchiveError, ManifestBroken, EncryptionBroken) as error:
        return Verified(stored, digest, damage=error)


def _read(archive: FetchedArchive, order: VerifyOrder, context: Context) -> tuple[Survey, int]:
    """Read the manifest, the list of entries and their contents; return how many bytes were looked at, too.

    Raises `ArchiveError`, `ManifestBroken`, `EncryptionBroken`, and `NewerFormat` for a later format.
    """
    tree = archive.tree(order.unlock)
    tree.manifest()
    survey = take_survey(tree.items(), order.limits)
    context.expect(survey.size_bytes)
    done = 0

    def count(size_bytes: int) -> None:
        nonlocal done
        context.token.check()
        done += size_bytes
        context.progress(done)

    return survey, archive.verify(tree, count)
