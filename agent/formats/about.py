"""What an archive at a destination says of itself, without fetching all of it."""

import structlog

from agent.base.errors import Cancelled, JobError
from agent.base.sources import UNKNOWN, KnownArchive, Source
from agent.formats.archive_names import ENCRYPTED
from agent.formats.base import Format, Unlock
from agent.transfer.context import Destination
from providers.errors import NotFound, Rejected

log = structlog.get_logger(__name__)


def read_about(archives: Format, destination: Destination, name: str, unlock: Unlock) -> KnownArchive:
    """Return what an archive says of itself; nothing for one that cannot be opened, or says nothing.

    The storage has to have `READ_RANGE`. Raises `StorageError` when the destination cannot be used now,
    and `Cancelled`.
    """
    keys = unlock if name.endswith(ENCRYPTED) else Unlock()
    try:
        manifest = archives.open(destination, name, keys).manifest()
    except Cancelled:
        raise
    except (JobError, NotFound, Rejected) as error:
        log.debug("an archive does not say what it is of", archive=name, reason=str(error))
        return UNKNOWN
    if manifest is None:
        return UNKNOWN
    roots = ((source.prefix, source.path, source.names) for source in manifest.sources)
    return KnownArchive(Source.of(roots), manifest.counts.files)
