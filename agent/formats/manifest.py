"""The manifest of an archive: who made the archive, when, of what, and what is not in it."""

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from stat import S_IMODE
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from agent.base.errors import ManifestBroken, NewerFormat
from agent.base.job import Label
from agent.base.patterns import PatternLists, check_patterns
from agent.base.roots import Root
from agent.base.text import printable
from agent.base.times import format_time
from agent.formats.walk_report import Report, Top

FORMAT = 1
"""The version of archives. It goes up when an older agent would restore one wrongly."""
MAX_BYTES = 256 << 10
"""The most bytes of JSON; a larger block is no manifest."""
_SOURCES_BYTES, _LISTED_BYTES, _TOP_BYTES = 64 << 10, 128 << 10, 48 << 10
_EXCLUDE_BYTES = 100 << 10
"""Taken from the room of the entries that are listed."""

_FARTHEST_NS = (1 << 63) * 10**9
"""The farthest time in 64 bits of seconds, as in `time_t`; file systems keep years after 2261, too."""

_Count = Annotated[int, Field(ge=0)]


_KEYS = {
    "correlation_id": "correlationId",
    "retention_date": "retentionDate",
    "skipped": "leftOut",
    "mtime_ns": "mtimeNs",
}
"""Keys on the disk of fields with another name. A renamed field keeps its key."""


def _key(field: str) -> str:
    return _KEYS.get(field, field)


def _checked(patterns: list[str]) -> list[str]:
    return list(check_patterns(patterns))


class _Part(BaseModel):
    # Unknown fields of later agents are ignored: one that must not be ignored comes with a higher format.
    model_config = ConfigDict(
        frozen=True,
        strict=True,
        extra="ignore",
        alias_generator=_key,
        populate_by_name=True,
        defer_build=True,
    )


P = TypeVar("P", bound=_Part)


class ManifestRoot(_Part):
    """A directory, or some names in it, that was saved."""

    path: str
    prefix: str = ""
    """The beginning of its names in the archive."""
    names: list[str] | None = None
    """The names that were saved; None for everything."""


class Counts(_Part):
    files: _Count = 0
    directories: _Count = 0
    links: _Count = 0
    bytes: _Count = 0
    """Content of the files, unpacked."""
    excluded: _Count = 0
    """Entries that patterns passed over; a directory counts once."""


class Skipped(_Part):
    name: str
    reason: str


class SavedDirectory(_Part):
    """The saved directory itself, which has no entry in the archive."""

    mode: Annotated[int, Field(ge=0, le=0o7777)]
    uid: Annotated[int, Field(ge=0, lt=0xFFFF_FFFF)]
    gid: Annotated[int, Field(ge=0, lt=0xFFFF_FFFF)]
    mtime_ns: Annotated[int, Field(gt=-_FARTHEST_NS, lt=_FARTHEST_NS)]
    xattrs: list[Annotated[str, Field(pattern="^([0-9a-f]{2})*$")]] = []
    """Extended attributes: name, NUL and value of each, in hexadecimal digits."""

    def attributes(self) -> dict[str, bytes]:
        parts = (bytes.fromhex(text).partition(b"\0") for text in self.xattrs)
        return {os.fsdecode(name): value for name, _, value in parts if name}


class Manifest(_Part):
    """See `docs/architecture.md`, "The archive"."""

    format: int = FORMAT
    device: str
    agent: str
    created: str
    """When the backup began, as `format_time` writes it."""
    ended: str = ""
    """When it had read everything; empty in archives of earlier agents."""
    correlation_id: str
    name: str = ""
    description: str = ""
    retention_date: str = ""
    sources: list[ManifestRoot] = []
    """Empty when a command collected the content."""
    counts: Counts = Counts()
    skipped: _Count = 0
    """Number of entries that are not in the archive as they were on the disk."""
    reasons: dict[str, _Count] = {}
    unexportable: list[Skipped] = []
    """The first skipped entries."""
    exclude: dict[str, list[Annotated[list[str], AfterValidator(_checked)]]] = {}
    """Lists of patterns by data set; a directory has the name "". Matching entries were passed over."""
    root: SavedDirectory | None = None
    """None when a command collected the content, and for data sets, whose directories have entries."""

    def value(self) -> dict[str, Any]:
        """Return the JSON value of the archive; empty fields are absent."""
        fields = self.model_dump(by_alias=True, exclude_defaults=True)
        return {"format": self.format, **fields}

    def to_json(self) -> bytes:
        return _encoded(self.value())

    @classmethod
    def from_json(cls, data: bytes) -> "Manifest":
        """Raises `ManifestBroken`, and `NewerFormat` for an archive of a later format."""
        try:
            value = json.loads(data)
            number = value["format"]
            if isinstance(number, int) and number > FORMAT:
                known = f"this agent knows formats up to {FORMAT}: update the agent"
                raise NewerFormat(f"the archive has format {number}, and {known}")
            return cls.model_validate(value)
        except (ValueError, LookupError, TypeError, RecursionError, ValidationError) as error:
            raise ManifestBroken(
                "the archive's manifest is damaged: it is not what a manifest must be"
            ) from error


@dataclass(frozen=True, slots=True)
class Origin:
    """The facts of an archive that are known before it is made."""

    device: str
    agent: str
    created: datetime
    correlation_id: str
    label: Label
    sources: tuple[Root, ...]
    """Empty when a command collects the content."""
    exclude: Mapping[str, PatternLists] = field(default_factory=dict)
    """By data set."""

    def manifest(self, report: Report) -> Manifest:
        """Return the manifest for this report; long lists are cut, counts are complete."""
        exclude = self.excluded_names()
        room_bytes = _LISTED_BYTES - len(_encoded(exclude))
        return Manifest(
            device=self.device,
            agent=self.agent,
            created=format_time(self.created),
            correlation_id=self.correlation_id,
            sources=_first(map(manifest_root, self.sources), _SOURCES_BYTES),
            counts=Counts(
                files=report.files,
                directories=report.directories,
                links=report.links,
                bytes=report.size_bytes,
                excluded=report.excluded,
            ),
            skipped=report.skipped,
            reasons=dict(sorted(report.reasons.items())),
            unexportable=_first(
                (Skipped(name=name, reason=reason) for name, reason in report.unexportable), room_bytes
            ),
            exclude=exclude,
            root=_saved(report.top) if report.top and self.sources else None,
            **self.label.facts(),
        )

    def excluded_names(self) -> dict[str, list[list[str]]]:
        """Return the patterns; none when there is no room for all: a part would mean something else."""
        lists = {name: [list(each) for each in given if each] for name, given in self.exclude.items()}
        lists = {name: given for name, given in lists.items() if given}
        return lists if len(_encoded(lists)) <= _EXCLUDE_BYTES else {}


def _saved(top: Top) -> SavedDirectory:
    """Return the facts of the saved directory; attributes that have no room are dropped."""
    room_bytes, xattrs = _TOP_BYTES, []
    for name, value in top.xattrs.items():
        text = (os.fsencode(name) + b"\0" + value).hex()
        room_bytes -= len(text) + 3
        if room_bytes >= 0:
            xattrs.append(text)
    stat = top.stat
    return SavedDirectory(
        mode=S_IMODE(stat.st_mode),
        uid=stat.st_uid,
        gid=stat.st_gid,
        mtime_ns=stat.st_mtime_ns,
        xattrs=xattrs,
    )


def manifest_root(root: Root) -> ManifestRoot:
    names = None if root.names is None else sorted(map(printable, root.names))
    return ManifestRoot(path=printable(os.fspath(root.directory)), prefix=printable(root.prefix), names=names)


def _first(items: Iterable[P], budget_bytes: int) -> list[P]:
    taken: list[P] = []
    for item in items:
        budget_bytes -= len(_encoded(item.model_dump(by_alias=True))) + 1
        if budget_bytes < 0:
            break
        taken.append(item)
    return taken


def _encoded(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()
