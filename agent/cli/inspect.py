"""`edge-backup inspect`: shows the manifest and the entries of an archive, without a restore.

Needs no agent. Of an archive at a place only its directory and its manifest are fetched.
"""

import argparse
import json
import os
import stat
import sys
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

from agent.base.errors import JobError
from agent.base.refusals import Refused
from agent.base.sources import KnownArchive
from agent.base.text import printable
from agent.cli import settings_of
from agent.cli.follow import add_options, options_of
from agent.cli.local import (
    EXIT_OK,
    EXIT_REFUSED,
    EXIT_USAGE,
    local_parser,
    parsed_with_settings,
    write_value,
)
from agent.formats.archive_file import open_archive
from agent.formats.archive_names import OwnArchives, device_tag
from agent.formats.base import EntryKind, Item, ReadFormat, SavedTree, Unlock
from agent.formats.item_facts import item_facts, modified
from agent.formats.manifest import Manifest
from agent.jobs.admission import Admission
from agent.jobs.device import last_id
from agent.jobs.encryption import unlock_for
from agent.jobs.job_options import read_format
from agent.jobs.requests.options import Key, Options
from agent.jobs.requests.raw import read_raw
from agent.jobs.requests.restore import read_key, read_source
from agent.jobs.requests.storage import read_storage
from agent.jobs.staging import journal_of
from agent.journal import JournalError, JournalReader
from agent.restore.find import Search, find
from agent.send.options import UnusableOption
from agent.send.progress import size_text
from agent.settings import Settings
from agent.transfer.connections import Connections
from agent.transfer.context import Destination
from providers.api import Capability
from providers.errors import StorageError

_KINDS = {EntryKind.FILE: stat.S_IFREG, EntryKind.DIR: stat.S_IFDIR, EntryKind.LINK: stat.S_IFLNK}


def inspect(argv: list[str]) -> int:
    """Print the manifest of an archive, and with `--files` its directory."""
    parser = local_parser("inspect", "Show the manifest of an archive, without a restore.")
    parser.usage = "edge-backup inspect [FILE] [--store NAME] [-o KEY=VALUE ...] [--files] [--json]"
    parser.add_argument("--store", metavar="NAME", help="store of the settings that has the archive")
    parser.add_argument("--files", action="store_true", help="also list the entries")
    add_options(parser)
    parser.add_argument("file", nargs="?", type=Path, metavar="FILE", help="the archive, if in a file")
    parsed = parsed_with_settings(parser, argv)
    file: Path | None = parsed.file
    loaded = settings_of(parsed)
    if loaded is None:
        return EXIT_USAGE
    try:
        options = options_of(parsed, {Key.RESTORE_STORE: parsed.store})
        raw = read_raw("restore", {"options": options})
        return _inspect(file, raw.options, loaded.settings, parsed)
    except UnusableOption as error:
        sys.stderr.write(f"{error}\n")
        return EXIT_USAGE
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # somebody has seen enough
        return EXIT_OK
    except (Refused, JobError, StorageError) as error:
        sys.stderr.write(f"{error}\n")
    except OSError as error:
        sys.stderr.write(f"'{file}' cannot be read: {error.strerror}\n")
    return EXIT_REFUSED


def _inspect(path: Path | None, options: Options, settings: Settings, parsed: argparse.Namespace) -> int:
    key = read_key(options, settings.encryption.min_passcode)
    unlock = unlock_for(key, settings.encryption)
    if path and (parsed.store or read_storage(options, settings, Key.RESTORE_STORE)):
        raise UnusableOption("give a file or a destination, not both")
    with _in_file(path, unlock) if path else _at_store(options, settings, unlock) as tree:
        manifest = tree.manifest()
        write_value(
            {"manifest": manifest and manifest.value()}, "\n".join(_lines(manifest)), as_json=parsed.json
        )
        for item in tree.items() if parsed.files else ():
            checksum = tree.checksum(item)
            text = (
                json.dumps(item_facts(item, checksum), ensure_ascii=False)
                if parsed.json
                else _line(item, checksum)
            )
            sys.stdout.write(f"{text}\n")
    sys.stdout.flush()  # here, where it is known what a closed pipe means
    return EXIT_OK


@contextmanager
def _in_file(path: Path, unlock: Unlock) -> Iterator[SavedTree]:
    with path.open("rb") as file:
        yield open_archive(file, unlock)


@contextmanager
def _at_store(options: Options, settings: Settings, unlock: Unlock) -> Iterator[SavedTree]:
    """Yield the archive that the options name. Raises `Refused`, `JobError` and `StorageError`."""
    source = read_source(options, settings)
    connections = Connections(settings.transfer.connect_timeout.total_seconds())
    device_id, known = known_device(settings)
    destination = Admission(settings).source(source, connections, device_id)
    storage = destination.storage
    with closing(connections), closing(storage):
        if Capability.READ_RANGE not in storage.capabilities:
            raise UnusableOption(
                "this provider cannot read a part of an archive: fetch the archive, and inspect the file"
            )
        archives = read_format(source, settings)
        name = destination.name or _newest(destination, archives, device_id, known)
        yield archives.open(destination, name, unlock)


def _newest(
    destination: Destination, archives: ReadFormat, device_id: str, known: Mapping[str, KnownArchive]
) -> str:
    """Return the name of the device's newest archive there. Raises `UnusableOption` for an unknown device."""
    if not device_id:
        raise UnusableOption(
            "which archive? name it with -o, as in -o local.name=NAME, or its device with --set deviceId=ID"
        )
    search = Search(OwnArchives(device_tag(device_id), known), lambda: datetime.now(UTC))
    found = find(destination, search, archives, Unlock())
    if found.note:
        sys.stderr.write(f"{found.note}\n")
    return found.name


def known_device(settings: Settings) -> tuple[str, Mapping[str, KnownArchive]]:
    """Return the device of the settings, else of the agent with this storage: its id, and its archives.

    The id is "" when nobody knows it; the archives are those that the journal knows.
    """
    device_id: str | None = settings.device_id
    known: Mapping[str, KnownArchive] = {}
    with suppress(JournalError), closing(JournalReader(journal_of(settings.storage))) as journal:
        device_id, known = device_id or last_id(journal.notes), journal.archives.known()
    return device_id or "", known


def _lines(manifest: Manifest | None) -> Iterator[str]:
    if manifest is None:
        yield "no manifest: the archive does not name its device"
        return
    counts = manifest.counts
    facts = {
        "device": manifest.device, "created": manifest.created, "agent": manifest.agent,
        "correlation id": manifest.correlation_id, "name": manifest.name, "description": manifest.description,
        "retention date": manifest.retention_date,
        "content": f"{counts.files} files, {counts.directories} directories, {counts.links} links,"
        f" {size_text(counts.bytes)}",
        "excluded": str(counts.excluded or ""),
        "skipped": ", ".join(f"{count} {reason}" for reason, count in manifest.reasons.items()),
    }  # fmt: skip
    for key, text in facts.items():
        if text:
            yield printable(f"{key:16}{text}")
    for source in manifest.sources:
        only = f": {', '.join(source.names)}" if source.names is not None else ""
        yield printable(f"{'source':16}{source.path}{only}")
    for item in manifest.unexportable:
        yield printable(f"{'skipped name':16}{item.name} ({item.reason})")
    if hidden := manifest.skipped - len(manifest.unexportable):
        yield f"{'':16}and {hidden} more"


def _line(item: Item, checksum: str | None) -> str:
    mode = stat.filemode(_KINDS[item.kind] | (item.mode or 0))
    return printable(f"{mode} {item.size:>12} {modified(item) or '':27} {checksum or '-':8} {item.name}")
