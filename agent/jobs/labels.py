"""The options `backup.name`, `backup.description` and `backup.retentionDate` of a command, checked."""

import re
from datetime import UTC, datetime, timedelta

from agent.base.label import Label
from agent.base.refusals import Reason, Refused
from agent.base.times import parse_rfc3339
from agent.formats.archive_names import MAX_NAME_LETTERS
from agent.jobs.requests import DESCRIPTION, NAME, RETENTION_DATE, Parameters

MAX_DESCRIPTION_LETTERS = 1000
_NAME = re.compile(rf"[A-Za-z0-9_-][A-Za-z0-9._-]{{0,{MAX_NAME_LETTERS - 1}}}")
_MILLISECONDS = re.compile(r"[0-9]{1,15}")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def read_label(parameters: Parameters, now: datetime) -> Label:
    """What the backup is labelled with. Raises `Refused`, also for a retention date before `now`."""
    options = parameters.options
    name, description = options.get(NAME, ""), options.get(DESCRIPTION, "")
    if name and not _NAME.fullmatch(name):
        letters = "letters (A-Z, a-z), digits, '.', '_' and '-'"
        raise _invalid(NAME, f"must be 1 to {MAX_NAME_LETTERS} {letters}, and not begin with a dot")
    if len(description) > MAX_DESCRIPTION_LETTERS:
        raise _invalid(DESCRIPTION, f"must not have more than {MAX_DESCRIPTION_LETTERS} characters")
    return Label(name, description, _retention_date(options.get(RETENTION_DATE), now))


def _retention_date(text: str | None, now: datetime) -> datetime | None:
    if text is None:
        return None
    try:
        when = (
            _EPOCH + timedelta(milliseconds=int(text))
            if _MILLISECONDS.fullmatch(text)
            else parse_rfc3339(text)
        )
    except (ValueError, OverflowError) as error:
        expected = "must be milliseconds since 1970, or an RFC 3339 time such as '2027-01-31T12:00:00Z'"
        raise _invalid(RETENTION_DATE, expected) from error
    if when <= now:
        raise _invalid(RETENTION_DATE, "must be in the future")
    return when


def _invalid(option: str, problem: str) -> Refused:
    return Refused(Reason.INVALID, f"option '{option}' {problem}")
