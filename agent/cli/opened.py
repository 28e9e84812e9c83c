"""An archive that a command looks into: in a file, in a store by ranges, or as the running agent reads it."""

import argparse
import json
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path
from typing import Any

from agent.base.errors import JobError
from agent.base.refusals import Reason, Refused
from agent.base.sources import DeviceFile, KnownArchive
from agent.base.text import printable
from agent.base.times import parse_time
from agent.cli import OUTPUT_LOST, settings_of
from agent.cli.api_client import Agent, AgentRefused, NotAnswered, Value, in_path, on_this_device
from agent.cli.follow import add_archive_options, add_options, archive_options_of, options_of
from agent.cli.local import EXIT_OK, EXIT_REFUSED, EXIT_USAGE, parsed_with_settings
from agent.faces.unix_address import http_socket
from agent.formats.archive_file import open_archive
from agent.formats.archive_names import ALL_ARCHIVES, OwnArchives, device_tag
from agent.formats.base import ListedTree, Unlock
from agent.formats.entries import EntryKind, Item
from agent.formats.manifest import Manifest
from agent.jobs.admission import Admission
from agent.jobs.device import last_id
from agent.jobs.formats import read_format, unlock_for
from agent.jobs.requests.options import Key, Options
from agent.jobs.requests.raw import read_raw
from agent.jobs.requests.restore import read_key, read_source, read_wanted
from agent.jobs.requests.storage import read_storage
from agent.jobs.staging import journal_of
from agent.journal import JournalError, JournalReader
from agent.restore.find import find
from agent.send.options import UnusableOption
from agent.settings import Settings
from agent.transfer.connections import Connections
from providers.api import Capability
from providers.errors import StorageError

MOST_IN_A_PAGE = 500


def look_into(
    parser: argparse.ArgumentParser,
    argv: list[str],
    show: Callable[[ListedTree, argparse.Namespace], None],
    *,
    asked: Callable[[argparse.Namespace], DeviceFile | None] = lambda _: None,
) -> int:
    """Open the archive that the arguments mean, and `show` it: the exit status.

    `asked` returns the file that the newest archive has to hold, if the arguments say that.
    """
    add_archive_options(parser)
    add_options(parser)
    parser.add_argument("file", nargs="?", type=Path, metavar="FILE", help="the archive, if in a file")
    parsed = parsed_with_settings(parser, argv)
    loaded = settings_of(parsed)
    if loaded is None:
        return EXIT_USAGE
    try:
        with _opened(parsed, loaded.settings, asked(parsed)) as tree:
            show(tree, parsed)
    except UnusableOption as error:
        sys.stderr.write(f"{error}\n")
        return EXIT_USAGE
    except (Refused, JobError, StorageError, AgentRefused, NotAnswered) as error:
        sys.stderr.write(f"{printable(str(error))}\n")
        return EXIT_REFUSED
    except OSError as error:
        if error.errno in OUTPUT_LOST:
            raise
        sys.stderr.write(f"'{parsed.file or error.filename}' cannot be read: {error.strerror}\n")
        return EXIT_REFUSED
    return EXIT_OK


@contextmanager
def _opened(parsed: argparse.Namespace, settings: Settings, asked: DeviceFile | None) -> Iterator[ListedTree]:
    path: Path | None = parsed.file
    options = read_raw("restore", {"options": options_of(parsed, archive_options_of(parsed))}).options
    unlock = unlock_for(read_key(options, settings.encryption.min_passcode), settings.encryption)
    if path is None:
        with ExitStack() as stack:
            try:
                tree: ListedTree = stack.enter_context(_at_store(options, settings, unlock, asked))
            except Refused as refused:
                tree = _by_agent(options, settings, refused)
            yield tree
        return
    if parsed.store or read_storage(options, settings, Key.RESTORE_STORE):
        raise UnusableOption("give a file or a destination, not both")
    with path.open("rb") as file:
        yield open_archive(file, unlock)


@contextmanager
def _at_store(
    options: Options, settings: Settings, unlock: Unlock, asked: DeviceFile | None
) -> Iterator[ListedTree]:
    """Yield the archive that the options mean. Raises `Refused`, `JobError` and `StorageError`."""
    source = read_source(options, settings)
    wanted = read_wanted(options, source)
    connections = Connections(settings.transfer.connect_timeout.total_seconds())
    device_id, known = known_device(settings)
    destination = Admission(settings).source(source, connections, wanted.device_id or device_id)
    storage = destination.storage
    with closing(connections), closing(storage):
        if Capability.READ_RANGE not in storage.capabilities:
            raise UnusableOption(
                "this provider cannot read a part of an archive: fetch the archive, and inspect the file"
            )
        if not (destination.name or device_id or wanted.device_id):
            raise UnusableOption("which archive? name it with --archive, or its device with --from-device")
        own = OwnArchives(device_tag(device_id), known) if device_id else ALL_ARCHIVES
        archives = read_format(source, settings)
        found = find(destination, wanted.search(own, wanted.source or asked), archives, unlock)
        if found.note:
            sys.stderr.write(f"{printable(found.note)}\n")
        yield archives.open(destination, found.name, unlock)


def _by_agent(options: Options, settings: Settings, refused: Refused) -> ListedTree:
    """Return the archive as the agent of these settings opens it, which may have credentials of its own.

    Raises `refused` where no agent answers, and for a destination that no store names.
    """
    if not options.text(Key.RESTORE_STORE):
        raise refused
    try:
        return opened_by(on_this_device(http_socket(settings), settings.storage), options)
    except NotAnswered:
        raise refused from None


def known_device(settings: Settings) -> tuple[str, Mapping[str, KnownArchive]]:
    """Return the device of the settings, else of the agent with this storage: its id, and its archives.

    The id is "" when nobody knows it; the archives are those that the journal knows.
    """
    device_id: str | None = settings.device_id
    known: Mapping[str, KnownArchive] = {}
    with suppress(JournalError), closing(JournalReader(journal_of(settings.storage))) as journal:
        device_id, known = device_id or last_id(journal.notes), journal.archives.known()
    return device_id or "", known


class AgentTree:
    """An archive in a store, read over the API of the agent.

    Methods raise `AgentRefused` and `NotAnswered`, and `ManifestBroken` as `Manifest.from_json`.
    """

    def __init__(self, agent: Agent, store: str, name: str, handle: str) -> None:
        """`handle` stands for the key of an encrypted archive; "" for none."""
        self._agent, self._path = agent, f"/archives/{in_path(store)}/{in_path(name)}"
        self._query = {"handle": handle} if handle else {}

    def manifest(self) -> Manifest | None:
        value = self._agent.get(self._path, **self._query)["manifest"]
        return Manifest.from_json(json.dumps(value).encode()) if value else None

    def items(self) -> Iterator[Item]:
        after: int | None = 0
        while after is not None:
            page = self._agent.get(
                f"{self._path}/files", deep="true", after=after, limit=MOST_IN_A_PAGE, **self._query
            )
            yield from map(_item, page["entries"])
            after = page.get("next")

    def checksum(self, item: Item) -> str | None:
        text: str | None = item.location
        return text

    def read(self, item: Item, write: Callable[[bytes], object]) -> None:
        self._agent.download(f"{self._path}/files/content", {"path": item.name, **self._query}, write)


def opened_by(agent: Agent, options: Options) -> AgentTree:
    """Return the archive that the options name, as the agent opens it. Raises `Refused` and `NotAnswered`."""
    try:
        store = options.text(Key.RESTORE_STORE) or ""
        name = options.text(Key.ARCHIVE) or _newest(agent, store, options)
        secrets = {"passcode": Key.RESTORE_PASSCODE, "identity": Key.RESTORE_IDENTITY}
        key = {member: text for member, option in secrets.items() if (text := options.text(option))}
        opening = {"name": name, **key}
        handle = agent.post(f"/archives/{in_path(store)}/open", opening)["handle"] if key else ""
        return AgentTree(agent, store, name, handle)
    except AgentRefused as refused:
        raise Refused(Reason.CANNOT, str(refused)) from refused


def _newest(agent: Agent, store: str, options: Options) -> str:
    if options.text(Key.BEFORE) or options.text(Key.SOURCE):
        raise Refused(Reason.INVALID, "name the archive with --archive: 'edge-backup archives' lists them")
    device = options.text(Key.FROM_DEVICE) or ""
    found: list[Mapping[str, Any]] = agent.get("/archives", store=store, limit=1, device=device)["archives"]
    if not found:
        raise Refused(Reason.NOT_FOUND, f"store '{store}' has no archive of this device")
    return str(found[0]["name"])


def _item(facts: Value) -> Item:
    mode, modified = facts.get("mode"), facts.get("modified")
    time = parse_time(modified) if modified else None
    return Item(
        name=facts["name"],
        kind=EntryKind(facts["kind"]),
        mode=None if mode is None else int(mode, 8),
        mtime_ns=None if time is None else round(time.timestamp() * 1_000_000) * 1000,
        uid=facts.get("uid"),
        gid=facts.get("gid"),
        size=facts["sizeBytes"],
        packed_size=facts.get("compressedBytes", 0),
        xattrs={},
        hard_link_to=facts.get("hardLinkTo"),
        location=facts.get("crc32"),
    )
