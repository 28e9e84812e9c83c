"""The requests that read an archive: a restore, a verification."""

import os
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, ClassVar, Literal, Self, cast, get_args

from pydantic import SecretBytes, SecretStr

from agent.base.bech32 import decode_key
from agent.base.refusals import Reason, Refused
from agent.base.sources import ArchiveSource, Asked
from agent.base.text import printable
from agent.base.times import parse_moment
from agent.formats.archive_names import OwnArchives, archives_of
from agent.jobs.requests.options import Key, Options, Selection, invalid_option, restore_selection
from agent.jobs.requests.raw import RawRequest, Request
from agent.jobs.requests.storage import StorageOptions, named, read_storage, required
from agent.settings import Settings

if TYPE_CHECKING:
    from agent.restore.find import Search

RestoreMode = Literal["merge", "replace", "exact"]
ArchiveKey = SecretStr | SecretBytes
"""Opens an encrypted archive: a passcode, or a private key."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WantedArchive:
    """The description of an archive, for a request that names none: the newest one that fits is meant."""

    before: datetime | None = None
    """Made before this time."""
    directory: str = ""
    """Of this directory; empty for the one that is restored into."""
    device_id: str = ""
    """Of this device; empty for the one that restores."""

    @property
    def source(self) -> ArchiveSource | None:
        """Return the source to look for; None for any source."""
        return ArchiveSource(self.directory) if self.directory else None

    @property
    def is_described(self) -> bool:
        """Return True when the request says more than 'the newest archive of this device'."""
        return self != WantedArchive()

    def search(self, own: OwnArchives, source: Asked | None = None, *, emptied_percent: int = 0) -> "Search":
        """Return the search for it; `own` are the archives of this device, `source` None is any source."""
        from agent.restore.find import Search

        return Search(
            archives_of(self.device_id) if self.device_id else own,
            lambda: datetime.now(UTC),
            source,
            before=self.before,
            device_id=self.device_id,
            is_described=self.is_described,
            emptied_percent=emptied_percent,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class RestoreRequest(Request):
    """A restore, or a preview of one; the settings complete it."""

    operation: ClassVar[str] = "restore"

    correlation_id: str = ""
    source: StorageOptions
    wanted: WantedArchive = WantedArchive()
    selection: Selection = field(default_factory=Selection)
    key: ArchiveKey | None = None
    mode: RestoreMode = "merge"
    preview: bool = False
    foreign: bool | None = None
    """True to accept an archive of another device; None leaves it to the settings."""
    confirm_within_s: float | None = None
    """The time for the confirmation of a commit-confirmed restore; None for any other restore."""

    @classmethod
    def read(cls, raw: RawRequest, settings: Settings) -> Self:
        options = raw.options
        mode = options.text(Key.MODE) or "merge"
        if mode not in get_args(RestoreMode):
            raise invalid_option(Key.MODE, "must be 'merge', 'replace' or 'exact'")
        source = read_source(options, settings)
        return cls(
            correlation_id=raw.correlation_id,
            source=source,
            wanted=read_wanted(options, source),
            selection=restore_selection(options),
            key=read_key(options, settings.encryption.min_passcode),
            mode=cast(RestoreMode, mode),
            preview=options.switch(Key.PREVIEW) or False,
            foreign=options.switch(Key.FOREIGN),
            confirm_within_s=options.seconds(Key.CONFIRM_WITHIN),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifyRequest(Request):
    """A check of the archive that a restore would fetch."""

    operation: ClassVar[str] = "verify"

    correlation_id: str = ""
    source: StorageOptions
    wanted: WantedArchive = WantedArchive()
    key: ArchiveKey | None = None

    @classmethod
    def read(cls, raw: RawRequest, settings: Settings) -> Self:
        options = raw.options
        source = read_source(options, settings)
        return cls(
            correlation_id=raw.correlation_id,
            source=source,
            wanted=read_wanted(options, source),
            key=read_key(options, settings.encryption.min_passcode),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ArchivesRequest(Request):
    """Asks which archives of a device a store has, newest first."""

    operation: ClassVar[str] = "archives"

    source: StorageOptions
    device_id: str = ""
    """Empty for this device."""
    after: str = ""
    """The name of an archive, to ask for older ones."""
    details: bool = False
    """True to read the manifest of each archive."""

    @classmethod
    def read(cls, raw: RawRequest, settings: Settings) -> Self:
        options = raw.options
        return cls(
            source=read_source(options, settings),
            device_id=options.text(Key.FROM_DEVICE) or "",
            after=options.text("archives.after") or "",
            details=options.switch("archives.details") or False,
        )


def read_source(options: Options, settings: Settings) -> StorageOptions:
    """Read the destination and the archive there that the options name. Raises `Refused`."""
    source = required(read_storage(options, settings, Key.RESTORE_STORE), settings)
    keys = (Key.RESTORE_PASSCODE, Key.RESTORE_IDENTITY)
    if source.repository and (given := next(filter(options.text, keys), None)):
        raise invalid_option(given, f"is for archives; store '{source.store}' keeps a repository")
    return named(source, options.text(Key.ARCHIVE))


def read_wanted(options: Options, source: StorageOptions) -> WantedArchive:
    """Read the description of an archive. Raises `Refused`, also for one beside the name of an archive."""
    for key in (Key.BEFORE, Key.SOURCE):
        if options.text(key) and source.names_one:
            raise invalid_option(key, "chooses among archives, and the request names one: leave one out")
    return WantedArchive(
        before=_time(options), directory=_directory(options), device_id=options.text(Key.FROM_DEVICE) or ""
    )


def _time(options: Options) -> datetime | None:
    try:
        return parse_moment(options.text(Key.BEFORE))
    except ValueError as error:
        raise invalid_option(Key.BEFORE, str(error), ": ") from error


def _directory(options: Options) -> str:
    directory = options.text(Key.SOURCE)
    if directory is None:
        return ""
    if not directory.startswith("/"):
        raise invalid_option(Key.SOURCE, "must be the absolute path of the directory that was saved")
    if options.text(Key.RESTORE_DATA_TYPES):
        raise invalid_option(Key.SOURCE, f"is for a directory; '{Key.RESTORE_DATA_TYPES}' names data sets")
    return printable(os.path.normpath(directory))


def read_key(options: Options, least_characters: int) -> ArchiveKey | None:
    """Read the passcode or the private key; None when the options have neither. Raises `Refused`."""
    passcode = options.passcode(Key.RESTORE_PASSCODE, least_characters)
    private_key = _private_key(options.text(Key.RESTORE_IDENTITY))
    if passcode is not None and private_key is not None:
        message = f"give option '{Key.RESTORE_PASSCODE}' or '{Key.RESTORE_IDENTITY}', not both"
        raise Refused(Reason.INVALID, message)
    return private_key if passcode is None else passcode


def _private_key(text: str | None) -> SecretBytes | None:
    if text is None:
        return None
    try:
        return SecretBytes(decode_key(_only_key(text), "AGE-SECRET-KEY-"))
    except ValueError as error:
        raise invalid_option(Key.RESTORE_IDENTITY, str(error), ": ") from error


def _only_key(text: str) -> str:
    """Return the key in a file of `age-keygen`, which has comments. Raises ValueError for several keys."""
    lines = (line.strip() for line in text.splitlines())
    keys = [line for line in lines if line and not line.startswith("#")]
    if len(keys) > 1:
        raise ValueError("expected one key, without those that do not open the archive")
    return keys[0] if keys else ""
