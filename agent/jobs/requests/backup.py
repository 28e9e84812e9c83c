"""The request for a backup, with the label that the archive gets."""

import re
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, ClassVar, Self

from pydantic import SecretStr

from agent.base.job import Label
from agent.base.refusals import Reason, Refused
from agent.base.times import parse_milliseconds, parse_rfc3339
from agent.formats.archive_names import MAX_NAME_LETTERS
from agent.jobs.requests.options import Key, Options, Selection, backup_selection, invalid_option
from agent.jobs.requests.raw import RawRequest, Request
from agent.jobs.requests.storage import StorageOptions, read_storage, store_storage
from agent.settings import Settings
from agent.settings.schedules import schedule_of

MAX_DESCRIPTION_LETTERS = 1000
_NAME = re.compile(rf"[A-Za-z0-9_-][A-Za-z0-9._-]{{0,{MAX_NAME_LETTERS - 1}}}")


@dataclass(frozen=True, slots=True, kw_only=True)
class BackupRequest(Request):
    """A backup; the settings complete it."""

    operation: ClassVar[str] = "backup"

    correlation_id: str = ""
    selection: Selection = field(default_factory=Selection)
    destination: StorageOptions | None = None
    """None to stage the archive for an upload, or to write it to `output`."""
    output: str = ""
    """A file of the device that the archive is written to."""
    label: Label = field(default_factory=Label)
    passcode: SecretStr | None = None
    skip_unchanged: bool | None = None
    """None leaves it to the settings."""
    level: str | None = None
    """The compression of the archive; None leaves it to the settings."""
    passed_on: dict[str, str] = field(default_factory=dict)
    """Options for the upload request."""
    schedule: str = ""
    """The schedule that asks for it; empty for a command."""

    def facts(self) -> dict[str, Any]:
        """Return the facts that the history has as soon as the backup begins."""
        facts = self.destination.facts() if self.destination else {}
        return facts | ({"schedule": self.schedule} if self.schedule else {})

    @classmethod
    def read(cls, raw: RawRequest, settings: Settings) -> Self:
        options = raw.options
        destination = read_storage(options, settings, Key.BACKUP_STORE)
        if raw.output and destination:
            raise Refused(Reason.INVALID, "give an output file, or another destination, not both")
        return cls(
            correlation_id=raw.correlation_id,
            selection=backup_selection(options),
            destination=destination,
            output=raw.output,
            label=read_label(options, datetime.now(UTC)),
            passcode=options.passcode(Key.BACKUP_PASSCODE, settings.encryption.min_passcode),
            skip_unchanged=options.switch(Key.SKIP_UNCHANGED),
            passed_on=options.prefixed("options."),
        )


def scheduled_request(settings: Settings, name: str, store: str, correlation_id: str) -> BackupRequest:
    """Return the request for one backup of a schedule at one of its stores. Raises `Refused`."""
    schedule = schedule_of(settings, name)
    return BackupRequest(
        correlation_id=correlation_id,
        schedule=name,
        selection=Selection(schedule.dir or None, schedule.data_sets or None),
        destination=store_storage(settings, store) if store else None,
        label=Label(schedule.name),
        level=schedule.level or None,
    )


def read_label(options: Options, now: datetime) -> Label:
    """Return the label in a backup's options. Raises `Refused`, also for a retention date before `now`."""
    name, description = options.text(Key.NAME) or "", options.text(Key.DESCRIPTION) or ""
    if name and not _NAME.fullmatch(name):
        letters = "letters (A-Z, a-z), digits, '.', '_' and '-'"
        raise invalid_option(Key.NAME, f"must be 1 to {MAX_NAME_LETTERS} {letters}, and not begin with a dot")
    if len(description) > MAX_DESCRIPTION_LETTERS:
        raise invalid_option(Key.DESCRIPTION, f"must not have more than {MAX_DESCRIPTION_LETTERS} characters")
    return Label(name, description, _retention_date(options.text(Key.RETENTION_DATE), now))


def _retention_date(text: str | None, now: datetime) -> datetime | None:
    if text is None:
        return None
    try:
        when = parse_milliseconds(text) or parse_rfc3339(text)
    except ValueError as error:
        expected = "must be milliseconds since 1970, or an RFC 3339 time such as '2027-01-31T12:00:00Z'"
        raise invalid_option(Key.RETENTION_DATE, expected) from error
    if when <= now:
        raise invalid_option(Key.RETENTION_DATE, "must be in the future")
    return when
