"""What became of the jobs that ended: the questions `history` and `describe`, answered from the journal.

An entry is found by its own id or by the correlation id that the backend gave it, the newest of those.
"""

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic.alias_generators import to_camel

from agent.base.job import Kind, State
from agent.base.refusals import Reason, Refused
from agent.base.text import printable
from agent.jobs.queries.fitting import shortened, with_texts_cut
from agent.jobs.queries.skipped import LeftOut
from agent.jobs.requests import Parameters
from agent.journal import Journal
from agent.mqtt.envelope import encode

_COLUMNS = "id, kind, correlation_id, started, ended, state, status_code, message, directory, facts"
_ENDED = {"finished": State.FINISHED, "failed": State.FAILED}
_IN_LISTS = (
    "id", "correlationId", "kind", "state", "statusCode", "endTime", "name", "archiveBytes", "unexportable",
)  # fmt: skip
_TEXTS = ("message", "description", "directory", "place")
_OF_THE_LAST = ("id", "correlationId", "kind", "state", "startTime", "endTime", "statusCode", "message")


class History:
    """Belongs to the main thread."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal

    def history(self, parameters: Parameters, room_bytes: int) -> Mapping[str, Any]:
        """Ended jobs, newest first, as many as fit: `{"entries": […], "next": <id>}`.

        `next` is there when older ones are left; given back as option `history.before`, it continues.
        Raises `Refused` (NOT_FOUND) when there is no such entry.
        """
        before = parameters.options.get("history.before")
        entries: list[dict[str, Any]] = []
        left_bytes = room_bytes - len(encode({"entries": entries, "next": "0" * 16}))
        for entry in self._entries(before):
            shown = {key: entry[key] for key in _IN_LISTS if entry.get(key, "") != ""}
            left_bytes -= len(encode(shown)) + len(",")
            if entries and left_bytes < 0:
                return {"entries": entries, "next": entries[-1]["id"]}
            entries.append(shown)
        return {"entries": entries}

    def describe(self, parameters: Parameters, room_bytes: int) -> Mapping[str, Any]:
        """All that is known of one job. Raises `Refused` (NOT_FOUND)."""
        entry = next(self._found(parameters.correlationid), None)
        if entry is None:
            raise _unknown(parameters.correlationid)
        if left_out := LeftOut(self._journal).names(entry["id"]):
            entry = shortened(entry | {"leftOut": left_out}, ("leftOut",), room_bytes)
        return with_texts_cut(entry, _TEXTS, room_bytes)

    def last(self, room_bytes: int) -> Mapping[str, Any] | None:
        """How the newest job ended, in at most so many bytes of JSON; None when there was none."""
        entry = next(self._entries(None), None)
        return entry and with_texts_cut({key: entry[key] for key in _OF_THE_LAST}, _TEXTS, room_bytes)

    def newest(self) -> list[dict[str, Any]]:
        """The newest ended job of each kind, the newest of these first."""
        rows = self._journal.read(
            f"SELECT {_COLUMNS} FROM jobs WHERE rowid IN"  # noqa: S608
            " (SELECT max(rowid) FROM jobs WHERE state != :started GROUP BY kind) ORDER BY rowid DESC",
            {"started": State.STARTED},
        )
        return list(map(_entry, rows))

    def content_bytes(self, directory: Path) -> int | None:
        """How much the last backup of this directory held; None when none is known."""
        return self.last_size("content_bytes", directory)

    def last_size(self, fact: str, directory: Path | None = None) -> int | None:
        """A fact in bytes of the newest good backup that has it, of this directory or of any."""
        row = self._journal.read(
            "SELECT json_extract(facts, '$.' || :fact) AS size FROM jobs"
            " WHERE kind = :backup AND state = :finished AND size IS NOT NULL"
            " AND (directory = :directory OR :directory IS NULL) ORDER BY rowid DESC LIMIT 1",
            {
                "fact": fact,
                "backup": Kind.BACKUP,
                "finished": State.FINISHED,
                "directory": None if directory is None else os.fsencode(directory),
            },
        ).fetchone()
        return int(row[0]) if row else None

    def knows_archive(self, name: str) -> bool:
        """Whether a job that is still remembered made an archive of this name."""
        rows = self._journal.read(
            "SELECT 1 FROM jobs WHERE json_extract(facts, '$.archive') = :name", {"name": name}
        )
        return rows.fetchone() is not None

    def _entries(self, before: str | None) -> Iterator[dict[str, Any]]:
        """Ended jobs, newest first; with `before` those that began earlier than it."""
        limit = ""
        if before is not None:
            if not self._journal.read("SELECT 1 FROM jobs WHERE id = :id", {"id": before}).fetchone():
                raise _unknown(before)
            limit = "AND rowid < (SELECT rowid FROM jobs WHERE id = :before)"
        rows = self._journal.read(
            f"SELECT {_COLUMNS} FROM jobs WHERE state IN (:finished, :failed) {limit} ORDER BY rowid DESC",  # noqa: S608
            {**_ENDED, "before": before},
        )
        return map(_entry, rows)

    def _found(self, either_id: str) -> Iterator[dict[str, Any]]:
        rows = self._journal.read(
            f"SELECT {_COLUMNS} FROM jobs WHERE state IN (:finished, :failed)"  # noqa: S608
            " AND (id = :id OR correlation_id = :id) ORDER BY id = :id DESC, rowid DESC",
            {**_ENDED, "id": either_id},
        )
        return map(_entry, rows)


def _entry(row: tuple[Any, ...]) -> dict[str, Any]:
    job_id, kind, correlation_id, started, ended, state, code, message, directory, facts = row
    entry = {
        "id": job_id,
        "correlationId": correlation_id,
        "kind": kind,
        "state": state,
        "startTime": started,
        "endTime": ended,
        "statusCode": code,
        "message": message,
    }
    if kind != Kind.VERIFY:  # which works on none
        entry["directory"] = printable(os.fsdecode(directory))
    return entry | {to_camel(key): fact for key, fact in json.loads(facts).items()}


def _unknown(either_id: str) -> Refused:
    return Refused(Reason.NOT_FOUND, f"no job '{either_id[:80]}' in the history")
