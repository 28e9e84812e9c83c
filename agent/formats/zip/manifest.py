"""What an archive says of itself: who made it, when, of what, and what is not in it.

The manifest is a block of its own between the last entry and the central directory. Readers of ZIP find the
directory by the end record and the entries by the directory, so for them it is not there
(docs/decisions/0012-manifest.md). Its layout, with numbers in little-endian:

    8   magic "EdgeMnf1"
    4   length n of the JSON
    n   the JSON, in UTF-8
    4   CRC-32 of the JSON
    4   n again
    8   the magic again; the central directory follows
"""

import json
import os
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic.alias_generators import to_camel

from agent.base.errors import ManifestBroken, NewerFormat
from agent.base.job import format_time
from agent.base.label import Label
from agent.base.roots import Root
from agent.base.text import printable
from agent.formats.walk_report import Report
from agent.formats.zip.deflate import crc32
from agent.formats.zip.listing import ReadAt

FORMAT = 1
"""Of archives. It goes up when an older agent would restore one wrongly, or not see that it must not."""
MAX_BYTES = 256 << 10
_SOURCES_BYTES, _LISTED_BYTES = 64 << 10, 128 << 10

_MAGIC = b"EdgeMnf1"
_HEAD, _TAIL = struct.Struct("<8sL"), struct.Struct("<LL8s")
_Count = Annotated[int, Field(ge=0)]


class _Part(BaseModel):
    # Fields of later agents are passed over: what must not be passed over comes with a higher format.
    model_config = ConfigDict(
        frozen=True, strict=True, extra="ignore", alias_generator=to_camel, populate_by_name=True
    )


Item = TypeVar("Item", bound=_Part)


class Source(_Part):
    """A directory, or some of it, that was saved."""

    path: str
    prefix: str = ""
    """What names of the archive begin with that come from there."""
    names: list[str] | None = None
    """Only these; None for everything."""


class Counts(_Part):
    files: _Count = 0
    directories: _Count = 0
    links: _Count = 0
    bytes: _Count = 0
    """Content of the files, unpacked."""
    excluded: _Count = 0
    """What patterns passed over; a directory counts once."""


class LeftOut(_Part):
    name: str
    reason: str


class Manifest(_Part):
    """See `docs/architecture.md`, "The archive"."""

    format: int = FORMAT
    device: str
    agent: str
    created: str
    """When the backup began, as `format_time` writes it."""
    correlation_id: str
    name: str = ""
    description: str = ""
    retention_date: str = ""
    sources: list[Source] = []
    """None when a command collected what was saved."""
    counts: Counts = Counts()
    left_out: _Count = 0
    """How much is not in the archive as it was on the disk."""
    reasons: dict[str, _Count] = {}
    unexportable: list[LeftOut] = []
    """The first of what was left out."""

    def value(self) -> dict[str, Any]:
        """As it stands in the archive; what is empty is absent."""
        fields = self.model_dump(by_alias=True, exclude_defaults=True)
        return {"format": self.format, **fields}


@dataclass(frozen=True, slots=True)
class Origin:
    """What is known of an archive before it is made."""

    device: str
    agent: str
    created: datetime
    correlation_id: str
    label: Label
    sources: tuple[Root, ...]
    """Empty when a command collects what is saved."""

    def manifest(self, report: Report) -> Manifest:
        """The manifest of the archive that `report` tells of; long lists are cut, the counts are true."""
        return Manifest(
            device=self.device,
            agent=self.agent,
            created=format_time(self.created),
            correlation_id=self.correlation_id,
            sources=_first(map(_source, self.sources), _SOURCES_BYTES),
            counts=Counts(
                files=report.files,
                directories=report.directories,
                links=report.links,
                bytes=report.size_bytes,
                excluded=report.excluded,
            ),
            left_out=report.left_out,
            reasons=dict(sorted(report.reasons.items())),
            unexportable=_first(
                (LeftOut(name=name, reason=reason) for name, reason in report.unexportable), _LISTED_BYTES
            ),
            **self.label.facts(),
        )

    def block(self, report: Report) -> bytes:
        """The same as the bytes that stand in the archive."""
        data = _encoded(self.manifest(report).value())
        return _HEAD.pack(_MAGIC, len(data)) + data + _TAIL.pack(crc32(data, 0), len(data), _MAGIC)


def _source(root: Root) -> Source:
    names = None if root.names is None else sorted(map(printable, root.names))
    return Source(path=printable(os.fspath(root.directory)), prefix=printable(root.prefix), names=names)


def _first(items: Iterable[Item], budget_bytes: int) -> list[Item]:
    """As many as have room, from the beginning."""
    taken: list[Item] = []
    for item in items:
        budget_bytes -= len(_encoded(item.model_dump(by_alias=True))) + 1
        if budget_bytes < 0:
            break
        taken.append(item)
    return taken


def _encoded(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def read_manifest(read_at: ReadAt, end: int) -> Manifest | None:
    """The manifest of the archive whose central directory begins at `end`; None when it has none.

    Raises `ManifestBroken`, `NewerFormat` for an archive of a format that is not known here, and what
    `read_at` raises.
    """
    tail = read_at(max(0, end - _TAIL.size), min(end, _TAIL.size))
    if not tail.endswith(_MAGIC) or len(tail) < _TAIL.size:
        return None
    crc, size_bytes, _ = _TAIL.unpack(tail)
    begin = end - _TAIL.size - size_bytes - _HEAD.size
    if size_bytes > MAX_BYTES or begin < 0:
        raise ManifestBroken("the archive's manifest is damaged: it cannot have the length that it says")
    head = read_at(begin, _HEAD.size)
    data = read_at(begin + _HEAD.size, size_bytes)
    if head != _HEAD.pack(_MAGIC, size_bytes) or len(data) != size_bytes or crc32(data, 0) != crc:
        raise ManifestBroken("the archive's manifest is damaged: its checksum or its length is wrong")
    return _parsed(data)


def _parsed(data: bytes) -> Manifest:
    try:
        value = json.loads(data)
        number = value["format"]
        if isinstance(number, int) and number > FORMAT:
            known = f"this agent knows formats up to {FORMAT}: update the agent"
            raise NewerFormat(f"the archive has format {number}, and {known}")
        return Manifest.model_validate(value)
    except (ValueError, LookupError, TypeError, RecursionError, ValidationError) as error:
        raise ManifestBroken(
            "the archive's manifest is damaged: it is not what a manifest must be"
        ) from error
