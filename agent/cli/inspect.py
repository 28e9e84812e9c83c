"""`edge-backup inspect` and `extract`: the manifest and the entries of an archive, and one file of it.

Both need no agent, except for a store whose credentials only the service has. Of an archive in a store only
the parts that are needed are fetched.
"""

import argparse
import os
import stat
import sys
from collections.abc import Iterator

from agent.base.sources import DeviceFile
from agent.base.text import counted
from agent.cli.local import local_parser, write_value
from agent.cli.opened import look_into
from agent.faces.http.api.archive_tree import file_at, item_facts, modified
from agent.formats.base import ListedTree
from agent.formats.entries import EntryKind, Item
from agent.formats.manifest import Manifest
from agent.send.progress import size_text
from agent.transfer.cancel import CancelToken

_KINDS = {EntryKind.FILE: stat.S_IFREG, EntryKind.DIR: stat.S_IFDIR, EntryKind.LINK: stat.S_IFLNK}


def inspect(argv: list[str]) -> int:
    """Print the manifest of an archive, and with `--files` its directory."""
    parser = local_parser("inspect", "Show the manifest of an archive, without a restore.")
    parser.usage = "edge-backup inspect [FILE] [--store NAME [--archive NAME]] [--files] [--json] ..."
    parser.add_argument("--files", action="store_true", help="also list the entries")
    return look_into(parser, argv, _inspect)


def _inspect(tree: ListedTree, parsed: argparse.Namespace) -> None:
    manifest = tree.manifest()
    write_value({"manifest": manifest and manifest.value()}, _lines(manifest), as_json=parsed.json)
    for item in tree.items() if parsed.files else ():
        checksum = tree.checksum(item)
        write_value(item_facts(item, checksum), [_line(item, checksum)], as_json=parsed.json)


def extract(argv: list[str]) -> int:
    """Write one file of an archive to standard output; after damage what was written is not the file."""
    parser = local_parser("extract", "Write one file of an archive to standard output.")
    parser.usage = "edge-backup extract PATH [FILE] [--store NAME [--archive NAME]] ..."
    parser.add_argument("path", metavar="PATH", help="its name in the archive, or its path on the device")
    return look_into(parser, argv, _extract, asked=_asked)


def _asked(parsed: argparse.Namespace) -> DeviceFile | None:
    return DeviceFile(os.path.normpath(parsed.path)) if os.path.isabs(parsed.path) else None


def _extract(tree: ListedTree, parsed: argparse.Namespace) -> None:
    item = file_at(tree, _name_in(tree.manifest(), parsed.path), CancelToken())
    tree.read(item, sys.stdout.buffer.write)


def _name_in(manifest: Manifest | None, path: str) -> str:
    """Return the archived name of a path on the device; other paths are names already."""
    path = os.path.normpath(path)
    for source in manifest.sources if manifest else ():
        name = path.removeprefix(f"{source.path.rstrip('/')}/")
        if name != path:
            return f"{source.prefix}/{name}".strip("/")
    return path


def _lines(manifest: Manifest | None) -> Iterator[str]:
    if manifest is None:
        yield "no manifest: the archive does not name its device"
        return
    counts = manifest.counts
    facts = {
        "device": manifest.device, "created": manifest.created, "agent": manifest.agent,
        "correlation id": manifest.correlation_id, "name": manifest.name, "description": manifest.description,
        "retention date": manifest.retention_date,
        "content": f"{counted(counts.files, 'file')},"
        f" {counted(counts.directories, 'directory', 'directories')}, {counted(counts.links, 'link')},"
        f" {size_text(counts.bytes)}",
        "excluded": str(counts.excluded or ""),
        "skipped": ", ".join(f"{count} {reason}" for reason, count in manifest.reasons.items()),
    }  # fmt: skip
    for key, text in facts.items():
        if text:
            yield f"{key:16}{text}"
    for source in manifest.sources:
        only = f": {', '.join(source.names)}" if source.names is not None else ""
        yield f"{'source':16}{source.path}{only}"
    for item in manifest.unexportable:
        yield f"{'skipped name':16}{item.name} ({item.reason})"
    if hidden := manifest.skipped - len(manifest.unexportable):
        yield f"{'':16}and {hidden} more"


def _line(item: Item, checksum: str | None) -> str:
    mode = stat.filemode(_KINDS[item.kind] | (item.mode or 0))
    return f"{mode} {item.size:>12} {modified(item) or '':27} {checksum or '-':8} {item.name}"
