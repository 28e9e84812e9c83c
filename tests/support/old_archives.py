"""Archives of this device that its journal does not know."""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

from agent.base.job import Label
from agent.base.roots import Root
from agent.formats.archive_names import archive_name, device_tag
from agent.formats.manifest import Origin
from agent.formats.walk_report import Report
from agent.formats.zip.manifest_block import manifest_block
from agent.formats.zip.writer import ArchiveOptions, write_archive
from tests.support.fakes import DEVICE

DAY = timedelta(days=1)


def old_archives(
    directory: Path, days: Iterable[int], name: str = "backup", source: str = "/srv/app"
) -> list[str]:
    """Archives of this device that its journal does not know, made so many days ago."""
    directory.mkdir(exist_ok=True)
    names = [archive_name(datetime.now(UTC) - day * DAY, device_tag(DEVICE), name=name) for day in days]
    for each in names:
        (directory / each).write_bytes(empty_archive(source))
    return names


def empty_archive(source: str) -> bytes:
    """An archive without entries, whose manifest says what it is of."""
    roots = (Root("", Path(source)),)
    origin = Origin(DEVICE, "edge-backup/1", datetime.now(UTC), "X", Label(), roots)
    manifest = partial(manifest_block, origin)
    return b"".join(write_archive([], Report(), ArchiveOptions(), lambda: None, manifest))


def there(directory: Path) -> set[str]:
    return {path.name for path in directory.iterdir()}
